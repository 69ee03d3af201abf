//! What a demo needs: prices, two customers with their keys, and some money.

use std::collections::HashSet;

use super::Stage;
use crate::{
    api::catalog_convert::publication_message,
    catalog::shipped,
    cli::{
        Session,
        args::{Pages, money, new_idempotency_key, required},
        client::Client,
        error::CliError,
        output::{Table, Value, text},
    },
    proto::{
        Address, Contract, CreateAccountRequest, GrantCreditRequest, IssueKeyRequest, KeyLimits,
        ListAccountsRequest, Model, PaymentMethod, PaymentTerms, RevokeKeyRequest, TaxTreatment,
        Tier, TopUpRequest,
    },
};

/// A model that exists and has no price.
pub(super) const UNPRICED_MODEL: &str = "demo/unpriced-preview";
/// How often it can run on the same data.
const MAX_RUNS: u64 = 10_000;
/// What the startup pays in.
const TOP_UP: &str = "1";
/// What the startup is given.
const WELCOME: &str = "0.25";
/// What the enterprise may owe: two long requests, not three.
const CREDIT_LIMIT: &str = "2.50";

/// The demo's customers.
#[derive(Debug)]
pub(super) struct World {
    /// Handle of the customer that pays in advance.
    pub(super) startup: String,
    /// Handle of the customer that pays by invoice.
    pub(super) enterprise: String,
    /// The startup's key, `ga_sk_`.
    pub(super) startup_key: String,
    /// The enterprise's key, `ga_pro_`.
    pub(super) enterprise_key: String,
    /// A key of the startup that may call `deepseek-ai/…` alone, with small requests.
    pub(super) narrow_key: String,
    /// A key of the startup that may spend little at once.
    pub(super) thrifty_key: String,
    /// A key of the startup that was revoked.
    pub(super) revoked_key: String,
    /// Of the startup; its budget is set when the demo comes to it.
    pub(super) budgeted_key: String,
    pub(super) budgeted_key_id: String,
}

/// Makes all of it.
pub(super) async fn build(client: &Client, stage: &mut Stage) -> Result<World, CliError> {
    stage.chapter("Prices", "The catalogue that comes with Tollgate, per million tokens.")?;
    publish(client, stage).await?;
    stage.chapter(
        "Customers",
        "A startup pays credits in advance; an enterprise pays by invoice within 30 days.",
    )?;
    let (startup, enterprise) = free_handles(client).await?;
    create(client, &startup, "Startup Labs", startup_contract()).await?;
    create(client, &enterprise, "Enterprise SE", enterprise_contract()).await?;
    top_up(client, &startup).await?;

    let everything = KeyLimits::default;
    let narrow = KeyLimits {
        allowed_models: vec!["deepseek-ai/*".to_owned()],
        max_tokens_per_request: 8_000,
        ..everything()
    };
    let thrifty = KeyLimits { max_cost_per_request: Some(money("0.01", "USD")), ..everything() };
    let (startup_key, _) =
        issue(client, &startup, "production", Tier::Standard, everything()).await?;
    let (narrow_key, _) = issue(client, &startup, "narrow", Tier::Standard, narrow).await?;
    let (thrifty_key, _) = issue(client, &startup, "thrifty", Tier::Standard, thrifty).await?;
    let (budgeted_key, budgeted_key_id) =
        issue(client, &startup, "intern", Tier::Standard, everything()).await?;
    let (revoked_key, revoked_id) =
        issue(client, &startup, "leaked", Tier::Standard, everything()).await?;
    let (enterprise_key, _) =
        issue(client, &enterprise, "production", Tier::Pro, everything()).await?;
    let request = RevokeKeyRequest {
        key_id: revoked_id,
        reason: "found in a public repository".to_owned(),
        idempotency_key: new_idempotency_key(),
    };
    client.keys().revoke_key(request).await?;

    let world = World {
        startup,
        enterprise,
        startup_key,
        enterprise_key,
        narrow_key,
        thrifty_key,
        revoked_key,
        budgeted_key,
        budgeted_key_id,
    };
    stage.show(world.table())?;
    Ok(world)
}

async fn publish(client: &Client, stage: &mut Stage) -> Result<(), CliError> {
    let import = shipped::read().map_err(|problem| CliError::failed(problem.to_string()))?;
    let mut request = publication_message(&import, &new_idempotency_key());
    request.models.push(Model {
        name: UNPRICED_MODEL.to_owned(),
        provider: "demo".to_owned(),
        ..Model::default()
    });
    let published = client.catalog().publish_prices(request).await?.into_inner();
    stage.show(Table::record(
        "prices",
        vec![
            ("models", Value::Count(import.models.len() as u64)),
            ("models_added", Value::Count(published.models_added.into())),
            ("prices_added", Value::Count(published.prices_added.into())),
            ("prices_unchanged", Value::Count(published.prices_unchanged.into())),
        ],
    ))
}

/// `startup` and `enterprise`, or with the first number that is free for both.
async fn free_handles(client: &Client) -> Result<(String, String), CliError> {
    let mut taken = HashSet::new();
    let mut accounts = client.accounts();
    let mut pages = Pages::all();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListAccountsRequest { status: 0, page_size, page_token };
        let page = accounts.list_accounts(request).await?.into_inner();
        pages.came(page.accounts.len(), page.next_page_token);
        taken.extend(page.accounts.into_iter().map(|account| account.handle));
    }
    let numbered = |name: &str, number: u64| match number {
        1 => name.to_owned(),
        _ => format!("{name}-{number}"),
    };
    (1..=MAX_RUNS)
        .map(|number| (numbered("startup", number), numbered("enterprise", number)))
        .find(|(startup, enterprise)| !taken.contains(startup) && !taken.contains(enterprise))
        .ok_or_else(|| {
            CliError::failed(format!(
                "the demo has run {MAX_RUNS} times on this data directory; start with a new one"
            ))
        })
}

fn startup_contract() -> Contract {
    Contract { legal_name: "Startup Labs Inc.".to_owned(), ..Contract::default() }
}

fn enterprise_contract() -> Contract {
    Contract {
        legal_name: "Enterprise SE".to_owned(),
        address: Some(Address {
            line_1: "Hafenstraße 1".to_owned(),
            city: "Hamburg".to_owned(),
            postal_code: "20457".to_owned(),
            country_code: "DE".to_owned(),
            ..Address::default()
        }),
        tax_id: "DE136695976".to_owned(),
        tax_treatment: TaxTreatment::ReverseCharge.into(),
        purchase_order: "PO-4711".to_owned(),
        accounts_payable_email: "ap@enterprise.example".to_owned(),
        payment_terms: PaymentTerms::Net30.into(),
        credit_limit: Some(money(CREDIT_LIMIT, "USD")),
        ..Contract::default()
    }
}

async fn create(
    client: &Client,
    handle: &str,
    name: &str,
    contract: Contract,
) -> Result<(), CliError> {
    let request = CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: name.to_owned(),
        currency_code: "USD".to_owned(),
        contract: Some(contract),
        idempotency_key: new_idempotency_key(),
    };
    client.accounts().create_account(request).await?;
    Ok(())
}

async fn top_up(client: &Client, account: &str) -> Result<(), CliError> {
    let key = new_idempotency_key();
    let payment = TopUpRequest {
        account: account.to_owned(),
        amount: Some(money(TOP_UP, "USD")),
        method: PaymentMethod::Visa.into(),
        external_reference: format!("ch_{key}"),
        note: "demo".to_owned(),
        idempotency_key: key,
    };
    client.credits().top_up(payment).await?;
    let welcome = GrantCreditRequest {
        account: account.to_owned(),
        amount: Some(money(WELCOME, "USD")),
        reason: "welcome".to_owned(),
        idempotency_key: new_idempotency_key(),
    };
    client.credits().grant_credit(welcome).await?;
    Ok(())
}

/// The key and its id.
async fn issue(
    client: &Client,
    account: &str,
    name: &str,
    tier: Tier,
    limits: KeyLimits,
) -> Result<(String, String), CliError> {
    let request = IssueKeyRequest {
        project: String::new(),
        account: account.to_owned(),
        name: name.to_owned(),
        tier: tier.into(),
        limits: Some(limits),
        expires_at: None,
        idempotency_key: new_idempotency_key(),
    };
    let issued = client.keys().issue_key(request).await?.into_inner();
    Ok((issued.api_key, required(issued.key, "key")?.key_id))
}

impl World {
    fn table(&self) -> Table {
        let mut table = Table::list("customers", &["account", "key", "may", "funds"]);
        let prepaid = format!("${TOP_UP} paid by Visa, ${WELCOME} promotional");
        let rows = [
            (&self.startup, "production", "all standard models", prepaid.as_str()),
            (&self.startup, "narrow", "deepseek-ai/*, 8,000 tokens at most", "the same"),
            (&self.startup, "thrifty", "$0.01 for a request at most", "the same"),
            (&self.startup, "intern", "all standard models, $0.10 a day", "the same"),
            (&self.startup, "leaked", "nothing: revoked", "the same"),
            (&self.enterprise, "production", "all models, Pro/ too", "invoice, up to $2.50"),
        ];
        for (account, key, may, funds) in rows {
            table.row([text(account), text(key), text(may), text(funds)]);
        }
        table
    }

    /// Commands to paste; they name this run's customers and keys.
    pub(super) fn next_commands(&self, session: &Session) -> String {
        let Self { startup, enterprise, startup_key, enterprise_key, .. } = self;
        let exports = session.exports();
        let (address, token) = session.grpcurl();
        format!(
            "\n\u{1b}[1;36mNext\u{1b}[0m\nThe server goes on running. Paste what you like:\n
{exports}  STARTUP_KEY={startup_key}
  ENTERPRISE_KEY={enterprise_key}

  tollgate balance {startup} {enterprise}
  tollgate budget set {startup} 5 --per month --soft
  tollgate budget list {startup}
  tollgate credit top-up {startup} 20 --method wire --reference 'transfer 7'
  tollgate authorization authorize --key $STARTUP_KEY --model gpt-4o --input 1200 --max-output 400
  tollgate model compare --tokens 5M deepseek-ai/DeepSeek-V4-Flash gpt-4o
  tollgate usage list {enterprise}
  tollgate invoice preview {enterprise}
  tollgate ledger transfers {startup}

  grpcurl {address} list
  grpcurl -H \"authorization: Bearer {token}\" \\
      -d '{{\"api_key\": \"'$ENTERPRISE_KEY'\", \"input_tokens\": 1200, \"max_output_tokens\": 400,
           \"model\": \"Pro/deepseek-ai/DeepSeek-V3.2\"}}' \\
      {address} tollgate.v1.AuthorizationService/Authorize
  grpcurl -H \"authorization: Bearer {token}\" \\
      -d '{{\"account\": \"{startup}\"}}' {address} tollgate.v1.CreditService/GetBalance"
        )
    }
}
