//! The gRPC channel and the token that goes with every call.
//!
//! The token comes from `--token`, or from the `operator.jwt` that a server with an embedded
//! database leaves in its data directory. One that was found rather than given is sent only to
//! this machine: a mistyped endpoint must not be handed the keys.

use std::{io, path::Path, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    cli::{Global, args::required, error::CliError, tls::TlsArguments},
    config::{OPERATOR_TOKEN_FILE, default_data_dir},
    proto::{
        GetAccountRequest, account_service_client::AccountServiceClient,
        audit_service_client::AuditServiceClient,
        authorization_service_client::AuthorizationServiceClient,
        billing_service_client::BillingServiceClient, budget_service_client::BudgetServiceClient,
        catalog_service_client::CatalogServiceClient, credit_service_client::CreditServiceClient,
        installation_service_client::InstallationServiceClient,
        key_service_client::KeyServiceClient, ledger_service_client::LedgerServiceClient,
        seller_service_client::SellerServiceClient, token_service_client::TokenServiceClient,
        usage_service_client::UsageServiceClient,
    },
};

/// How long the connection itself may take; a server that is there answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is taken: a page of a thousand models with their histories is far less.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Adds the bearer token to each call.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A channel that names its caller.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// A connection to one server; its services are made from it, cheaply.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Authorized,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(&self) -> $client<Authorized> {
                    $client::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
                }
            )*
        }
    };
}

services! {
    /// Customers and their contracts.
    accounts: AccountServiceClient;
    /// Who changed what.
    audit: AuditServiceClient;
    /// The hot path.
    authorization: AuthorizationServiceClient;
    /// From usage to invoices.
    billing: BillingServiceClient;
    /// What may be spent in a period.
    budgets: BudgetServiceClient;
    /// Models and prices.
    catalog: CatalogServiceClient;
    /// Money in and out.
    credits: CreditServiceClient;
    /// What it all stands on.
    installation: InstallationServiceClient;
    /// API keys.
    keys: KeyServiceClient;
    /// The books.
    ledger: LedgerServiceClient;
    /// Ourselves on documents, and taxes.
    seller: SellerServiceClient;
    /// Callers' tokens that were taken back.
    tokens: TokenServiceClient;
    /// The other hot path.
    usage: UsageServiceClient;
}

impl Client {
    /// Connects to the endpoint, with the token that was given or found.
    ///
    /// # Errors
    /// [`CliError::Unreachable`] when nobody answers; [`CliError::Usage`] for what is no endpoint
    /// or no token; [`CliError::File`] when a token is there and cannot be read.
    pub async fn connect(global: &Global) -> Result<Self, CliError> {
        let endpoint = endpoint(&global.endpoint, &global.tls)?;
        let token = bearer(token(global)?.as_deref())?;
        let channel = endpoint.connect().await.map_err(|error| CliError::Unreachable {
            endpoint: global.endpoint.clone(),
            cause: innermost(&error),
        })?;
        Ok(Self { channel: InterceptedService::new(channel, token) })
    }

    /// The currency of an account, for an amount that was given without one.
    pub async fn currency_of(&self, account: &str) -> Result<String, CliError> {
        let request = GetAccountRequest { account: account.to_owned() };
        let account = self.accounts().get_account(request).await?.into_inner().account;
        Ok(required(account, "account")?.currency_code)
    }
}

fn endpoint(url: &str, tls: &TlsArguments) -> Result<Endpoint, CliError> {
    let is_https = url.starts_with("https://");
    let endpoint = (is_https || url.starts_with("http://"))
        .then(|| Endpoint::from_shared(url.to_owned()).ok())
        .flatten()
        .ok_or_else(|| {
            CliError::usage(format!(
                "{url:?} is not an endpoint; write it like http://127.0.0.1:50051, or https://… \
                 for a server with a certificate"
            ))
        })?;
    if !is_https && tls.are_given() {
        // Somebody meant the connection to be protected.
        return Err(CliError::usage(
            "certificates are given and the endpoint is http; write it with https://",
        ));
    }
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    if !is_https {
        return Ok(endpoint);
    }
    endpoint.tls_config(tls.config()?).map_err(|error| {
        CliError::usage(format!("the certificates cannot be used: {}", innermost(&error)))
    })
}

fn bearer(token: Option<&str>) -> Result<Bearer, CliError> {
    let value = token.map(|token| format!("Bearer {}", token.trim()).parse());
    value.transpose().map(Bearer).map_err(|_| {
        CliError::usage("the token has characters that no token has; pass the JWT alone")
    })
}

/// The token that was given, or the operator's where it lies in the data directory.
fn token(global: &Global) -> Result<Option<String>, CliError> {
    if let Some(token) = &global.token {
        return Ok(Some(token.clone()));
    }
    let directory = match (&global.data_dir, is_this_machine(&global.endpoint)) {
        (Some(directory), _) => directory.clone(),
        (None, true) => match default_data_dir() {
            Some(directory) => directory,
            None => return Ok(None),
        },
        (None, false) => return Ok(None),
    };
    read_token(&directory.join(OPERATOR_TOKEN_FILE))
}

fn read_token(path: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read_to_string(path) {
        Ok(token) => Ok(Some(token)),
        // The server tells what is missing better than a guess here could.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(CliError::file(path, cause)),
    }
}

fn is_this_machine(url: &str) -> bool {
    let host = url
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The last cause of an error: the outer ones only say "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_sent_a_token_that_was_found() {
        for here in [
            "http://127.0.0.1:50051",
            "http://localhost:1",
            "http://[::1]:50051",
            "http://127.0.0.9/",
        ] {
            assert!(is_this_machine(here), "{here}");
        }
        let elsewhere = [
            "http://10.0.0.1:50051",
            "http://localhost.evil.example:1",
            "http://evil.example/127.0.0.1",
            "http://127.0.0.1@evil.example:1",
            "http://evil.example:80/?localhost",
        ];
        for there in elsewhere {
            assert!(!is_this_machine(there), "{there}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_told_how_to_write_one() {
        let plain = TlsArguments::default();
        for text in ["127.0.0.1:50051", "ftp://x", "http://", "https://", ""] {
            assert!(matches!(endpoint(text, &plain), Err(CliError::Usage(_))), "{text:?}");
        }
        assert!(endpoint("http://127.0.0.1:50051", &plain).is_ok());
        assert!(endpoint("https://ledger.example", &plain).is_ok());
    }

    #[test]
    fn certificates_are_never_given_for_nothing() {
        let authority = Some("/nowhere/authority.pem".into());
        let given = TlsArguments { tls_authority: authority, ..TlsArguments::default() };
        assert!(matches!(endpoint("http://127.0.0.1:1", &given), Err(CliError::Usage(_))));
        assert!(matches!(endpoint("https://x", &given), Err(CliError::File { .. })));
        let key = Some("/nowhere/key.pem".into());
        let half = TlsArguments { client_key: key, ..TlsArguments::default() };
        assert!(matches!(endpoint("https://x", &half), Err(CliError::Usage(_))));
    }
}
