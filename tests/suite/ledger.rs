//! The books: reversals, reports, append-only, and the proof of it all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tollgate::{
    ids::AccountId,
    ledger::{
        chart::Line,
        error::LedgerError,
        report::{TransferFilter, list_transfers, trial_balance},
        reversal::{Reversal, ReversalOrder, reverse_usage},
        seals,
        split::Sources,
        verify::{Verification, Verifier},
    },
    metering::rollups::{self, Bounds},
    money::Amount,
    problem::Problem as _,
};
use uuid::Uuid;

use crate::harness::books::{Books, Terms, amount, seal, visa};

async fn reverse(books: &Books, account: AccountId, event: Uuid) -> Result<Reversal, LedgerError> {
    let order = ReversalOrder {
        account,
        event,
        reason: "the model was down".to_owned(),
        idempotency_key: String::new(),
    };
    let mut transaction = books.pool.begin().await?;
    let done = reverse_usage(&mut transaction, &order).await?;
    transaction.commit().await?;
    Ok(done)
}

async fn verify(books: &Books) -> Verification {
    Verifier::new(books.reports.clone()).verify(None).await.unwrap()
}

/// What is not clean, as "check: finding".
fn findings(verification: &Verification) -> Vec<String> {
    let named = verification.checks.iter().flat_map(|check| {
        check.findings.iter().map(move |finding| format!("{}: {finding}", check.name))
    });
    named.collect()
}

fn everything(account: AccountId) -> TransferFilter {
    TransferFilter {
        account,
        ledger_account: None,
        from: None,
        until: None,
        before: None,
        limit: 100,
    }
}

#[tokio::test]
async fn a_reversal_goes_back_to_the_sources_that_its_event_burned() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Invoiced(100)).await;
    books.top_up(&visa(account, "10", "ch_1")).await.unwrap();
    books.grant(account, "5").await;
    // 4 promotional; 1 promotional and 7 credits; 3 credits and 1 unbilled.
    let events = books.record(account, &["4", "8", "4"]).await;

    for (event, to) in [
        (
            events[1],
            Sources { promotional: amount("1"), credits: amount("7"), ..Sources::default() },
        ),
        (events[2], Sources { credits: amount("3"), unbilled: amount("1"), ..Sources::default() }),
        (events[0], Sources { promotional: amount("4"), ..Sources::default() }),
    ] {
        let done = reverse(&books, account, event).await.unwrap();
        assert_eq!((done.to, done.duplicate), (to, false));
        let again = reverse(&books, account, event).await.unwrap();
        assert_eq!((again.to, again.duplicate), (to, true));
    }
    let funds = books.funds(account).await;
    assert_eq!((funds.balances.promotional, funds.balances.credits), (amount("5"), amount("10")));
    assert_eq!((funds.balances.unbilled, funds.posting), (Amount::ZERO, 6));
    assert_eq!(
        books.transfers_from(account, 4).await,
        ["4000→2010 1", "4000→2000 7", "4000→2000 3", "4000→1100 1", "4000→2010 4"]
    );
    assert_eq!(findings(&verify(&books).await), [""; 0]);
}

#[tokio::test]
async fn credits_that_come_back_cure_an_overdraft_and_what_was_cured_comes_back_as_credits() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    let paid = books.record(account, &["10"]).await[0];
    let overdrawn = books.record(account, &["6"]).await[0];

    reverse(&books, account, paid).await.unwrap();
    let funds = books.funds(account).await;
    assert_eq!((funds.balances.credits, funds.balances.overdrawn), (amount("4"), Amount::ZERO));
    assert_eq!(books.transfers_from(account, 4).await, ["4000→2000 10", "2000→1150 6"]);

    let done = reverse(&books, account, overdrawn).await.unwrap();
    assert_eq!(done.to, Sources { credits: amount("6"), ..Sources::default() });
    assert_eq!(books.funds(account).await.balances.credits, amount("10"));
    assert_eq!(findings(&verify(&books).await), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_reversed_is_refused() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Invoiced(100)).await;
    let other = books.account("umbrella", Terms::Prepaid).await;
    let events = books.record(account, &["0", "3"]).await;
    books.run("UPDATE account_funds SET open_period = '2999-01-01'").await;

    for (account, event, reason) in [
        (account, events[0], "NOTHING_TO_REVERSE"),
        (account, Uuid::now_v7(), "EVENT_NOT_FOUND"),
        (other, events[1], "EVENT_NOT_FOUND"),
        (AccountId::generate(), events[1], "ACCOUNT_NOT_FOUND"),
        (account, events[1], "EVENT_INVOICED"),
    ] {
        let refused = reverse(&books, account, event).await.unwrap_err();
        assert_eq!(refused.reason(), reason);
    }
}

#[tokio::test]
async fn sixteen_simultaneous_reversals_of_one_event_give_back_once() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    let event = books.record(account, &["4"]).await[0];
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let books = books.clone();
        calls.spawn(async move { reverse(&books, account, event).await.unwrap() });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert_eq!(books.funds(account).await.balances.credits, amount("10"));
}

#[tokio::test]
async fn transfers_are_listed_newest_first_page_by_page_and_by_code() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    for _ in 0..3 {
        books.record(account, &["1"]).await;
    }
    books.funded("umbrella", "99").await;

    let all = list_transfers(&books.reports, &everything(account)).await.unwrap();
    let postings: Vec<i64> = all.iter().map(|transfer| transfer.posting).collect();
    assert_eq!(postings, [4, 3, 2, 1]);
    assert_eq!((all[3].debit.as_str(), all[3].kind.as_str()), ("1000.VISA", "top_up"));
    assert!(all[3].cause_id.is_some());

    let second_page = TransferFilter { before: Some((3, 1)), limit: 1, ..everything(account) };
    let page = list_transfers(&books.reports, &second_page).await.unwrap();
    assert_eq!(page.iter().map(|transfer| transfer.posting).collect::<Vec<_>>(), [2]);

    for (code, count) in [("1000", 1), ("1000.VISA", 1), ("1000.WIRE", 0), ("2000", 4), ("4000", 3)]
    {
        let ledger_account = Some(code.parse().unwrap());
        let filter = TransferFilter { ledger_account, ..everything(account) };
        let found = list_transfers(&books.reports, &filter).await.unwrap();
        assert_eq!(found.len(), count, "{code}");
    }
    let since_third = TransferFilter { from: Some(all[1].posted_at), ..everything(account) };
    assert_eq!(list_transfers(&books.reports, &since_third).await.unwrap().len(), 2);
    let before_third = TransferFilter { until: Some(all[1].posted_at), ..everything(account) };
    assert_eq!(list_transfers(&books.reports, &before_third).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_trial_balance_rolls_sub_codes_up_and_its_sides_are_equal() {
    let books = Books::open().await;
    let acme = books.funded("acme", "10").await;
    let wire = tollgate::ledger::credits::TopUp {
        method: tollgate::ledger::chart::PaymentMethod::Wire,
        ..visa(acme, "5", "wire-1")
    };
    books.top_up(&wire).await.unwrap();
    books.record(acme, &["16.5"]).await;
    books.funded("umbrella", "7").await;

    let company = trial_balance(&books.reports, None).await.unwrap();
    let lines: Vec<_> =
        company.lines.iter().map(|line| (line.line, line.balance.to_string())).collect();
    let expected = [
        (Line::Cash, "22"),
        (Line::Overdrawn, "1.5"),
        (Line::Credits, "7"),
        (Line::Revenue, "16.5"),
    ];
    assert_eq!(lines, expected.map(|(line, balance)| (line, balance.to_owned())));
    assert_eq!(company.totals.len(), 1);
    assert_eq!(company.totals[0].debits, company.totals[0].credits);

    let own = trial_balance(&books.reports, Some(acme)).await.unwrap();
    assert_eq!(own.lines[0].balance, amount("15"));
    assert_eq!(own.totals[0].debits, amount("31.5"));
}

#[tokio::test]
async fn the_database_refuses_to_change_what_is_append_only() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    let event = books.record(account, &["1"]).await[0];
    reverse(&books, account, event).await.unwrap();
    let partition: String =
        sqlx::query_scalar("SELECT tableoid::regclass::text FROM usage_events LIMIT 1")
            .fetch_one(&books.pool)
            .await
            .unwrap();
    let tables = ["transfers", "usage_events", &partition, "usage_reversals", "payments"];
    for table in tables {
        for statement in [
            format!("UPDATE {table} SET account_id = gen_random_uuid()"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            let text = sqlx::AssertSqlSafe(statement.clone());
            let refused = sqlx::raw_sql(text).execute(&books.pool).await.unwrap_err();
            let sqlstate = refused.as_database_error().unwrap().code().unwrap();
            assert_eq!(sqlstate, "23001", "{statement}");
        }
    }
}

/// What somebody with a superuser's password may do to the books, and which check finds it.
const TAMPERED: &[(&str, &str, &str)] = &[
    (
        "UPDATE account_funds SET credits = credits + 1 WHERE posting > 0",
        "balances_equal_transfers",
        "credits (2000) is 87, and its transfers sum to 86",
    ),
    (
        "DELETE FROM transfers WHERE posting = 2",
        "postings_without_gaps",
        "postings 2 to 2 are missing",
    ),
    (
        "UPDATE account_funds SET posting = posting + 2 WHERE posting > 0",
        "postings_without_gaps",
        "postings 5 to 6 are missing",
    ),
    (
        "UPDATE account_funds SET posting = posting - 1 WHERE posting > 0",
        "postings_without_gaps",
        "posting 4 is beyond the last, 3",
    ),
    ("DELETE FROM transfers WHERE posting = 1", "causes_equal_transfers", "has no transfer"),
    ("DELETE FROM payments", "causes_equal_transfers", "has no record"),
    (
        "UPDATE transfers SET amount = amount + 1 WHERE kind = 'promotional_grant'",
        "causes_equal_transfers",
        "6 from 1910 to 2010 has no record",
    ),
    (
        "INSERT INTO transfers (account_id, posting, line, debit, credit, amount, currency, kind,
                                period, idempotency_key)
         SELECT account_id, posting + 1, 1, '2000', '5900', 6, currency, 'account_closing',
                open_period, ''
         FROM account_funds WHERE posting > 0;
         UPDATE account_funds SET credits = credits - 6, posting = posting + 1 WHERE posting > 0",
        "causes_equal_transfers",
        "gave up 6, and is active",
    ),
    (
        "UPDATE usage_events SET authorized = 1 WHERE charge = 2",
        "events_keep_their_rules",
        "with 1 of 2 authorized and an overrun of 0",
    ),
    (
        "UPDATE usage_events SET period = '2001-01-01';
         UPDATE transfers SET period = '2001-01-01' WHERE starts_with(kind, 'usage_')",
        "events_keep_their_rules",
        "is billed in 2001-01-01",
    ),
    (
        "UPDATE usage_events SET charge = charge + 1 WHERE charge = 2",
        "events_sum_to_postings",
        "sum to 23, transfers of",
    ),
    (
        "UPDATE usage_events SET input = input + 1 WHERE charge = 2",
        "charges_recompute",
        "has charge 2, and its counts make it 2.000001",
    ),
    (
        "UPDATE usage_events SET period = '2001-01-01' WHERE charge = 2",
        "events_sum_to_postings",
        "events of 2001-01-01 to",
    ),
    ("DELETE FROM usage_events WHERE charge = 2", "events_sum_to_postings", "sum to 20, transfers"),
    (
        "UPDATE transfers SET kind = 'usage_overdrawn', debit = '1150' WHERE kind = 'usage_credits'",
        "sources_burn_in_order",
        "credits 100, overdrawn 17",
    ),
    (
        "UPDATE transfers SET credit = '5100' WHERE kind = 'top_up'",
        "transfers_follow_the_chart",
        "top_up from 1000.VISA to 5100",
    ),
    (
        "UPDATE transfers SET currency = 'EUR' WHERE kind = 'top_up'",
        "one_currency",
        "in EUR, and the account is in USD",
    ),
    (
        "UPDATE account_funds SET leased = 3 WHERE posting > 0",
        "leases_equal_leased",
        "leased is 3, and its leases sum to 0",
    ),
    (
        "WITH budget AS (
             INSERT INTO budgets (account_id, budget_id, scope, period, hard, limit_amount)
             SELECT account_id, gen_random_uuid(), 'account', 'day', true, 1 FROM accounts
             RETURNING account_id, budget_id)
         INSERT INTO budget_periods (account_id, budget_id, period_start, spent)
         SELECT account_id, budget_id, '2026-11-23', 3 FROM budget",
        "budgets_equal_events",
        "spent 3 and leased 0, and its events sum to 0",
    ),
    (
        "UPDATE account_funds SET credit_limit = 5 WHERE posting > 0",
        "funds_follow_contract",
        "limit 5",
    ),
    (
        "UPDATE usage_reversals SET to_credits = to_credits + 1",
        "reversals_equal_charges",
        "was charged 3, and its reversal gave back 4",
    ),
    (
        "UPDATE usage_events SET price_version = 77 WHERE charge = 2",
        "events_refer_to_what_exists",
        "price version 77",
    ),
    ("DELETE FROM api_keys", "events_refer_to_what_exists", "not its own"),
    (
        "SET allow_system_table_mods = on;
         WITH ranges AS (SELECT partition.oid, relpartbound,
                                row_number() OVER (ORDER BY relname) AS month
                         FROM pg_class AS partition
                         JOIN pg_inherits ON inhrelid = partition.oid
                         WHERE inhparent = 'usage_events'::regclass)
         UPDATE pg_class SET relpartbound = other.relpartbound
         FROM ranges JOIN ranges AS other ON other.month = CASE ranges.month WHEN 3 THEN 1 ELSE 3 END
         WHERE pg_class.oid = ranges.oid AND ranges.month IN (1, 3)",
        "events_in_their_partition",
        "which ranges from",
    ),
    (
        "UPDATE usage_rollups SET output = output + 7",
        "rollups_equal_events",
        "output is 7 in the rollup and 0 by the events",
    ),
    (
        "DELETE FROM usage_rollups",
        "rollups_equal_events",
        "requests is missing in the rollup and 3 by the events",
    ),
    (
        "UPDATE usage_rollup_watermark SET recorded_before = recorded_before - interval '1 day'",
        "rollups_equal_events",
        "requests is 3 in the rollup and missing by the events",
    ),
    (
        "ALTER TABLE transfers DISABLE TRIGGER transfers_append_only",
        "append_only_guards",
        "table transfers can be changed: no trigger refuses UPDATE",
    ),
    (
        "DO $$ BEGIN EXECUTE format('DROP TRIGGER usage_events_no_truncate ON %s',
            (SELECT tableoid::regclass FROM usage_events LIMIT 1)); END $$",
        "append_only_guards",
        "no trigger refuses TRUNCATE",
    ),
    (
        "ALTER TABLE billing_documents DISABLE ROW LEVEL SECURITY",
        "tenant_isolation",
        "billing_documents shows a tenant the rows of every account",
    ),
    (
        "CREATE POLICY all_of_them ON usage_events FOR SELECT TO tollgate_tenant USING (true)",
        "tenant_isolation",
        "usage_events: policy all_of_them shows a tenant",
    ),
    (
        "ALTER VIEW invoice_standings RESET (security_invoker)",
        "tenant_isolation",
        "invoice_standings shows a tenant",
    ),
    (
        "ALTER TABLE credit_notes DISABLE ROW LEVEL SECURITY",
        "tenant_isolation",
        "credit_notes shows a tenant",
    ),
    (
        "DROP POLICY own_account ON payments;
         CREATE POLICY own_account ON payments FOR SELECT TO tollgate_tenant
         USING (true OR account_id = tenant_account())",
        "tenant_isolation",
        "payments: policy own_account shows a tenant",
    ),
    (
        "GRANT UPDATE ON budgets TO tollgate_tenant",
        "tenant_isolation",
        "budgets: a tenant's read may UPDATE",
    ),
];

#[tokio::test]
async fn whatever_is_tampered_with_is_found_and_named() {
    for (tampering, check, finding) in TAMPERED {
        let books = Books::open().await;
        let account = books.funded("acme", "100").await;
        books.grant(account, "5").await;
        // 22 in one posting: 5 promotional, 17 credits.
        let events = books.record(account, &["17", "2", "3"]).await;
        reverse(&books, account, events[2]).await.unwrap();
        books.roll_up().await;

        let mut superuser = books.pool.acquire().await.unwrap();
        let disarmed = format!("SET session_replication_role = replica; {tampering}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(disarmed)).execute(&mut *superuser).await.unwrap();
        drop(superuser);

        let verification = verify(&books).await;
        assert!(!verification.is_clean(), "{tampering}");
        let found = verification.checks.iter().find(|found| found.name == *check).unwrap();
        assert!(found.violations > 0, "{tampering}: {:?}", findings(&verification));
        let named = found.findings.iter().any(|one| one.contains(finding));
        assert!(named, "{tampering}: {:?}", found.findings);
    }
}

#[tokio::test]
async fn one_account_is_verified_apart_from_the_others() {
    let books = Books::open().await;
    let acme = books.funded("acme", "100").await;
    let umbrella = books.funded("umbrella", "100").await;
    books
        .run(
            "UPDATE account_funds SET leased = 3 FROM accounts WHERE handle = 'acme'
               AND account_funds.account_id = accounts.account_id",
        )
        .await;
    let verifier = Verifier::new(books.reports.clone());
    assert!(!verifier.verify(Some(acme)).await.unwrap().is_clean());
    assert!(verifier.verify(Some(umbrella)).await.unwrap().is_clean());
    assert!(!verifier.verify(None).await.unwrap().is_clean());
}

/// Checks that need documents; `billing::closing` and `billing::prepayments` see to them.
const OF_DOCUMENTS: [&str; 11] = [
    "closed_periods_clear",
    "document_numbers_without_gaps",
    "documents_equal_transfers",
    "documents_add_up",
    "settlements_equal_transfers",
    "credit_notes_within_invoices",
    "costs_recompute",
    "tax_given_back",
    "tax_documents_equal_2100",
    "documents_recompute",
    "service_level_credits_recompute",
];

#[tokio::test]
async fn books_that_are_being_written_verify_clean_at_any_moment() {
    let books = Books::open().await;
    let mut writers = tokio::task::JoinSet::new();
    // They go on until they have been watched, however slow that is.
    let watched = Arc::new(AtomicBool::new(false));
    for name in ["acme", "umbrella", "tyrell"] {
        let account = books.account(name, Terms::Invoiced(1_000)).await;
        let (books, watched) = (books.clone(), Arc::clone(&watched));
        writers.spawn(async move {
            for round in 0.. {
                if round >= 15 && watched.load(Ordering::Relaxed) {
                    return;
                }
                books.top_up(&visa(account, "3", &format!("{name}-{round}"))).await.unwrap();
                let events = books.record(account, &["1.000001", "0", "4"]).await;
                reverse(&books, account, events[0]).await.unwrap();
            }
        });
    }
    let mut verified = 0;
    while !writers.is_empty() {
        // The daily sums and the seals, too, with the least margin there can be.
        let bounds = Bounds { margin: Duration::ZERO, events: 7 };
        for _ in 0..5 {
            rollups::step(&books.pool, bounds).await.unwrap();
            seals::turn(&books.pool, 7).await.unwrap();
        }
        let verification = verify(&books).await;
        assert_eq!(findings(&verification), [""; 0]);
        verified += 1;
        watched.store(verified > 1, Ordering::Relaxed);
        while writers.try_join_next().map(Result::unwrap).is_some() {}
    }
    books
        .run(
            "WITH budget AS (
                 INSERT INTO budgets (account_id, budget_id, scope, period, hard, limit_amount)
                 SELECT account_id, gen_random_uuid(), 'account', 'day', true, 1 FROM accounts
                 RETURNING account_id, budget_id)
             INSERT INTO budget_periods (account_id, budget_id, period_start)
             SELECT account_id, budget_id, '2026-11-23' FROM budget",
        )
        .await;
    seal(&books.pool).await;
    let verification = verify(&books).await;
    assert_eq!(findings(&verification), [""; 0]);
    let idle = verification.checks.iter().filter(|check| check.examined == 0);
    let idle: Vec<_> = idle.filter(|check| !OF_DOCUMENTS.contains(&check.name)).collect();
    assert!(idle.is_empty(), "{idle:?}");
}
