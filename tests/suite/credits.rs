//! Money in and out of credits.

use tollgate::{
    ids::{AccountId, CauseId},
    ledger::{
        chart::PaymentMethod,
        credits::{self, Chargeback, ChargebackOrder, ChargebackStage, Refund},
        error::LedgerError,
        store::Funds,
    },
    money::{Amount, Currency},
    problem::{Problem as _, ProblemKind},
};

use crate::harness::books::{Books, Terms, amount, promotional, visa};

async fn refund(books: &Books, order: &Refund) -> Result<(CauseId, Funds), LedgerError> {
    let mut transaction = books.pool.begin().await?;
    let done = credits::refund(&mut transaction, order).await?;
    transaction.commit().await?;
    Ok((done.refund, done.funds))
}

fn refund_of(account: AccountId, credits: &str, reference: &str) -> Refund {
    Refund {
        account,
        amount: amount(credits),
        currency: Currency::USD,
        method: PaymentMethod::Visa,
        external_reference: reference.to_owned(),
        reason: "asked for".to_owned(),
        idempotency_key: String::new(),
    }
}

async fn withdraw(
    books: &Books,
    account: AccountId,
    credits: &str,
) -> Result<(CauseId, Funds), LedgerError> {
    let mut transaction = books.pool.begin().await?;
    let order = promotional(account, credits);
    let done = credits::withdraw_grant(&mut transaction, &order).await?;
    transaction.commit().await?;
    Ok(done)
}

async fn dispute(
    books: &Books,
    account: AccountId,
    payment: CauseId,
    stage: ChargebackStage,
    reference: &str,
) -> Result<Chargeback, LedgerError> {
    let order = ChargebackOrder {
        account,
        payment,
        stage,
        external_reference: reference.to_owned(),
        reason: String::new(),
        idempotency_key: String::new(),
    };
    let mut transaction = books.pool.begin().await?;
    let done = credits::chargeback(&mut transaction, &order).await?;
    transaction.commit().await?;
    Ok(done)
}

fn refusal(error: &LedgerError) -> (ProblemKind, &'static str, String) {
    (error.kind(), error.reason(), error.field().unwrap_or_default())
}

#[tokio::test]
async fn a_payment_becomes_credits_and_the_same_payment_again_changes_nothing() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let first = books.top_up(&visa(account, "25.50", "ch_1")).await.unwrap();
    assert!(!first.duplicate);
    assert_eq!(first.funds.available, amount("25.50"));

    books.record(account, &["5"]).await;
    let again = books.top_up(&visa(account, "25.5", "ch_1")).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.payment, first.payment);
    assert_eq!(again.funds.balances.credits, amount("20.5"));
    assert_eq!(books.transfers_from(account, 1).await, ["1000.VISA→2000 25.5", "2000→4000 5"]);
}

#[tokio::test]
async fn a_payments_reference_with_other_content_is_refused_by_the_field_that_differs() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    let other = books.account("umbrella", Terms::Prepaid).await;
    for (order, field) in [
        (visa(account, "11", "first-of-acme"), "amount"),
        (visa(other, "10", "first-of-acme"), "account"),
    ] {
        let refused = books.top_up(&order).await.unwrap_err();
        let expected = (ProblemKind::AlreadyExists, "RECORDED_DIFFERENTLY", field.to_owned());
        assert_eq!(refusal(&refused), expected);
    }
    // The same reference of another method is another payment.
    let wire =
        credits::TopUp { method: PaymentMethod::Wire, ..visa(account, "11", "first-of-acme") };
    assert!(!books.top_up(&wire).await.unwrap().duplicate);
}

#[tokio::test]
async fn sixteen_simultaneous_reports_of_one_payment_credit_it_once() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let order = visa(account, "40", "ch_raced");
    let mut reports = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (books, order) = (books.clone(), order.clone());
        reports.spawn(async move { books.top_up(&order).await.unwrap() });
    }
    let answers = reports.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert!(answers.iter().all(|answer| answer.payment == answers[0].payment));
    let funds = books.funds(account).await;
    assert_eq!((funds.balances.credits, funds.posting), (amount("40"), 1));
    assert_eq!(books.transfers_from(account, 1).await, ["1000.VISA→2000 40"]);
}

#[tokio::test]
async fn what_cannot_be_credited_is_refused_with_field_and_reason() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let good = visa(account, "10", "ch_1");
    let closed = books.account("gone", Terms::Prepaid).await;
    books.run("UPDATE accounts SET status = 'closed' WHERE handle = 'gone'").await;

    let euros = credits::TopUp { currency: "EUR".parse().unwrap(), ..good.clone() };
    let unnamed = credits::TopUp { external_reference: "  ".to_owned(), ..good.clone() };
    let long = credits::TopUp { external_reference: "x".repeat(201), ..good.clone() };
    let unprintable = credits::TopUp { note: "a\0b".to_owned(), ..good.clone() };
    let nobody = AccountId::generate();
    for (order, reason, field) in [
        (visa(account, "0", "ch_1"), "AMOUNT_NOT_POSITIVE", "amount.amount"),
        (visa(account, "-1", "ch_1"), "AMOUNT_NOT_POSITIVE", "amount.amount"),
        (euros, "CURRENCY_MISMATCH", "amount.currency_code"),
        (unnamed, "INVALID_TEXT", "external_reference"),
        (long, "INVALID_TEXT", "external_reference"),
        (unprintable, "INVALID_TEXT", "note"),
        (visa(closed, "1", "ch_1"), "ACCOUNT_CLOSED", "account"),
        (visa(nobody, "1", "ch_1"), "ACCOUNT_NOT_FOUND", "account"),
    ] {
        let refused = books.top_up(&order).await.unwrap_err();
        assert_eq!((refused.reason(), refused.field().unwrap().as_str()), (reason, field));
    }
    assert_eq!(books.count("SELECT count(*) FROM transfers").await, 0);
    assert_eq!(books.count("SELECT count(*) FROM payments").await, 0);

    // The largest amount fits once.
    books.top_up(&credits::TopUp { amount: Amount::largest(), ..good.clone() }).await.unwrap();
    let refused = books.top_up(&visa(account, "1", "ch_2")).await.unwrap_err();
    assert_eq!(refused.reason(), "BALANCE_TOO_LARGE");
}

#[tokio::test]
async fn a_suspended_account_can_be_topped_up() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    books.run("UPDATE accounts SET status = 'suspended'").await;
    let done = books.top_up(&visa(account, "3", "ch_1")).await.unwrap();
    assert_eq!(done.funds.balances.credits, amount("3"));
}

#[tokio::test]
async fn a_top_up_cures_an_overdraft_first() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    books.record(account, &["16"]).await;
    assert_eq!(books.funds(account).await.balances.overdrawn, amount("6"));
    let done = books.top_up(&visa(account, "10", "ch_2")).await.unwrap();
    assert_eq!(done.funds.balances.overdrawn, Amount::ZERO);
    assert_eq!(done.funds.available, amount("4"));
    assert_eq!(
        books.transfers_from(account, 2).await,
        ["2000→4000 10", "1150→4000 6", "1000.VISA→2000 10", "2000→1150 6"]
    );
}

#[tokio::test]
async fn promotional_credits_burn_first_and_what_is_left_can_be_withdrawn() {
    let books = Books::open().await;
    let account = books.funded("acme", "10").await;
    assert_eq!(books.grant(account, "5").await.available, amount("15"));
    books.record(account, &["2"]).await;

    let refused = withdraw(&books, account, "3.01").await.unwrap_err();
    let expected = (ProblemKind::FailedPrecondition, "NOT_WITHDRAWABLE", "amount".to_owned());
    assert_eq!(refusal(&refused), expected);
    assert!(refused.to_string().contains("3 is withdrawable"), "{refused}");

    let (_, funds) = withdraw(&books, account, "3").await.unwrap();
    assert_eq!(funds.balances.promotional, Amount::ZERO);
    assert_eq!(funds.balances.credits, amount("10"));
    assert_eq!(
        books.transfers_from(account, 2).await,
        ["1910→2010 5", "2010→4000 2", "2010→1910 3"]
    );
}

#[tokio::test]
async fn only_unused_credits_that_no_server_holds_are_refunded() {
    let books = Books::open().await;
    let account = books.funded("acme", "100").await;
    books.grant(account, "5").await;
    books.record(account, &["35"]).await;
    books.lease(account, "20").await;

    let refused = refund(&books, &refund_of(account, "50.000001", "re_1")).await.unwrap_err();
    let expected = (ProblemKind::FailedPrecondition, "NOT_REFUNDABLE", "amount".to_owned());
    assert_eq!(refusal(&refused), expected);
    assert!(refused.to_string().contains("50 is refundable, of 70 credits"), "{refused}");

    let (first, funds) = refund(&books, &refund_of(account, "50", "re_1")).await.unwrap();
    assert_eq!((funds.balances.credits, funds.available), (amount("20"), Amount::ZERO));
    assert_eq!(books.transfers_from(account, 4).await, ["2000→1000.VISA 50"]);

    let (again, _) = refund(&books, &refund_of(account, "50", "re_1")).await.unwrap();
    assert_eq!(again, first);
    let refused = refund(&books, &refund_of(account, "49", "re_1")).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "RECORDED_DIFFERENTLY");
    assert_eq!(books.funds(account).await.balances.credits, amount("20"));
}

#[tokio::test]
async fn what_a_credit_limit_covers_does_not_hold_credits_back() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Invoiced(100)).await;
    books.top_up(&visa(account, "10", "ch_1")).await.unwrap();
    books.lease(account, "100").await;
    let (_, funds) = refund(&books, &refund_of(account, "10", "re_1")).await.unwrap();
    assert_eq!(funds.available, Amount::ZERO);
}

#[tokio::test]
async fn promotional_credits_are_never_refunded() {
    let books = Books::open().await;
    let account = books.funded("acme", "1").await;
    books.grant(account, "5").await;
    let refused = refund(&books, &refund_of(account, "2", "re_1")).await.unwrap_err();
    assert!(refused.to_string().contains("1 is refundable"), "{refused}");
}

#[tokio::test]
async fn a_dispute_takes_what_is_unspent_and_suspends_and_winning_brings_it_back() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let payment = books.top_up(&visa(account, "100", "ch_1")).await.unwrap().payment;
    books.record(account, &["30"]).await;

    let opened = dispute(&books, account, payment, ChargebackStage::Opened, "dp_1").await.unwrap();
    assert_eq!((opened.parts.unspent, opened.parts.spent), (amount("70"), amount("30")));
    assert_eq!(opened.funds.balances.credits, Amount::ZERO);
    let suspended = "SELECT count(*) FROM accounts WHERE status = 'suspended'";
    assert_eq!(books.count(suspended).await, 1);

    // What a server had promised to pay comes after the money is gone.
    books.record(account, &["4"]).await;
    let won = dispute(&books, account, payment, ChargebackStage::Won, "dp_1").await.unwrap();
    assert_eq!(won.id, opened.id);
    assert_eq!(won.funds.balances.credits, amount("66"));
    assert_eq!(
        books.transfers_from(account, 3).await,
        [
            "2000→1000.VISA 70",
            "1250→1000.VISA 30",
            "1150→4000 4",
            "1000.VISA→2000 70",
            "1000.VISA→1250 30",
            "2000→1150 4"
        ]
    );
    assert_eq!(books.count(suspended).await, 1, "a person resumes the account");
}

#[tokio::test]
async fn a_lost_dispute_writes_off_what_was_spent() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let payment = books.top_up(&visa(account, "100", "ch_1")).await.unwrap().payment;
    books.record(account, &["100"]).await;
    dispute(&books, account, payment, ChargebackStage::Opened, "dp_1").await.unwrap();
    dispute(&books, account, payment, ChargebackStage::Lost, "dp_1").await.unwrap();
    assert_eq!(books.transfers_from(account, 3).await, ["1250→1000.VISA 100", "5100→1250 100"]);
    // Nothing had been spent of this one: nothing is left to write off.
    let payment = books.top_up(&visa(account, "8", "ch_2")).await.unwrap().payment;
    dispute(&books, account, payment, ChargebackStage::Opened, "dp_2").await.unwrap();
    dispute(&books, account, payment, ChargebackStage::Lost, "dp_2").await.unwrap();
    let funds = books.funds(account).await;
    assert_eq!(funds.posting, 6);
    assert_eq!(books.transfers_from(account, 6).await, ["2000→1000.VISA 8"]);
}

#[tokio::test]
async fn a_dispute_goes_one_way_and_each_step_counts_once() {
    use ChargebackStage::{Lost, Opened, Won};
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let other = books.account("umbrella", Terms::Prepaid).await;
    let payment = books.top_up(&visa(account, "10", "ch_1")).await.unwrap().payment;
    let step = async |stage, reference| {
        let done = dispute(&books, account, payment, stage, reference).await;
        done.map(|done| done.funds.posting).map_err(|error| error.reason())
    };

    assert_eq!(step(Won, "dp_1").await, Err("DISPUTE_NOT_FOUND"));
    assert_eq!(step(Opened, "dp_1").await, Ok(2));
    assert_eq!(step(Opened, "dp_1").await, Ok(2), "once");
    assert_eq!(step(Opened, "dp_2").await, Err("DISPUTE_OPEN"));
    assert_eq!(step(Won, "dp_1").await, Ok(3));
    assert_eq!(step(Won, "dp_1").await, Ok(3), "once");
    assert_eq!(step(Lost, "dp_1").await, Err("DISPUTE_ENDED"));
    assert_eq!(step(Opened, "dp_2").await, Ok(4), "the bank may dispute a won payment again");
    assert_eq!(step(Lost, "dp_2").await, Ok(4), "nothing was spent");
    assert_eq!(step(Opened, "dp_3").await, Err("DISPUTE_LOST"));
    let foreign = dispute(&books, other, payment, Opened, "dp_4").await.unwrap_err();
    assert_eq!(foreign.reason(), "PAYMENT_NOT_FOUND");
}

#[tokio::test]
async fn a_change_of_funds_is_announced_when_it_commits() {
    let books = Books::open().await;
    let account = books.account("acme", Terms::Prepaid).await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&books.pool).await.unwrap();
    listener.listen("tollgate_changed").await.unwrap();
    books.top_up(&visa(account, "1", "ch_1")).await.unwrap();
    let heard = tokio::time::timeout(std::time::Duration::from_secs(5), listener.recv()).await;
    assert_eq!(heard.unwrap().unwrap().payload(), format!("account:{account}"));
}
