//! A tenant tries every RPC that it may call against another customer's ids, handles, keys, invoice
//! numbers and page tokens, and gets the very answers that it gets for what does not exist.

use std::{collections::BTreeSet, fmt::Debug};

use tollgate::{
    identity::{Role, permissions::TABLE},
    ids::AccountId,
    proto::{export_invoice_request::What, *},
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    billing::{close, customer, documents, month, name, net_30, noon, work, world},
    harness::world::{MODEL, top_up},
};

/// All that a refusal tells, with what was asked for replaced by a word.
fn told<T: Debug>(outcome: Result<T, Status>, asked: &str) -> String {
    let status = outcome.map(|answer| panic!("{asked} was answered: {answer:?}")).unwrap_err();
    let details = status.get_error_details();
    let told = format!("{:?} {} {details:?}", status.code(), status.message());
    told.replace(asked, "ASKED")
}

/// Asks for each of what is theirs, and for what nobody has, which must be told alike.
macro_rules! told_alike {
    ($seen:ident, $rpc:literal, $service:expr, $method:ident, $theirs:expr, $made_up:expr,
     $request:expr) => {{
        let unknown = told($service.$method($request($made_up.to_owned())).await, &$made_up);
        for theirs in $theirs {
            let known = told($service.$method($request(theirs.clone())).await, &theirs);
            assert_eq!(known, unknown, "{} tells {theirs} from {}", $rpc, $made_up);
        }
        $seen.insert($rpc);
    }};
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one probe for each RPC that a tenant may call")]
async fn a_tenant_learns_nothing_of_another_account_from_any_rpc_that_it_may_call() {
    let world = world().await;
    let client = &world.client;
    let own = customer(client, "own", net_30()).await;
    let other = customer(client, "other", net_30()).await;
    for account in [&own, &other] {
        for day in [3, 4, 5] {
            work(client, account, noon(month(1), day), 1_000_000, 0).await.unwrap();
        }
        work(client, account, noon(month(2), 3), 1_000_000, 0).await.unwrap();
    }
    top_up(client, "other", "77").await;
    for period in ["DAY", "WEEK"] {
        for account in ["own", "other"] {
            let request = SetBudgetRequest {
                account: account.to_owned(),
                period: BudgetPeriod::from_str_name(&format!("BUDGET_PERIOD_{period}"))
                    .unwrap()
                    .into(),
                enforcement: BudgetEnforcement::Soft.into(),
                limit: crate::harness::world::usd("1000"),
                ..SetBudgetRequest::default()
            };
            client.budgets().set_budget(request).await.unwrap();
        }
    }
    close(client, month(1)).await;
    let their_invoices = documents(client, "other").await;
    let tenant = world.server.tenant(own.account.parse().unwrap()).await;
    let them = world.server.tenant(other.account.parse().unwrap()).await;

    let mut seen = BTreeSet::new();
    // A handle and an id; the made-up ones are of the same form.
    let accounts = || ["other".to_owned()];
    let account_ids = || [other.account.clone()];
    let no_id = AccountId::generate().to_string();
    macro_rules! by_account {
        ($rpc:literal, $service:expr, $method:ident, $request:expr) => {
            told_alike!(seen, $rpc, $service, $method, accounts(), "nobody", $request);
            told_alike!(seen, $rpc, $service, $method, account_ids(), no_id, $request);
        };
    }
    let period = name(month(1));
    by_account!("AccountService/GetAccount", tenant.accounts(), get_account, |account| {
        GetAccountRequest { account }
    });
    by_account!("BudgetService/ListBudgets", tenant.budgets(), list_budgets, |account| {
        ListBudgetsRequest { account, ..Default::default() }
    });
    by_account!("CreditService/GetBalance", tenant.credits(), get_balance, |account| {
        GetBalanceRequest { account }
    });
    by_account!("UsageService/ListUsage", tenant.usage(), list_usage, |account| {
        ListUsageRequest { account, ..Default::default() }
    });
    by_account!("UsageService/SummarizeUsage", tenant.usage(), summarize_usage, |account| {
        SummarizeUsageRequest { account, ..Default::default() }
    });
    by_account!("BillingService/PreviewInvoice", tenant.billing(), preview_invoice, |account| {
        PreviewInvoiceRequest { account, ..Default::default() }
    });
    by_account!("BillingService/ListInvoices", tenant.billing(), list_invoices, |account| {
        ListInvoicesRequest { account, ..Default::default() }
    });
    by_account!("BillingService/GetStatement", tenant.billing(), get_statement, |account| {
        GetStatementRequest { account, ..Default::default() }
    });
    by_account!("BillingService/GetSlaReport", tenant.billing(), get_sla_report, |account| {
        GetSlaReportRequest { account, period: period.clone(), ..Default::default() }
    });
    for format in [ExportFormat::Json, ExportFormat::Register] {
        by_account!("BillingService/ExportInvoice", tenant.billing(), export_invoice, |account| {
            let what = Some(What::Period(period.clone()));
            ExportInvoiceRequest { account, what, format: format.into() }
        });
    }
    by_account!("CatalogService/GetModel", tenant.catalog(), get_model, |account| {
        GetModelRequest { account, name: MODEL.to_owned(), ..Default::default() }
    });
    by_account!("CatalogService/EstimateCost", tenant.catalog(), estimate_cost, |account| {
        EstimateCostRequest { account, model: MODEL.to_owned(), ..Default::default() }
    });
    by_account!("KeyService/ListKeys", tenant.keys(), list_keys, |account| {
        ListKeysRequest { account, ..Default::default() }
    });
    by_account!("KeyService/IssueKey", tenant.keys(), issue_key, |account| {
        IssueKeyRequest {
            account,
            name: "x".to_owned(),
            tier: Tier::Standard.into(),
            ..Default::default()
        }
    });

    // By the ids of keys, and by numbers and ids of invoices.
    let keys = || [other.key_id.clone()];
    told_alike!(seen, "KeyService/UpdateKey", tenant.keys(), update_key, keys(), no_id, |key_id| {
        UpdateKeyRequest { key_id, name: "x".to_owned(), ..Default::default() }
    });
    told_alike!(seen, "KeyService/RotateKey", tenant.keys(), rotate_key, keys(), no_id, |key_id| {
        RotateKeyRequest { key_id, ..Default::default() }
    });
    told_alike!(seen, "KeyService/RevokeKey", tenant.keys(), revoke_key, keys(), no_id, |key_id| {
        RevokeKeyRequest { key_id, ..Default::default() }
    });
    for invoice in &their_invoices {
        let document = |invoice| GetInvoiceRequest { invoice };
        let export = |invoice| ExportInvoiceRequest {
            what: Some(What::Invoice(invoice)),
            format: ExportFormat::Pdf.into(),
            ..Default::default()
        };
        let numbers = [(invoice.number.clone(), "INV-2001-000042".to_owned())];
        let ids = [(invoice.document_id.clone(), no_id.clone())];
        for (theirs, made_up) in numbers.into_iter().chain(ids) {
            let theirs = || [theirs.clone()].into_iter().filter(|name| !name.is_empty());
            let billing = || tenant.billing();
            told_alike!(
                seen,
                "BillingService/GetInvoice",
                billing(),
                get_invoice,
                theirs(),
                made_up,
                document
            );
            told_alike!(
                seen,
                "BillingService/ExportInvoice",
                billing(),
                export_invoice,
                theirs(),
                made_up,
                export
            );
        }
    }

    // What is listed without naming an account, and from after a row of theirs, is its own.
    let is_own = |what: &str, answer: &dyn Debug| {
        let answer = format!("{answer:?}");
        for theirs in [&other.account, &other.key_id] {
            assert!(!answer.contains(theirs.as_str()), "{what} shows {theirs}: {answer}");
        }
    };
    macro_rules! with_their_page {
        ($service:ident, $method:ident, $request:expr) => {
            let page = them.$service().$method($request("other", "")).await.unwrap().into_inner();
            assert!(!page.next_page_token.is_empty(), "{} has one page", stringify!($method));
            is_own("its own list", &tenant.$service().$method($request("own", "")).await.unwrap());
            // A cursor is a place in an order; it may be refused or taken, and shows nothing.
            let taken = tenant.$service().$method($request("own", &page.next_page_token)).await;
            is_own(stringify!($method), &taken);
        };
    }
    let text = |text: &str| text.to_owned();
    with_their_page!(budgets, list_budgets, |account, token| ListBudgetsRequest {
        account: text(account),
        page_size: 1,
        page_token: text(token),
    });
    with_their_page!(usage, list_usage, |account, token| ListUsageRequest {
        account: text(account),
        page_size: 1,
        page_token: text(token),
        ..Default::default()
    });
    with_their_page!(usage, summarize_usage, |_, token| SummarizeUsageRequest {
        group_by: UsageGrouping::Day.into(),
        page_size: 1,
        page_token: text(token),
        ..Default::default()
    });
    with_their_page!(billing, list_invoices, |_, token| ListInvoicesRequest {
        page_size: 1,
        page_token: text(token),
        ..Default::default()
    });
    let by_key = |key_id: &str| ListUsageRequest {
        account: "own".to_owned(),
        key_id: key_id.to_owned(),
        ..Default::default()
    };
    let theirs = tenant.usage().list_usage(by_key(&other.key_id)).await.unwrap().into_inner();
    let nobodys = tenant.usage().list_usage(by_key(&no_id)).await.unwrap().into_inner();
    assert_eq!(theirs, nobodys);

    // The list of models names no account; a price of another's contract is not in it.
    let models = tenant.catalog().list_models(ListModelsRequest::default()).await.unwrap();
    is_own("ListModels", &models);
    seen.insert("CatalogService/ListModels");

    let callable: BTreeSet<&str> = TABLE
        .iter()
        .filter(|(_, roles)| roles.contains(&Role::Tenant))
        .map(|(rpc, _)| rpc.strip_prefix("/tollgate.v1.").unwrap())
        .collect();
    assert_eq!(seen, callable, "an RPC that a tenant may call has no probe here");
}
