//! The common world of tests: a server, priced models, customers with funds and keys, and the two
//! calls a gateway makes.

use std::str::FromStr as _;

use rust_decimal::Decimal;
use tollgate::{
    cli::client::Client,
    identity::Role,
    ids::AuthorizationId,
    proto::{
        AuthorizeRequest, Balance, Contract, CreateAccountRequest, Denial, DenialReason,
        GetBalanceRequest, Grant, IssueKeyRequest, Key, KeyLimits, Model, Money, PaymentMethod,
        PaymentTerms, Price, PublishPricesRequest, Quantities, Rates, RecordUsageRequest,
        RecordUsageResponse, Tier, TopUpRequest, VerifyLedgerRequest,
        authorize_response::Decision,
        record_usage_request::{Source, Usage},
    },
};
use tonic::Status;

use super::server::TestServer;

/// A model at 10 USD per million tokens of either kind, with 4,096 output tokens at most.
pub(crate) const MODEL: &str = "test/plain";
/// The same on dedicated capacity.
pub(crate) const PRO_MODEL: &str = "Pro/test/plain";
/// A model without a price.
pub(crate) const UNPRICED_MODEL: &str = "test/unpriced";

/// A server with the three models, and whoever may do everything but be a tenant.
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) client: Client,
}

#[expect(clippy::unnecessary_wraps, reason = "a message's fields are options")]
pub(crate) fn usd(amount: &str) -> Option<Money> {
    Some(Money { currency_code: "USD".to_owned(), amount: amount.to_owned() })
}

pub(crate) fn decimal(money: Option<&Money>) -> Decimal {
    Decimal::from_str(&money.unwrap().amount).unwrap()
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::on(TestServer::start().await).await
    }

    /// On a server that runs already.
    pub(crate) async fn on(server: TestServer) -> Self {
        let client = all_roles(&server).await;
        publish(&client).await;
        Self { server, client }
    }

    /// A customer who pays in advance and has topped up; nothing is topped up for `"0"`.
    pub(crate) async fn startup(&self, handle: &str, funds: &str) -> String {
        startup(&self.client, handle, funds).await
    }

    /// A customer who pays invoices, up to a limit.
    pub(crate) async fn enterprise(&self, handle: &str, limit: &str) -> String {
        let contract = Contract {
            payment_terms: PaymentTerms::Net30.into(),
            credit_limit: usd(limit),
            ..Contract::default()
        };
        create(&self.client, handle, contract).await
    }

    /// A standard key without limits.
    pub(crate) async fn key(&self, account: &str) -> String {
        self.issue(account, Tier::Standard, KeyLimits::default()).await.1
    }

    pub(crate) async fn issue(
        &self,
        account: &str,
        tier: Tier,
        limits: KeyLimits,
    ) -> (Key, String) {
        issue(&self.client, account, tier, limits).await
    }

    /// What the gate says of 1,000 prompt tokens and so many output tokens of the plain model.
    pub(crate) async fn ask(&self, key: &str, output: u64) -> Decision {
        authorize(&self.client, &request(key, output)).await.unwrap()
    }

    pub(crate) async fn granted(&self, request: &AuthorizeRequest) -> Grant {
        match authorize(&self.client, request).await.unwrap() {
            Decision::Grant(grant) => grant,
            Decision::Denial(denial) => panic!("denied: {denial:?}"),
        }
    }

    pub(crate) async fn denied(&self, request: &AuthorizeRequest, reason: DenialReason) -> Denial {
        match authorize(&self.client, request).await.unwrap() {
            Decision::Grant(grant) => panic!("granted: {grant:?}"),
            Decision::Denial(denial) => {
                assert_eq!(denial.reason(), reason, "{denial:?}");
                assert!(!denial.message.is_empty() && denial.http_status >= 400, "{denial:?}");
                denial
            }
        }
    }

    /// Records plain input and output tokens under a grant.
    pub(crate) async fn record(
        &self,
        token: &str,
        input: u64,
        output: u64,
    ) -> Result<RecordUsageResponse, Status> {
        record(&self.client, token, input, output).await
    }

    pub(crate) async fn balance(&self, account: &str) -> Balance {
        let request = GetBalanceRequest { account: account.to_owned() };
        let response = self.client.credits().get_balance(request).await.unwrap();
        response.into_inner().balance.unwrap()
    }

    /// Fails, saying what does not agree, unless the books prove themselves.
    pub(crate) async fn verify(&self) {
        verify(&self.client).await;
    }
}

/// Clients with every role but the tenant's.
pub(crate) async fn all_roles(server: &TestServer) -> Client {
    server.with_roles(&[Role::Gateway, Role::Operator, Role::Finance, Role::Auditor]).await
}

/// 1,000 prompt tokens and so many output tokens of the plain model: 0.011 USD for the prompt with
/// its margin, and 0.00001 USD for each output token.
pub(crate) fn request(key: &str, output: u64) -> AuthorizeRequest {
    AuthorizeRequest {
        api_key: key.to_owned(),
        model: MODEL.to_owned(),
        input_tokens: 1_000,
        max_output_tokens: Some(output),
        ..AuthorizeRequest::default()
    }
}

pub(crate) async fn authorize(
    client: &Client,
    request: &AuthorizeRequest,
) -> Result<Decision, Status> {
    let response = client.authorization().authorize(request.clone()).await?;
    Ok(response.into_inner().decision.unwrap())
}

pub(crate) async fn record(
    client: &Client,
    token: &str,
    input: u64,
    output: u64,
) -> Result<RecordUsageResponse, Status> {
    let request = usage(Source::Token(token.to_owned()), input, output);
    client.usage().record_usage(request).await.map(tonic::Response::into_inner)
}

pub(crate) fn usage(source: Source, input: u64, output: u64) -> RecordUsageRequest {
    RecordUsageRequest {
        source: Some(source),
        usage: Some(Usage::Quantities(Quantities { input, output, ..Quantities::default() })),
        ..RecordUsageRequest::default()
    }
}

pub(crate) async fn publish(client: &Client) {
    let model = |name: &str| Model {
        name: name.to_owned(),
        provider: "test".to_owned(),
        max_output_tokens: 4_096,
        context_tokens: 200_000,
        ..Model::default()
    };
    let price = |name: &str| Price {
        model: name.to_owned(),
        currency_code: "USD".to_owned(),
        effective_from: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        rates: Some(Rates { input: "10".to_owned(), output: "10".to_owned(), ..Rates::default() }),
        source: "the tests".to_owned(),
        ..Price::default()
    };
    let request = PublishPricesRequest {
        models: vec![model(MODEL), model(PRO_MODEL), model(UNPRICED_MODEL)],
        prices: vec![price(MODEL), price(PRO_MODEL)],
        idempotency_key: String::new(),
    };
    client.catalog().publish_prices(request).await.unwrap();
}

pub(crate) async fn create(client: &Client, handle: &str, contract: Contract) -> String {
    let request = CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: handle.to_owned(),
        contract: Some(contract),
        ..CreateAccountRequest::default()
    };
    let response = client.accounts().create_account(request).await.unwrap();
    response.into_inner().account.unwrap().account_id
}

pub(crate) async fn startup(client: &Client, handle: &str, funds: &str) -> String {
    let account = create(client, handle, Contract::default()).await;
    if funds != "0" {
        top_up(client, handle, funds).await;
    }
    account
}

pub(crate) async fn top_up(client: &Client, account: &str, amount: &str) {
    let request = TopUpRequest {
        account: account.to_owned(),
        amount: usd(amount),
        method: PaymentMethod::Wire.into(),
        external_reference: AuthorizationId::generate().to_string(),
        ..TopUpRequest::default()
    };
    client.credits().top_up(request).await.unwrap();
}

pub(crate) async fn issue(
    client: &Client,
    account: &str,
    tier: Tier,
    limits: KeyLimits,
) -> (Key, String) {
    let request = IssueKeyRequest {
        account: account.to_owned(),
        name: "test".to_owned(),
        tier: tier.into(),
        limits: Some(limits),
        ..IssueKeyRequest::default()
    };
    let response = client.keys().issue_key(request).await.unwrap().into_inner();
    (response.key.unwrap(), response.api_key)
}

pub(crate) async fn verify(client: &Client) {
    let request = VerifyLedgerRequest::default();
    let response = client.ledger().verify_ledger(request).await.unwrap().into_inner();
    let broken: Vec<_> = response.checks.iter().filter(|check| check.violations > 0).collect();
    assert!(response.clean, "{broken:#?}");
}
