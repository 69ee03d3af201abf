//! Whom the load is for: accounts with a key and funds each, made over gRPC as an operator would.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use uuid::Uuid;

use super::load::closed_loop;
use crate::{
    api::catalog_convert::publication_message,
    catalog::shipped,
    cli::{
        args::{money, new_idempotency_key, required},
        client::Client,
        error::CliError,
    },
    ids::AccountId,
    proto::{
        Contract, CreateAccountRequest, IssueKeyRequest, KeyLimits, PaymentMethod, Tier,
        TopUpRequest,
    },
};

/// What is asked for.
const MODEL: &str = "gpt-4o";
/// What each account has: far more than a run spends.
const FUNDS: &str = "1000000";
/// Accounts that are made at once.
const AT_ONCE: usize = 64;

/// The accounts' keys.
#[derive(Debug)]
pub(super) struct Population {
    /// What is asked for.
    pub(super) model: String,
    keys: Vec<String>,
    accounts: Vec<AccountId>,
    run: AtomicU32,
}

impl Population {
    /// Publishes the shipped prices and makes so many accounts, whose handles no run before used.
    pub(super) async fn make(client: &Client, accounts: u64) -> Result<Self, CliError> {
        let import = shipped::read().map_err(|problem| CliError::failed(problem.to_string()))?;
        let request = publication_message(&import, &new_idempotency_key());
        client.catalog().publish_prices(request).await?;

        let (client, name) = (client.clone(), Arc::<str>::from(new_idempotency_key()));
        let name = name.get(name.len().saturating_sub(12)..).unwrap_or_default().to_owned();
        let (_, mut made) = closed_loop(AT_ONCE, accounts, move |number| {
            let (client, handle) = (client.clone(), format!("bench-{name}-{number}"));
            async move {
                let (key, account) = make_one(&client, handle).await?;
                Ok((number, key, account))
            }
        })
        .await?;
        made.sort_unstable();
        let (keys, accounts) = made.into_iter().map(|(_, key, account)| (key, account)).unzip();
        Ok(Self { model: MODEL.to_owned(), keys, accounts, run: AtomicU32::new(0) })
    }

    /// One of the accounts.
    pub(super) fn account(&self, place: usize) -> AccountId {
        self.accounts.get(place).copied().unwrap_or(AccountId(Uuid::nil()))
    }

    /// The key of a request, spread over the first `active` accounts without a pattern that a cache
    /// or a batch could profit from.
    pub(super) fn key(&self, number: u64, active: usize) -> &str {
        /// Knuth's multiplicative hash.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let spread = number.wrapping_mul(SPREAD) >> 32;
        let place = usize::try_from(spread).unwrap_or(0) % active.clamp(1, self.keys.len().max(1));
        self.keys.get(place).map_or("", String::as_str)
    }

    /// The requests that follow are other ones than those before.
    pub(super) fn new_run(&self) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the requests' run.
    pub(super) fn run(&self) -> u32 {
        self.run.load(Ordering::Relaxed)
    }
}

async fn make_one(client: &Client, handle: String) -> Result<(String, AccountId), CliError> {
    let account = CreateAccountRequest {
        display_name: handle.clone(),
        handle: handle.clone(),
        currency_code: "USD".to_owned(),
        contract: Some(Contract::default()),
        idempotency_key: new_idempotency_key(),
    };
    let made = client.accounts().create_account(account).await?.into_inner();
    let account = required(made.account, "account")?.account_id;
    let payment = TopUpRequest {
        account: handle.clone(),
        amount: Some(money(FUNDS, "USD")),
        method: PaymentMethod::Wire.into(),
        external_reference: format!("top-up of {handle}"),
        idempotency_key: new_idempotency_key(),
        ..TopUpRequest::default()
    };
    client.credits().top_up(payment).await?;
    let key = IssueKeyRequest {
        account: handle,
        name: "bench".to_owned(),
        tier: Tier::Standard.into(),
        limits: Some(KeyLimits::default()),
        idempotency_key: new_idempotency_key(),
        ..IssueKeyRequest::default()
    };
    let account = account.parse().map_err(|_| CliError::failed("an account without an id"))?;
    Ok((client.keys().issue_key(key).await?.into_inner().api_key, AccountId(account)))
}
