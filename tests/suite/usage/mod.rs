//! Usage as gateways report it and customers read it, through real gRPC.

mod recording;
mod reports;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Row as _, postgres::PgPoolOptions};
use tollgate::{
    authorization::grant::{GrantClaims, GrantSigner, SigningKey},
    cli::client::Client,
    clock,
    ids::AuthorizationId,
    proto::{
        self, Money, Quantities, RecordUsageRequest, RecordUsageResponse, record_usage_request,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::server::TestServer;

/// A server with two priced models and a customer with 100 dollars and a key.
struct World {
    server: TestServer,
    pool: PgPool,
    gateway: Client,
    operator: Client,
    account_id: String,
    key_id: String,
    api_key: String,
}

impl World {
    async fn open() -> Self {
        let server = TestServer::start().await;
        let pool =
            PgPoolOptions::new().max_connections(2).connect_lazy_with(server.database.clone());
        let (gateway, operator) = (server.gateway().await, server.operator().await);
        publish(&operator, "gpt-4o", "10", at("2026-01-01T00:00:00Z")).await;
        publish(&operator, "Qwen/Qwen3-32B", "0.28", at("2026-01-01T00:00:00Z")).await;
        let account_id = create_account(&operator, "acme").await;
        let (key_id, api_key) = issue_key(&operator, "acme").await;
        let top_up = proto::TopUpRequest {
            account: "acme".to_owned(),
            amount: Some(usd("100")),
            method: proto::PaymentMethod::Wire.into(),
            external_reference: "wire 1".to_owned(),
            ..Default::default()
        };
        operator.credits().top_up(top_up).await.unwrap();
        Self { server, pool, gateway, operator, account_id, key_id, api_key }
    }

    /// A grant for a request to `gpt-4o`.
    async fn grant(&self) -> proto::Grant {
        self.grant_for("gpt-4o").await
    }

    async fn grant_for(&self, model: &str) -> proto::Grant {
        let request = proto::AuthorizeRequest {
            api_key: self.api_key.clone(),
            model: model.to_owned(),
            input_tokens: 1_000,
            max_output_tokens: Some(1_000),
            ..Default::default()
        };
        let response = self.gateway.authorization().authorize(request).await.unwrap().into_inner();
        match response.decision.unwrap() {
            proto::authorize_response::Decision::Grant(grant) => grant,
            proto::authorize_response::Decision::Denial(denial) => panic!("denied: {denial:?}"),
        }
    }

    async fn record(&self, usage: RecordUsageRequest) -> Result<RecordUsageResponse, Status> {
        self.gateway.usage().record_usage(usage).await.map(tonic::Response::into_inner)
    }

    /// Work without a token, by this customer, now.
    fn unauthorized(&self) -> proto::UnauthorizedUsage {
        proto::UnauthorizedUsage {
            event_id: AuthorizationId::generate().to_string(),
            account: "acme".to_owned(),
            key_id: self.key_id.clone(),
            model: "gpt-4o".to_owned(),
            occurred_at: Some(timestamp(clock::now())),
        }
    }

    /// The grant's token with other claims, signed as this server signs.
    async fn reissue(&self, token: &str, change: impl FnOnce(&mut GrantClaims)) -> String {
        let row = sqlx::query("SELECT key_id, secret FROM signing_keys WHERE purpose = 'grant'")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let key =
            SigningKey { key_id: row.get("key_id"), secret: row.get("secret"), retired: false };
        let signer = GrantSigner::new(&[key]).unwrap();
        let mut claims = signer.verify(token).unwrap();
        change(&mut claims);
        signer.sign(&claims).unwrap()
    }

    /// What the account has left, overdrafts subtracted.
    async fn funds(&self) -> String {
        let funds: rust_decimal::Decimal =
            sqlx::query_scalar("SELECT promotional + credits - overdrawn FROM account_funds")
                .fetch_one(&self.pool)
                .await
                .unwrap();
        funds.normalize().to_string()
    }

    async fn reservations(&self) -> usize {
        let request = proto::ListReservationsRequest::default();
        let operator = self.operator.authorization();
        let mut operator = operator;
        operator.list_reservations(request).await.unwrap().into_inner().reservations.len()
    }
}

async fn publish(operator: &Client, model: &str, rate: &str, from: DateTime<Utc>) {
    let price = proto::Price {
        model: model.to_owned(),
        currency_code: "USD".to_owned(),
        effective_from: Some(timestamp(from)),
        rates: Some(proto::Rates {
            input: rate.to_owned(),
            output: rate.to_owned(),
            ..Default::default()
        }),
        cached_response: "0.001".to_owned(),
        ..Default::default()
    };
    let request = proto::PublishPricesRequest { prices: vec![price], ..Default::default() };
    operator.catalog().publish_prices(request).await.unwrap();
}

async fn create_account(operator: &Client, handle: &str) -> String {
    let request = proto::CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: "A customer".to_owned(),
        ..Default::default()
    };
    let created = operator.accounts().create_account(request).await.unwrap().into_inner();
    created.account.unwrap().account_id
}

async fn issue_key(operator: &Client, account: &str) -> (String, String) {
    let request = proto::IssueKeyRequest {
        account: account.to_owned(),
        name: "production".to_owned(),
        tier: proto::Tier::Standard.into(),
        ..Default::default()
    };
    let issued = operator.keys().issue_key(request).await.unwrap().into_inner();
    (issued.key.unwrap().key_id, issued.api_key)
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn timestamp(moment: DateTime<Utc>) -> prost_types::Timestamp {
    tollgate::api::convert::timestamp(moment)
}

fn usd(amount: &str) -> Money {
    Money { currency_code: "USD".to_owned(), amount: amount.to_owned() }
}

/// So many tokens of each side, under a grant's token.
fn usage(token: &str, input: u64, output: u64) -> RecordUsageRequest {
    RecordUsageRequest {
        source: Some(record_usage_request::Source::Token(token.to_owned())),
        usage: Some(record_usage_request::Usage::Quantities(Quantities {
            input,
            output,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn unauthorized_usage(work: proto::UnauthorizedUsage, input: u64) -> RecordUsageRequest {
    RecordUsageRequest {
        source: Some(record_usage_request::Source::Unauthorized(work)),
        ..usage("", input, 0)
    }
}

fn charged(response: &RecordUsageResponse) -> &str {
    &response.charged.as_ref().unwrap().amount
}

fn overrun(response: &RecordUsageResponse) -> &str {
    &response.overrun.as_ref().unwrap().amount
}

/// The code, the reason and the field of a refusal.
fn refusal(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let field = details.bad_request().map(|request| request.field_violations[0].field.clone());
    (status.code(), details.error_info().unwrap().reason.clone(), field.unwrap_or_default())
}

/// Waits for what another part does in the background.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
