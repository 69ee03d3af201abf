//! Credits and the books as their callers see them, over gRPC.

use tollgate::{
    cli::client::Client,
    identity::Role,
    proto::{
        ChargebackStage, Contract, CreateAccountRequest, GetBalanceRequest, GetTrialBalanceRequest,
        GrantCreditRequest, ListTransfersRequest, Money, PaymentMethod, PaymentTerms,
        RecordChargebackRequest, RefundRequest, TopUpRequest, VerifyLedgerRequest,
        WithdrawGrantRequest,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::server::TestServer;

fn usd(amount: &str) -> Money {
    Money { currency_code: "USD".to_owned(), amount: amount.to_owned() }
}

fn shown(money: Option<&Money>) -> &str {
    money.map_or("", |money| &money.amount)
}

async fn create(client: &Client, handle: &str) -> String {
    let request = CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: handle.to_owned(),
        ..CreateAccountRequest::default()
    };
    let created = client.accounts().create_account(request).await.unwrap().into_inner();
    created.account.unwrap().account_id
}

fn visa(amount: &str, reference: &str) -> TopUpRequest {
    TopUpRequest {
        account: "acme".to_owned(),
        amount: Some(usd(amount)),
        method: PaymentMethod::Visa.into(),
        external_reference: reference.to_owned(),
        note: String::new(),
        idempotency_key: String::new(),
    }
}

/// Code, reason and field of a refusal.
fn refusal(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let field = details
        .bad_request()
        .and_then(|bad| bad.field_violations.first())
        .map(|violation| violation.field.clone())
        .unwrap_or_default();
    (status.code(), reason, field)
}

#[tokio::test]
async fn money_comes_in_goes_out_and_the_books_say_so() {
    let server = TestServer::start().await;
    let client = server.with_roles(&[Role::Operator, Role::Finance]).await;
    create(&client, "acme").await;

    let paid = client.credits().top_up(visa("100", "ch_1")).await.unwrap().into_inner();
    assert_eq!(shown(paid.balance.unwrap().available.as_ref()), "100");
    let grant = GrantCreditRequest {
        account: "acme".to_owned(),
        amount: Some(usd("20")),
        reason: "welcome".to_owned(),
        idempotency_key: "grant-1".to_owned(),
    };
    for _ in 0..2 {
        let granted = client.credits().grant_credit(grant.clone()).await.unwrap().into_inner();
        assert_eq!(shown(granted.balance.unwrap().promotional.as_ref()), "20", "given once");
    }
    let withdrawal = WithdrawGrantRequest {
        account: "acme".to_owned(),
        amount: Some(usd("5")),
        ..WithdrawGrantRequest::default()
    };
    client.credits().withdraw_grant(withdrawal).await.unwrap();
    let refund = RefundRequest {
        account: "acme".to_owned(),
        amount: Some(usd("30")),
        method: PaymentMethod::Visa.into(),
        external_reference: "re_1".to_owned(),
        reason: "asked for".to_owned(),
        idempotency_key: String::new(),
    };
    client.credits().refund(refund).await.unwrap();
    let dispute = RecordChargebackRequest {
        account: "acme".to_owned(),
        payment_id: paid.payment_id,
        stage: ChargebackStage::Opened.into(),
        external_reference: "dp_1".to_owned(),
        ..RecordChargebackRequest::default()
    };
    let disputed = client.credits().record_chargeback(dispute).await.unwrap().into_inner();
    let parts = (shown(disputed.unspent.as_ref()), shown(disputed.spent.as_ref()));
    assert_eq!(parts, ("70", "30"));

    let whose = GetBalanceRequest { account: "acme".to_owned() };
    let balance = client.credits().get_balance(whose).await.unwrap().into_inner().balance.unwrap();
    assert_eq!(shown(balance.credits.as_ref()), "0");
    assert_eq!((shown(balance.available.as_ref()), balance.handle.as_str()), ("15", "acme"));

    let company = GetTrialBalanceRequest::default();
    let trial = client.ledger().get_trial_balance(company).await.unwrap().into_inner();
    let lines: Vec<_> = trial
        .lines
        .iter()
        .map(|line| (line.code.as_str(), line.kind.as_str(), shown(line.balance.as_ref())))
        .collect();
    assert_eq!(
        lines,
        [
            ("1000", "asset", "-30"),
            ("1250", "asset", "30"),
            ("1910", "contra-liability", "15"),
            ("2000", "liability", "0"),
            ("2010", "liability", "15"),
        ]
    );
    assert_eq!(trial.totals.len(), 1);
    assert_eq!(trial.totals[0].debits, trial.totals[0].credits);

    // An account whose contract reaches into its funds.
    let contract = Contract {
        payment_terms: PaymentTerms::Net30.into(),
        credit_limit: Some(usd("500")),
        tax_rate_percent: "19.25".to_owned(),
        ..Contract::default()
    };
    let request = CreateAccountRequest {
        handle: "umbrella".to_owned(),
        display_name: "Umbrella".to_owned(),
        contract: Some(contract),
        ..CreateAccountRequest::default()
    };
    client.accounts().create_account(request).await.unwrap();

    let all = VerifyLedgerRequest::default();
    let verified = client.ledger().verify_ledger(all).await.unwrap().into_inner();
    assert!(verified.clean, "{verified:?}");
    assert!(verified.checks.len() > 10);
}

#[tokio::test]
async fn transfers_are_paged_to_the_last_and_a_page_token_is_good_for_its_list_alone() {
    let server = TestServer::start().await;
    let client = server.with_roles(&[Role::Operator, Role::Finance]).await;
    create(&client, "acme").await;
    for number in 1..=5 {
        client.credits().top_up(visa("1", &format!("ch_{number}"))).await.unwrap();
    }
    let mut request = ListTransfersRequest {
        account: "acme".to_owned(),
        ledger_account: "1000".to_owned(),
        page_size: 2,
        ..ListTransfersRequest::default()
    };
    let mut postings = Vec::new();
    loop {
        let page = client.ledger().list_transfers(request.clone()).await.unwrap().into_inner();
        postings.extend(page.transfers.iter().map(|transfer| transfer.posting));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(postings, [5, 4, 3, 2, 1]);

    let made_up = ListTransfersRequest { page_token: "x".to_owned(), ..request.clone() };
    let refused = client.ledger().list_transfers(made_up).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "INVALID_PAGE_TOKEN");
    let unknown = ListTransfersRequest { ledger_account: "1000.BARTER".to_owned(), ..request };
    let refused = client.ledger().list_transfers(unknown).await.unwrap_err();
    let expected =
        (Code::InvalidArgument, "UNKNOWN_LEDGER_ACCOUNT".to_owned(), "ledger_account".to_owned());
    assert_eq!(refusal(&refused), expected);
}

#[tokio::test]
async fn a_bad_top_up_is_told_its_field_and_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let client = server.operator().await;
    create(&client, "acme").await;
    let good = visa("10", "ch_1");
    let cases = [
        (TopUpRequest { account: "nobody".to_owned(), ..good.clone() }, Code::NotFound, "account"),
        (TopUpRequest { account: String::new(), ..good.clone() }, Code::InvalidArgument, "account"),
        (TopUpRequest { amount: None, ..good.clone() }, Code::InvalidArgument, "amount"),
        (visa("ten", "ch_1"), Code::InvalidArgument, "amount.amount"),
        (visa("0.0000000000001", "ch_1"), Code::InvalidArgument, "amount.amount"),
        (visa("-1", "ch_1"), Code::InvalidArgument, "amount.amount"),
        (
            TopUpRequest {
                amount: Some(Money { currency_code: "EUR".to_owned(), amount: "1".to_owned() }),
                ..good.clone()
            },
            Code::InvalidArgument,
            "amount.currency_code",
        ),
        (TopUpRequest { method: 0, ..good.clone() }, Code::InvalidArgument, "method"),
        (TopUpRequest { method: 99, ..good.clone() }, Code::InvalidArgument, "method"),
        (visa("10", ""), Code::InvalidArgument, "external_reference"),
    ];
    for (request, code, field) in cases {
        let keyed = TopUpRequest { idempotency_key: "the same key".to_owned(), ..request };
        let refused = client.credits().top_up(keyed.clone()).await.unwrap_err();
        let (is, _, named) = refusal(&refused);
        assert_eq!((is, named.as_str()), (code, field), "{keyed:?}: {refused}");
    }
    // A refusal gives its idempotency key back.
    let keyed = TopUpRequest { idempotency_key: "the same key".to_owned(), ..good };
    let paid = client.credits().top_up(keyed.clone()).await.unwrap().into_inner();
    assert_eq!(shown(paid.balance.unwrap().credits.as_ref()), "10");

    let other = TopUpRequest { amount: Some(usd("11")), ..keyed };
    let refused = client.credits().top_up(other.clone()).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "IDEMPOTENCY_KEY_REUSED");
    let other = TopUpRequest { idempotency_key: String::new(), ..other };
    let refused = client.credits().top_up(other).await.unwrap_err();
    let expected = (Code::AlreadyExists, "RECORDED_DIFFERENTLY".to_owned(), "amount".to_owned());
    assert_eq!(refusal(&refused), expected);
}

#[tokio::test]
async fn a_tenant_sees_its_own_balance_and_nobody_elses() {
    let server = TestServer::start().await;
    let operator = server.operator().await;
    let acme = create(&operator, "acme").await;
    create(&operator, "umbrella").await;
    let tenant = server.tenant(acme.parse().unwrap()).await;

    let balance = async |account: &str| {
        let request = GetBalanceRequest { account: account.to_owned() };
        tenant.credits().get_balance(request).await
    };
    assert!(balance("acme").await.is_ok());
    assert!(balance(&acme).await.is_ok());
    let foreign = balance("umbrella").await.unwrap_err();
    let missing = balance("nobody").await.unwrap_err();
    assert_eq!(refusal(&foreign), refusal(&missing));
    assert_eq!(foreign.message(), missing.message());
    let refused = tenant.credits().top_up(visa("1", "ch_1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
