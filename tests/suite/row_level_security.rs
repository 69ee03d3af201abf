//! What a tenant reads, it reads as a role that the database shows one account's rows.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tollgate::{
    database::reports::Reports,
    identity::{Role, permissions::TABLE},
    ids::AccountId,
    metering::report::{Span, UsageQuery, UsageReports},
    proto::{export_invoice_request::What, *},
};
use tonic::Code;

use crate::{
    billing::{Customer, close, customer, documents, month, name, net_30, noon, work, world},
    harness::world::{World, top_up, usd},
};

/// What belongs to no account, or is everybody's: the tenants' role sees it without one.
const SHARED: [&str; 8] = [
    "billing_runs",
    "ledger_accounts",
    "models",
    "price_tiers",
    "price_versions",
    "seller_versions",
    "tax_rates",
    "usage_rollup_watermark",
];
const ROLE: &str = "tollgate_tenant";

/// Two customers, each with something of everything that a customer's tools can look at.
async fn two_customers() -> (World, Customer, Customer) {
    let world = world().await;
    let client = &world.client;
    let own = customer(client, "own", net_30()).await;
    let other = customer(client, "other", net_30()).await;
    for (account, handle) in [(&own, "own"), (&other, "other")] {
        work(client, account, noon(month(1), 3), 1_000_000, 0).await.unwrap();
        top_up(client, handle, "77").await;
        let budget = SetBudgetRequest {
            account: handle.to_owned(),
            period: BudgetPeriod::Month.into(),
            enforcement: BudgetEnforcement::Soft.into(),
            limit: usd("1000"),
            ..SetBudgetRequest::default()
        };
        client.budgets().set_budget(budget).await.unwrap();
    }
    close(client, month(1)).await;
    for account in [&own, &other] {
        work(client, account, noon(month(0), 1), 1_000_000, 0).await.unwrap();
    }
    (world, own, other)
}

async fn number(connection: &mut PgConnection, sql: String) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

/// Every table, view and partition that the role may read anything of, and whether it says whose a row
/// is.
async fn readable(pool: &PgPool) -> Vec<(String, bool)> {
    sqlx::query_as(
        "SELECT relname::text,
                EXISTS (SELECT FROM pg_attribute
                        WHERE attrelid = pg_class.oid AND attname = 'account_id' AND NOT attisdropped)
         FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
           AND has_any_column_privilege($1, oid, 'SELECT')
         ORDER BY relname",
    )
    .bind(ROLE)
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_tenants_role_sees_the_rows_of_one_account_and_changes_none() {
    let (world, own, other) = two_customers().await;
    let pool = world.server.pool();
    let options = world.server.database.clone().options([("role", ROLE)]);
    let mut tenant = options.connect().await.unwrap();
    let tables = readable(&pool).await;
    assert!(tables.len() > 25, "{tables:?}");

    let mut without_account = BTreeSet::new();
    for (table, _) in &tables {
        if number(&mut tenant, format!("SELECT count(*) FROM {table}")).await > 0 {
            without_account.insert(table.as_str());
        }
    }
    let shared: BTreeSet<&str> = SHARED.into_iter().collect();
    let unexpected: Vec<_> = without_account.difference(&shared).collect();
    assert!(unexpected.is_empty(), "seen without an account: {unexpected:?}");

    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    for (own, other) in [(&own, &other), (&other, &own)] {
        let set = format!("SET tollgate.account_id = '{}'", own.account);
        sqlx::query(AssertSqlSafe(set)).execute(&mut tenant).await.unwrap();
        for (table, says_whose) in &tables {
            let all = number(&mut tenant, format!("SELECT count(*) FROM {table}")).await;
            *seen.entry(table).or_default() += all;
            if !says_whose {
                continue;
            }
            let strange = format!(
                "SELECT count(*) FROM {table} WHERE account_id <> '{}' OR account_id = '{}'",
                own.account, other.account
            );
            assert_eq!(number(&mut tenant, strange).await, 0, "{table} shows another's rows");
        }
    }
    for table in [
        "account_funds",
        "accounts",
        "api_keys",
        "billing_documents",
        "budget_periods",
        "budgets",
        "closed_periods",
        "invoice_standings",
        "payments",
        "transfers",
        "usage_events",
    ] {
        // Each of the two sees its own; together they see all, but for what their usage cost us.
        let what = if table == "transfers" { "WHERE kind <> 'provider_cost'" } else { "" };
        let mut owner = pool.acquire().await.unwrap();
        let all = number(&mut owner, format!("SELECT count(*) FROM {table} {what}")).await;
        assert_eq!(seen.get(table).copied().unwrap_or_default(), all, "{table}");
    }
    tenant.close().await.unwrap();
}

#[tokio::test]
async fn the_tenants_role_has_no_right_but_to_read() {
    let world = World::start().await;
    let pool = world.server.pool();
    let writable: Vec<String> = sqlx::query_scalar(
        "SELECT oid::regclass::text || ' ' || privilege
         FROM pg_class
         CROSS JOIN unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
           AND has_table_privilege($1, oid, privilege)",
    )
    .bind(ROLE)
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(writable.is_empty(), "{writable:?}");
    // What runs as its owner would be a way around all of it.
    let functions: Vec<String> = sqlx::query_scalar(
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosecdef
           AND has_function_privilege($1, oid, 'EXECUTE')",
    )
    .bind(ROLE)
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(functions.is_empty(), "{functions:?}");
    // A partition that is named directly has none of its parent's policies.
    let partitions: Vec<(String, bool)> = readable(&pool).await;
    assert!(partitions.iter().all(|(table, _)| !table.contains("_20")), "{partitions:?}");
    let costs: bool = sqlx::query_scalar(
        "SELECT has_column_privilege($1, 'price_versions', 'cost_input', 'SELECT')",
    )
    .bind(ROLE)
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(!costs, "tenants' statements can read what we pay");
}

#[tokio::test]
async fn a_statement_that_is_told_the_wrong_account_finds_nothing() {
    let (world, own, other) = two_customers().await;
    let reports = Reports::open(&world.server.database);
    let (own, other): (AccountId, AccountId) =
        (own.account.parse().unwrap(), other.account.parse().unwrap());
    let query = UsageQuery {
        account: own,
        key_id: None,
        model_id: None,
        span: Span::new(None, None).unwrap(),
    };
    for (through, expected) in [(reports.all(), 2), (reports.of(own), 2), (reports.of(other), 0)] {
        let found = UsageReports::new(through).list(&query, None, 10).await.unwrap();
        assert_eq!(found.len(), expected);
    }
    reports.close().await;
}

#[tokio::test]
async fn no_read_of_a_tenant_goes_around_the_role() {
    let (world, own, _) = two_customers().await;
    let tenant = world.server.tenant(own.account.parse().unwrap()).await;
    let invoice = documents(&world.client, "own").await.remove(0);
    let account = || "own".to_owned();
    let period = || name(month(1));
    // All that a tenant reads, and that is not answered from memory for everybody alike.
    macro_rules! reads {
        ($($rpc:literal => $service:ident . $method:ident ( $request:expr )),+ $(,)?) => {{
            let mut outcomes: BTreeMap<&str, Option<Code>> = BTreeMap::new();
            $(
                let outcome = tenant.$service().$method($request).await;
                outcomes.insert($rpc, outcome.err().map(|status| status.code()));
            )+
            outcomes
        }};
    }
    macro_rules! all_reads {
        () => {
            reads! {
                "AccountService/GetAccount" =>
                    accounts.get_account(GetAccountRequest { account: account() }),
                "BudgetService/ListBudgets" =>
                    budgets.list_budgets(ListBudgetsRequest { account: account(), ..Default::default() }),
                "CreditService/GetBalance" =>
                    credits.get_balance(GetBalanceRequest { account: account() }),
                "UsageService/ListUsage" =>
                    usage.list_usage(ListUsageRequest { account: account(), ..Default::default() }),
                "UsageService/SummarizeUsage" =>
                    usage.summarize_usage(SummarizeUsageRequest::default()),
                "BillingService/PreviewInvoice" =>
                    billing.preview_invoice(PreviewInvoiceRequest { account: account(), ..Default::default() }),
                "BillingService/ListInvoices" =>
                    billing.list_invoices(ListInvoicesRequest::default()),
                "BillingService/GetInvoice" =>
                    billing.get_invoice(GetInvoiceRequest { invoice: invoice.number.clone() }),
                "BillingService/ExportInvoice" =>
                    billing.export_invoice(ExportInvoiceRequest {
                        account: String::new(),
                        what: Some(What::Invoice(invoice.number.clone())),
                        format: ExportFormat::Json.into(),
                    }),
                "BillingService/GetStatement" =>
                    billing.get_statement(GetStatementRequest { account: account(), ..Default::default() }),
                "BillingService/GetSlaReport" =>
                    billing.get_sla_report(GetSlaReportRequest {
                        account: account(),
                        period: period(),
                        ..Default::default()
                    }),
                "KeyService/ListKeys" =>
                    keys.list_keys(ListKeysRequest { account: account(), ..Default::default() }),
            }
        };
    }
    let answered = all_reads!();
    assert!(answered.values().all(Option::is_none), "{answered:?}");
    let known: BTreeSet<&str> = answered.keys().copied().collect();
    let reading: BTreeSet<&str> = TABLE
        .iter()
        .filter(|(_, roles)| roles.contains(&Role::Tenant))
        .map(|(rpc, _)| rpc.strip_prefix("/tollgate.v1.").unwrap())
        .filter(|rpc| {
            let (service, method) = rpc.split_once('/').unwrap();
            let is_read = ["Get", "List", "Preview", "Summarize", "Export", "Estimate"]
                .iter()
                .any(|verb| method.starts_with(verb));
            is_read && service != "CatalogService"
        })
        .collect();
    assert_eq!(known, reading, "a read of tenants has no probe here");

    // Without the role's rights, none of them may still be answered.
    let pool = world.server.pool();
    let revoke = format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLE}");
    sqlx::query(AssertSqlSafe(revoke)).execute(&pool).await.unwrap();
    // A right to columns is revoked with that to the table.
    assert!(readable(&pool).await.is_empty());
    for (rpc, code) in all_reads!() {
        assert!(matches!(code, Some(Code::Internal | Code::Unavailable)), "{rpc}: {code:?}");
    }
    // Staff read on.
    let request = GetBalanceRequest { account: account() };
    world.client.credits().get_balance(request).await.unwrap();
}
