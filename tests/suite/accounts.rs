//! Accounts and their contracts, over gRPC.

use tollgate::{
    cli::client::Authorized,
    proto::{
        self, Account, Address, CloseAccountRequest, Contract, CreateAccountRequest,
        GetAccountRequest, ListAccountsRequest, ModelDiscount, Money, PaymentTerms,
        ResumeAccountRequest, SuspendAccountRequest, TaxTreatment, UpdateAccountRequest,
        account_service_client::AccountServiceClient,
    },
};
use tonic::{Code, Status};

use crate::harness::server::{TestServer, refusal};

pub(crate) type Accounts = AccountServiceClient<Authorized>;

pub(crate) fn usd(amount: &str) -> Money {
    Money { currency_code: "USD".to_owned(), amount: amount.to_owned() }
}

/// A Net-30 contract with every field set.
pub(crate) fn enterprise() -> Contract {
    Contract {
        legal_name: "Umbrella Köln GmbH & Co. KG".to_owned(),
        address: Some(Address {
            line_1: "Domkloster 4".to_owned(),
            line_2: "Hinterhaus".to_owned(),
            city: "Köln".to_owned(),
            postal_code: "50667".to_owned(),
            subdivision: "NW".to_owned(),
            country_code: "DE".to_owned(),
        }),
        registration_id: "HRA 12345".to_owned(),
        tax_id: "DE123456789".to_owned(),
        tax_treatment: TaxTreatment::Standard.into(),
        tax_rate_percent: "19".to_owned(),
        purchase_order: "PO-77".to_owned(),
        cost_centre: "CC-4711".to_owned(),
        accounts_payable_email: "ap@umbrella.example".to_owned(),
        payment_terms: PaymentTerms::Net30.into(),
        credit_limit: Some(usd("5000")),
        discount_percent: "7.5".to_owned(),
        model_discounts: vec![
            ModelDiscount { model: "Pro/*".to_owned(), percent: "20".to_owned() },
            ModelDiscount { model: "gpt-4o".to_owned(), percent: "0".to_owned() },
        ],
        dpa_reference: "DPA 2026-17".to_owned(),
        dpa_signed_on: "2026-02-28".to_owned(),
        details_retention_days: 90,
    }
}

pub(crate) fn new_account(handle: &str, contract: Option<Contract>) -> CreateAccountRequest {
    CreateAccountRequest { handle: handle.to_owned(), contract, ..Default::default() }
}

pub(crate) async fn create(
    accounts: &mut Accounts,
    request: CreateAccountRequest,
) -> Result<Account, Status> {
    Ok(accounts.create_account(request).await?.into_inner().account.unwrap())
}

async fn get(accounts: &mut Accounts, name: &str) -> Result<Account, Status> {
    let request = GetAccountRequest { account: name.to_owned() };
    Ok(accounts.get_account(request).await?.into_inner().account.unwrap())
}

pub(crate) async fn close(accounts: &mut Accounts, name: &str) -> Result<Account, Status> {
    let request = CloseAccountRequest {
        account: name.to_owned(),
        reason: "moved on".to_owned(),
        ..Default::default()
    };
    Ok(accounts.close_account(request).await?.into_inner().account.unwrap())
}

/// Net-30, limit, tax rate and availability as the account's funds have them.
pub(crate) async fn funds(server: &TestServer, handle: &str) -> (bool, String, String, String) {
    sqlx::query_as(
        "SELECT net_30, trim_scale(f.credit_limit)::text, trim_scale(tax_rate)::text,
                trim_scale(available)::text
           FROM account_funds f JOIN accounts a USING (account_id)
          WHERE handle = $1",
    )
    .bind(handle)
    .fetch_one(&server.pool())
    .await
    .unwrap()
}

fn expected_funds(net_30: bool, rest: [&str; 3]) -> (bool, String, String, String) {
    let [limit, tax, available] = rest.map(str::to_owned);
    (net_30, limit, tax, available)
}

#[tokio::test]
async fn an_account_keeps_its_whole_contract_and_has_funds_of_it() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let created = create(&mut accounts, new_account("umbrella", Some(enterprise()))).await.unwrap();
    assert_eq!(created.contract, Some(enterprise()));
    assert_eq!(created.status(), proto::AccountStatus::Active);
    assert_eq!((created.version, created.currency_code.as_str()), (1, "USD"));
    assert_eq!(created.display_name, "umbrella");
    for name in ["umbrella", &created.account_id] {
        assert_eq!(get(&mut accounts, name).await.unwrap(), created);
    }
    let expected = expected_funds(true, ["5000", "0.19", "4201.680672268907"]);
    assert_eq!(funds(&server, "umbrella").await, expected);
    server.drain().await.unwrap();
}

#[tokio::test]
async fn an_account_without_a_contract_is_prepaid_in_dollars() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let created = create(&mut accounts, new_account("startup", None)).await.unwrap();
    let contract = created.contract.unwrap();
    assert_eq!(contract.payment_terms(), PaymentTerms::Prepaid);
    assert_eq!(contract.credit_limit, Some(usd("0")));
    assert_eq!(funds(&server, "startup").await, expected_funds(false, ["0", "0", "0"]));
}

/// One change to a good request, and the reason and the field that it is refused with.
type BadCreate = (fn(&mut CreateAccountRequest), &'static str, &'static str);

const BAD_CREATES: &[BadCreate] = &[
    (|r| r.handle.clear(), "INVALID_HANDLE", "handle"),
    (|r| "Acme".clone_into(&mut r.handle), "INVALID_HANDLE", "handle"),
    (|r| r.handle = "a".repeat(41), "INVALID_HANDLE", "handle"),
    (|r| r.display_name = "x".repeat(201), "TOO_LONG", "display_name"),
    (|r| "two\nlines".clone_into(&mut r.display_name), "CONTROL_CHARACTER", "display_name"),
    (|r| "nul\0".clone_into(&mut r.display_name), "CONTROL_CHARACTER", "display_name"),
    (|r| " x".clone_into(&mut r.display_name), "SURROUNDING_SPACE", "display_name"),
    (|r| "usd".clone_into(&mut r.currency_code), "INVALID_CURRENCY", "currency_code"),
    (|r| r.idempotency_key = "k".repeat(129), "INVALID_IDEMPOTENCY_KEY", "idempotency_key"),
];

/// The same for the contract.
type BadContract = (fn(&mut Contract), &'static str, &'static str);

const BAD_CONTRACTS: &[BadContract] = &[
    (|c| c.legal_name = "x".repeat(201), "TOO_LONG", "contract.legal_name"),
    (|c| "a\tb".clone_into(&mut c.legal_name), "CONTROL_CHARACTER", "contract.legal_name"),
    (|c| c.tax_id = "9".repeat(65), "TOO_LONG", "contract.tax_id"),
    (
        |c| "UK".clone_into(&mut c.address.get_or_insert_default().country_code),
        "INVALID_COUNTRY",
        "contract.address.country_code",
    ),
    (
        |c| c.address.get_or_insert_default().postal_code = "1".repeat(21),
        "TOO_LONG",
        "contract.address.postal_code",
    ),
    (|c| c.tax_treatment = 99, "UNKNOWN_CHOICE", "contract.tax_treatment"),
    (
        |c| c.tax_treatment = TaxTreatment::ReverseCharge.into(),
        "TAX_RATE_NOT_ALLOWED",
        "contract.tax_rate_percent",
    ),
    (
        |c| "100.0001".clone_into(&mut c.tax_rate_percent),
        "INVALID_PERCENT",
        "contract.tax_rate_percent",
    ),
    (|c| "-1".clone_into(&mut c.discount_percent), "INVALID_PERCENT", "contract.discount_percent"),
    (
        |c| "ap@umbrella".clone_into(&mut c.accounts_payable_email),
        "INVALID_EMAIL",
        "contract.accounts_payable_email",
    ),
    (|c| c.payment_terms = 99, "UNKNOWN_CHOICE", "contract.payment_terms"),
    (
        |c| c.payment_terms = PaymentTerms::Prepaid.into(),
        "CREDIT_LIMIT_NOT_ALLOWED",
        "contract.credit_limit",
    ),
    (|c| c.credit_limit = Some(usd("-1")), "NEGATIVE_AMOUNT", "contract.credit_limit.amount"),
    (|c| c.credit_limit = Some(usd("1e3")), "INVALID_AMOUNT", "contract.credit_limit.amount"),
    (
        |c| c.credit_limit = Some(usd("0.0000000000001")),
        "INVALID_AMOUNT",
        "contract.credit_limit.amount",
    ),
    (
        |c| "EUR".clone_into(&mut c.credit_limit.get_or_insert_default().currency_code),
        "CURRENCY_MISMATCH",
        "contract.credit_limit.currency_code",
    ),
    (
        |c| "a*b".clone_into(&mut c.model_discounts[1].model),
        "INVALID_PATTERN",
        "contract.model_discounts[1].model",
    ),
    (|c| c.model_discounts[1].percent.clear(), "MISSING", "contract.model_discounts[1].percent"),
    (
        |c| c.model_discounts = vec![c.model_discounts[0].clone(); 101],
        "TOO_MANY",
        "contract.model_discounts",
    ),
    (|c| "2026-2-3".clone_into(&mut c.dpa_signed_on), "INVALID_DATE", "contract.dpa_signed_on"),
    (|c| "9999-01-01".clone_into(&mut c.dpa_signed_on), "DATE_TO_COME", "contract.dpa_signed_on"),
    (|c| c.dpa_signed_on.clear(), "MISSING", "contract.dpa_signed_on"),
    (|c| c.dpa_reference.clear(), "MISSING", "contract.dpa_reference"),
    (|c| c.details_retention_days = 3_651, "OUT_OF_RANGE", "contract.details_retention_days"),
];

#[tokio::test]
async fn a_bad_field_of_an_account_is_named_and_nothing_is_made() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let existing = create(&mut accounts, new_account("existing", None)).await.unwrap();
    let expected =
        |reason: &str, field: &str| (Code::InvalidArgument, reason.to_owned(), field.to_owned());
    for (spoil, reason, field) in BAD_CREATES {
        let mut request = new_account("acme", Some(enterprise()));
        spoil(&mut request);
        let status = create(&mut accounts, request).await.unwrap_err();
        assert_eq!(refusal(&status), expected(reason, field), "{}", status.message());
    }
    for (spoil, reason, field) in BAD_CONTRACTS {
        let mut contract = enterprise();
        spoil(&mut contract);
        let request = new_account("acme", Some(contract.clone()));
        let status = create(&mut accounts, request).await.unwrap_err();
        assert_eq!(refusal(&status), expected(reason, field), "{}", status.message());
        let request = UpdateAccountRequest {
            account: "existing".to_owned(),
            contract: Some(contract),
            version: 1,
            ..Default::default()
        };
        let status = accounts.update_account(request).await.unwrap_err();
        assert_eq!(refusal(&status), expected(reason, field), "{}", status.message());
    }
    assert_eq!(get(&mut accounts, "existing").await.unwrap(), existing);
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts")
        .fetch_one(&server.pool())
        .await
        .unwrap();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_handle_is_taken_once() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    create(&mut accounts, new_account("acme", None)).await.unwrap();
    let status = create(&mut accounts, new_account("acme", None)).await.unwrap_err();
    let expected = (Code::AlreadyExists, "HANDLE_TAKEN".to_owned(), "handle".to_owned());
    assert_eq!(refusal(&status), expected);
}

#[tokio::test]
async fn an_account_that_is_not_there_is_not_found_by_any_name() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let long = "x".repeat(10_000);
    for name in ["nobody", "01890a5d-ac96-774b-bcce-b302099a8057", "NO BODY", "nul\0", &long] {
        let status = get(&mut accounts, name).await.unwrap_err();
        let expected = (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned(), "account".to_owned());
        assert_eq!(refusal(&status), expected, "{name}");
    }
    let status = get(&mut accounts, "").await.unwrap_err();
    assert_eq!(refusal(&status).1, "MISSING_ACCOUNT");
}

#[tokio::test]
async fn an_update_replaces_the_contract_and_the_funds_only_at_the_version_that_was_read() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let created = create(&mut accounts, new_account("umbrella", None)).await.unwrap();
    let update = |version| UpdateAccountRequest {
        account: "umbrella".to_owned(),
        display_name: "Umbrella".to_owned(),
        contract: Some(enterprise()),
        version,
        ..Default::default()
    };
    let updated = accounts.update_account(update(created.version)).await.unwrap().into_inner();
    let updated = updated.account.unwrap();
    assert_eq!(updated.contract, Some(enterprise()));
    assert_eq!((updated.version, updated.display_name.as_str()), (2, "Umbrella"));
    let expected = expected_funds(true, ["5000", "0.19", "4201.680672268907"]);
    assert_eq!(funds(&server, "umbrella").await, expected);

    for (request, code, reason, field) in [
        (update(created.version), Code::Aborted, "VERSION_CHANGED", "version"),
        (update(3), Code::Aborted, "VERSION_CHANGED", "version"),
        (update(0), Code::InvalidArgument, "MISSING", "version"),
        (
            UpdateAccountRequest { contract: None, ..update(2) },
            Code::InvalidArgument,
            "MISSING",
            "contract",
        ),
    ] {
        let status = accounts.update_account(request).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.to_owned(), field.to_owned()));
    }
    assert_eq!(get(&mut accounts, "umbrella").await.unwrap(), updated);
}

#[tokio::test]
async fn of_sixteen_updates_of_one_version_one_wins() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    create(&mut accounts, new_account("umbrella", None)).await.unwrap();
    let mut updates = tokio::task::JoinSet::new();
    for number in 0..16 {
        let mut accounts = accounts.clone();
        let contract = Contract { purchase_order: format!("PO-{number}"), ..enterprise() };
        updates.spawn(async move {
            let request = UpdateAccountRequest {
                account: "umbrella".to_owned(),
                contract: Some(contract),
                version: 1,
                ..Default::default()
            };
            accounts.update_account(request).await.map_err(|status| refusal(&status).1)
        });
    }
    let answers = updates.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused, "VERSION_CHANGED");
    }
    assert_eq!(get(&mut accounts, "umbrella").await.unwrap().version, 2);
}

#[tokio::test]
async fn a_suspended_account_says_why_until_it_is_resumed() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    create(&mut accounts, new_account("acme", None)).await.unwrap();
    let suspend = |reason: &str| SuspendAccountRequest {
        account: "acme".to_owned(),
        reason: reason.to_owned(),
        ..Default::default()
    };
    let suspended = accounts.suspend_account(suspend("unpaid")).await.unwrap().into_inner();
    let suspended = suspended.account.unwrap();
    assert_eq!(suspended.status(), proto::AccountStatus::Suspended);
    assert_eq!(suspended.status_reason, "unpaid");
    let status = accounts.suspend_account(suspend(&"x".repeat(501))).await.unwrap_err();
    assert_eq!(refusal(&status).2, "reason");

    let resume = ResumeAccountRequest { account: "acme".to_owned(), ..Default::default() };
    let resumed = accounts.resume_account(resume.clone()).await.unwrap().into_inner();
    let resumed = resumed.account.unwrap();
    assert_eq!(resumed.status(), proto::AccountStatus::Active);
    assert_eq!(resumed.status_reason, "");
    let again = accounts.resume_account(resume).await.unwrap().into_inner().account.unwrap();
    assert_eq!(again, resumed, "resuming an active account changes nothing");
}

#[tokio::test]
async fn accounts_are_listed_page_by_page_in_the_order_they_were_made() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let mut made = Vec::new();
    for number in 0..5 {
        let request = new_account(&format!("acme-{number}"), None);
        made.push(create(&mut accounts, request).await.unwrap().handle);
    }
    let (mut seen, mut request) =
        (Vec::new(), ListAccountsRequest { page_size: 2, ..Default::default() });
    loop {
        let page = accounts.list_accounts(request.clone()).await.unwrap().into_inner();
        assert!(page.accounts.len() <= 2);
        seen.extend(page.accounts.into_iter().map(|account| account.handle));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);

    let suspend = SuspendAccountRequest { account: "acme-3".to_owned(), ..Default::default() };
    accounts.suspend_account(suspend).await.unwrap();
    let suspended = ListAccountsRequest {
        status: proto::AccountStatus::Suspended.into(),
        ..Default::default()
    };
    let page = accounts.list_accounts(suspended).await.unwrap().into_inner();
    let handles: Vec<&str> = page.accounts.iter().map(|account| account.handle.as_str()).collect();
    assert_eq!(handles, ["acme-3"]);

    for (request, field) in [
        (ListAccountsRequest { page_size: 1_001, ..Default::default() }, "page_size"),
        (ListAccountsRequest { page_token: "x".to_owned(), ..Default::default() }, "page_token"),
        (ListAccountsRequest { status: 42, ..Default::default() }, "status"),
    ] {
        let status = accounts.list_accounts(request).await.unwrap_err();
        assert_eq!(
            (refusal(&status).0, refusal(&status).2.as_str()),
            (Code::InvalidArgument, field)
        );
    }
}

#[tokio::test]
async fn the_same_call_with_the_same_key_has_one_effect_and_with_other_content_none() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let keyed = |handle: &str| CreateAccountRequest {
        idempotency_key: "once".to_owned(),
        ..new_account(handle, Some(enterprise()))
    };
    let first = create(&mut accounts, keyed("acme")).await.unwrap();
    assert_eq!(create(&mut accounts, keyed("acme")).await.unwrap(), first);
    let status = create(&mut accounts, keyed("other")).await.unwrap_err();
    let expected =
        (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".to_owned(), "idempotency_key".to_owned());
    assert_eq!(refusal(&status), expected);

    // A key belongs to its RPC, and a call that failed gives it back.
    let suspend = SuspendAccountRequest {
        account: "acme".to_owned(),
        idempotency_key: "once".to_owned(),
        ..Default::default()
    };
    accounts.suspend_account(suspend).await.unwrap();
    let failing =
        CreateAccountRequest { idempotency_key: "again".to_owned(), ..new_account("acme", None) };
    assert_eq!(refusal(&create(&mut accounts, failing).await.unwrap_err()).1, "HANDLE_TAKEN");
    let corrected =
        CreateAccountRequest { idempotency_key: "again".to_owned(), ..new_account("acme-2", None) };
    create(&mut accounts, corrected).await.unwrap();
}

#[tokio::test]
async fn sixteen_simultaneous_calls_with_one_key_make_one_account() {
    let server = TestServer::start().await;
    let accounts = server.operator().await.accounts();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut accounts = accounts.clone();
        calls.spawn(async move {
            let request = CreateAccountRequest {
                idempotency_key: "raced".to_owned(),
                ..new_account("acme", None)
            };
            create(&mut accounts, request).await.unwrap().account_id
        });
    }
    let mut made = calls.join_all().await;
    made.dedup();
    assert_eq!(made.len(), 1);
}

#[tokio::test]
async fn a_tenant_sees_its_own_account_and_is_told_nothing_of_others() {
    let server = TestServer::start().await;
    let mut accounts = server.operator().await.accounts();
    let own = create(&mut accounts, new_account("own", None)).await.unwrap();
    create(&mut accounts, new_account("other", None)).await.unwrap();
    let mut tenant = server.tenant(own.account_id.parse().unwrap()).await.accounts();
    assert_eq!(get(&mut tenant, "own").await.unwrap(), own);
    let other = get(&mut tenant, "other").await.unwrap_err();
    let nobody = get(&mut tenant, "nobody").await.unwrap_err();
    assert_eq!(refusal(&other), refusal(&nobody));
    assert_eq!(other.message(), nobody.message());
    let change = close(&mut tenant, "own").await.unwrap_err();
    assert_eq!(change.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_gateway_may_neither_read_accounts_nor_keys() {
    let server = TestServer::start().await;
    let gateway = server.gateway().await;
    let status = get(&mut gateway.accounts(), "acme").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let list = proto::ListKeysRequest { account: "acme".to_owned(), ..Default::default() };
    let status = gateway.keys().list_keys(list).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}
