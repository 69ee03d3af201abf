//! Whom the load is for: accounts with keys and funds, made over gRPC as an operator would.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    load::{closed_loop, spread},
    stage::failed,
};
use crate::{
    api::catalog_convert::publication_message,
    catalog::shipped,
    cli::{
        args::{money, new_idempotency_key, required},
        client::Client,
        error::CliError,
    },
    ids::{AccountId, KeyId},
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

/// An account with one of its keys.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) account: AccountId,
    pub(super) key: KeyId,
    pub(super) api_key: String,
}

/// The accounts of a run, once for each of their keys.
#[derive(Debug)]
pub(super) struct Population {
    /// What is asked for.
    pub(super) model: &'static str,
    customers: Vec<Customer>,
    run: AtomicU32,
}

impl Population {
    /// Publishes the shipped prices and makes so many accounts, whose handles no run before used, with
    /// so many keys each. All accounts come once before one comes again.
    pub(super) async fn make(client: &Client, accounts: u64, keys: u64) -> Result<Self, CliError> {
        let import = shipped::read().map_err(failed)?;
        let request = publication_message(&import, &new_idempotency_key());
        client.catalog().publish_prices(request).await?;

        let (client, name) = (client.clone(), new_idempotency_key());
        // The end of an id is random.
        let name = name.rsplit('-').next().unwrap_or_default().to_owned();
        let (_, made) = closed_loop(AT_ONCE, accounts, move |number| {
            let (client, handle) = (client.clone(), format!("bench-{name}-{number}"));
            async move { make_one(&client, handle, keys).await }
        })
        .await?;
        let mut made: Vec<_> = made.into_iter().map(Vec::into_iter).collect();
        let mut customers = Vec::new();
        for _ in 0..keys {
            customers.extend(made.iter_mut().filter_map(Iterator::next));
        }
        Ok(Self { model: MODEL, customers, run: AtomicU32::new(0) })
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.customers.len()
    }

    /// One of them.
    pub(super) fn customer(&self, place: usize) -> Result<&Customer, CliError> {
        let place = place.checked_rem(self.count()).unwrap_or(0);
        self.customers.get(place).ok_or_else(|| CliError::failed("there are no accounts"))
    }

    /// The API key of a request, spread over the first `active` accounts without a pattern that a
    /// cache or a batch could profit from.
    pub(super) fn api_key(&self, number: u64, active: usize) -> Result<&str, CliError> {
        let number = number.wrapping_add(u64::from(self.run()) << 24);
        let spread = usize::try_from(spread(number)).unwrap_or(0);
        let place = spread.checked_rem(active.min(self.count())).unwrap_or(0);
        Ok(&self.customer(place)?.api_key)
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

async fn make_one(client: &Client, handle: String, keys: u64) -> Result<Vec<Customer>, CliError> {
    let account = CreateAccountRequest {
        display_name: handle.clone(),
        handle: handle.clone(),
        currency_code: "USD".to_owned(),
        contract: Some(Contract::default()),
        idempotency_key: new_idempotency_key(),
    };
    let made = client.accounts().create_account(account).await?.into_inner();
    let account = required(made.account, "account")?.account_id;
    let account = AccountId(account.parse().map_err(failed)?);
    let payment = TopUpRequest {
        account: handle.clone(),
        amount: Some(money(FUNDS, "USD")),
        method: PaymentMethod::Wire.into(),
        external_reference: format!("top-up of {handle}"),
        idempotency_key: new_idempotency_key(),
        ..TopUpRequest::default()
    };
    client.credits().top_up(payment).await?;
    let mut customers = Vec::new();
    for number in 0..keys {
        let key = IssueKeyRequest {
            account: handle.clone(),
            name: format!("bench {number}"),
            tier: Tier::Standard.into(),
            limits: Some(KeyLimits::default()),
            idempotency_key: new_idempotency_key(),
            ..IssueKeyRequest::default()
        };
        let issued = client.keys().issue_key(key).await?.into_inner();
        let key = required(issued.key, "key")?.key_id;
        let key = KeyId(key.parse().map_err(failed)?);
        customers.push(Customer { account, key, api_key: issued.api_key });
    }
    Ok(customers)
}
