//! A server in this process, on a database of its own, and clients with a token for each role.

use std::{net::SocketAddr, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tollgate::{
    authorization::lifetime::Lifetime,
    cli::{Global, client::Client, output::Format, tls::TlsArguments},
    config::{Config, DatabaseChoice, SecretSource, TokenConfig},
    identity::{
        Role,
        secret::Secret,
        token::{TokenAuthority, TokenRequest},
    },
    ids::AccountId,
    server::{self, RunningServer},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::postgres::fresh_database;

/// What every server of these tests signs with, so that several can share a database.
pub(crate) const SECRET: &str = "the secret of all servers of the tests, 0123456789";

/// A running server and what its callers need.
pub(crate) struct TestServer {
    running: RunningServer,
    /// The database it is on, as the cluster's owner.
    pub(crate) database: PgConnectOptions,
}

impl TestServer {
    /// A server on a new, empty database.
    pub(crate) async fn start() -> Self {
        Self::start_on(fresh_database().await).await
    }

    /// A server on this database, which others may share.
    pub(crate) async fn start_on(database: PgConnectOptions) -> Self {
        let running = server::start(config(database.clone())).await.unwrap();
        Self { running, database }
    }

    /// A server whose grants hold for so long.
    pub(crate) async fn start_with(database: PgConnectOptions, lifetime: Lifetime) -> Self {
        let config = Config { lifetime, ..config(database.clone()) };
        Self { running: server::start(config).await.unwrap(), database }
    }

    /// A server on a new, empty database, with what `change` makes of the usual configuration.
    pub(crate) async fn start_changed(change: impl FnOnce(&mut Config)) -> Self {
        let database = fresh_database().await;
        let mut config = config(database.clone());
        change(&mut config);
        Self { running: server::start(config).await.unwrap(), database }
    }

    /// The server's database, past the server.
    pub(crate) fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(4).connect_lazy_with(self.database.clone())
    }

    /// `http://ADDRESS:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.running.local_addr())
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.running.local_addr()
    }

    /// Clients that may authorize and record.
    pub(crate) async fn gateway(&self) -> Client {
        self.with_roles(&[Role::Gateway]).await
    }

    /// Clients that keep accounts, keys, credits and prices.
    pub(crate) async fn operator(&self) -> Client {
        self.with_roles(&[Role::Operator]).await
    }

    /// Clients for billing and ledger.
    pub(crate) async fn finance(&self) -> Client {
        self.with_roles(&[Role::Finance]).await
    }

    /// Clients that read everything.
    pub(crate) async fn auditor(&self) -> Client {
        self.with_roles(&[Role::Auditor]).await
    }

    /// Clients of a customer.
    pub(crate) async fn tenant(&self, account: AccountId) -> Client {
        self.with_token(&token(&[Role::Tenant], Some(account))).await
    }

    /// Clients with several roles, as the local operator has.
    pub(crate) async fn with_roles(&self, roles: &[Role]) -> Client {
        self.with_token(&token(roles, None)).await
    }

    /// Clients with any token.
    pub(crate) async fn with_token(&self, token: &str) -> Client {
        connect(&self.endpoint(), token).await
    }

    /// A connection without any token.
    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint()).unwrap().connect().await.unwrap()
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        page(&self.running.metrics_addr().unwrap().to_string(), "/metrics").await
    }

    /// Drains it and says how that went.
    pub(crate) async fn drain(self) -> Result<(), server::ServerError> {
        self.running.drain().await
    }
}

/// A configuration for this database: free ports, open health and reflection.
pub(crate) fn config(database: PgConnectOptions) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        tls: None,
        database: DatabaseChoice::Given(Box::new(database)),
        database_connections: 5,
        call_threads: 2,
        tokens: TokenConfig::of_secret(SecretSource::Given(secret())),
        operator_token: None,
        lifetime: Lifetime::default(),
        // Tests close months when they mean to.
        closes_months: false,
        overdue_grace_days: None,
        details_retention_days: None,
        open_health: true,
        open_reflection: true,
    }
}

pub(crate) fn secret() -> Secret {
    Secret::new(SECRET, "the tests").unwrap()
}

/// A token that these servers believe for a while.
pub(crate) fn token(roles: &[Role], account: Option<AccountId>) -> String {
    let request = TokenRequest {
        subject: "a test".to_owned(),
        roles: roles.to_vec(),
        account,
        lifetime: Duration::from_mins(10),
    };
    TokenAuthority::new(&secret()).mint(&request).unwrap()
}

/// Clients of the server at an endpoint.
pub(crate) async fn connect(endpoint: &str, token: &str) -> Client {
    let global = Global {
        endpoint: endpoint.to_owned(),
        token: Some(token.to_owned()),
        data_dir: None,
        tls: TlsArguments::default(),
        output: Format::default(),
    };
    Client::connect(&global).await.unwrap()
}

/// The answer to `GET path`, headers included.
pub(crate) async fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What a program reads of a refusal: code, reason, and the field or nothing.
pub(crate) fn refusal(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every refusal has an ErrorInfo");
    assert_eq!(info.domain, "tollgate");
    let field = details
        .bad_request()
        .and_then(|bad| bad.field_violations.first())
        .map(|violation| violation.field.clone());
    (status.code(), info.reason.clone(), field.unwrap_or_default())
}
