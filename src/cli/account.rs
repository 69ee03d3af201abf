//! `tollgate account`: customers and their contracts.

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        Session,
        args::{self, Idempotency, Limit, required},
        client::Authorized,
        error::CliError,
        output::{Table, Value, decimal, moment, money, text, word},
        personal_data,
    },
    proto::{
        Account, AccountStatus, Address, CloseAccountRequest, Contract, CreateAccountRequest,
        GetAccountRequest, ListAccountsRequest, ModelDiscount, PaymentTerms, ResumeAccountRequest,
        SuspendAccountRequest, TaxTreatment, UpdateAccountRequest,
        account_service_client::AccountServiceClient,
    },
};

const CREATE_EXAMPLES: &str = "\
Examples:
  tollgate account create acme --name 'Acme Inc.'
  tollgate account create globex --name Globex --currency EUR --payment-terms net-30 \\
      --credit-limit 5000 --legal-name 'Globex GmbH' --address-line-1 'Ring 1' --city Berlin \\
      --postal-code 10115 --country DE --tax-id DE123456789 --tax-treatment reverse-charge \\
      --accounts-payable-email ap@globex.example --discount 5 --model-discount 'gpt-*=10'";
const SHOW_EXAMPLES: &str = "Examples:
  tollgate account show acme
  tollgate account show acme --output json";
const LIST_EXAMPLES: &str = "Examples:
  tollgate account list
  tollgate account list --status suspended --all --output csv";
const UPDATE_EXAMPLES: &str = "\
Only what is named changes; an empty text clears.

Examples:
  tollgate account update acme --credit-limit 10000 --payment-terms net-30
  tollgate account update acme --purchase-order '' --model-discount 'Pro/*=15'
  tollgate account update acme --dpa-reference 'DPA 2026-17' --dpa-signed-on 2026-11-22 \\
      --details-retention-days 90";
const SUSPEND_EXAMPLES: &str = "\
Every key of the account is denied until it is resumed.

Examples:
  tollgate account suspend acme --reason 'payment overdue since 1 November'";
const RESUME_EXAMPLES: &str = "Examples:
  tollgate account resume acme --reason 'paid'";
const CLOSE_EXAMPLES: &str = "\
For good; refused while any balance or reservation is not zero.

Examples:
  tollgate account close acme --reason 'contract ended'";

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Add a customer
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// Show one with its contract
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Handle or id
        account: String,
    },
    /// List customers
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those that are so
        #[arg(long, value_enum)]
        status: Option<Status>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change name or contract
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(Box<UpdateArgs>),
    /// Deny all its keys for now
    #[command(after_help = SUSPEND_EXAMPLES)]
    Suspend(ChangeArgs),
    /// Take a suspension back
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(ChangeArgs),
    /// Write down what is stored about it or one of its end users
    #[command(after_help = personal_data::EXPORT_EXAMPLES)]
    ExportPersonalData(personal_data::ExportArgs),
    /// Erase what is personal of it or one of its end users, and keep the books
    #[command(after_help = personal_data::ERASE_EXAMPLES)]
    ErasePersonalData(personal_data::EraseArgs),
    /// End it for good
    #[command(after_help = CLOSE_EXAMPLES)]
    Close(ChangeArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Unique and short: 2 to 40 of a-z, 0-9 and -, beginning with a letter
    handle: String,
    /// The name that people see [default: the handle]
    #[arg(long)]
    name: Option<String>,
    /// ISO 4217; fixed for the account's life
    #[arg(long, default_value = "USD")]
    currency: String,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// Handle or id
    account: String,
    /// The name that people see
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// Handle or id
    account: String,
    /// Why; kept with the account
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    idempotency: Idempotency,
}

/// Each field of the contract, where it is given.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Contract")]
pub(super) struct ContractArgs {
    /// The company's registered name
    #[arg(long)]
    legal_name: Option<String>,
    /// Street and number
    #[arg(long = "address-line-1", value_name = "TEXT")]
    address_line_1: Option<String>,
    /// Second line of the address
    #[arg(long = "address-line-2", value_name = "TEXT")]
    address_line_2: Option<String>,
    /// City
    #[arg(long)]
    city: Option<String>,
    /// Postal code
    #[arg(long)]
    postal_code: Option<String>,
    /// State, province or canton
    #[arg(long)]
    subdivision: Option<String>,
    /// ISO 3166-1 alpha-2, such as DE
    #[arg(long)]
    country: Option<String>,
    /// The company register's number
    #[arg(long, value_name = "ID")]
    registration_id: Option<String>,
    /// The VAT id or other tax number
    #[arg(long, value_name = "ID")]
    tax_id: Option<String>,
    /// How its invoices are taxed
    #[arg(long, value_enum)]
    tax_treatment: Option<Treatment>,
    /// The tax rate in percent
    #[arg(long, value_name = "PERCENT")]
    tax_rate: Option<String>,
    /// The customer's order number for its invoices
    #[arg(long, value_name = "NUMBER")]
    purchase_order: Option<String>,
    /// The customer's cost centre for its invoices
    #[arg(long)]
    cost_centre: Option<String>,
    /// Where invoices go
    #[arg(long, value_name = "EMAIL")]
    accounts_payable_email: Option<String>,
    /// Credits in advance, or an invoice
    #[arg(long, value_enum)]
    payment_terms: Option<Terms>,
    /// What a Net-30 account may owe, tax included
    #[arg(long, value_name = "AMOUNT", value_parser = args::parse_amount)]
    credit_limit: Option<String>,
    /// Off every price, in percent
    #[arg(long, value_name = "PERCENT")]
    discount: Option<String>,
    /// Instead of --discount for a model or a pattern that ends in *; repeat for more, which
    /// replaces the whole list; '' clears it
    #[arg(long, value_name = "MODEL=PERCENT")]
    model_discount: Vec<String>,
    /// The data processing agreement (GDPR Art. 28): its number or where it is kept
    #[arg(long, value_name = "TEXT")]
    dpa_reference: Option<String>,
    /// The day on which it was signed, such as 2026-11-22
    #[arg(long, value_name = "DAY")]
    dpa_signed_on: Option<String>,
    /// For how many days details of usage are kept; 0 for what the server says
    #[arg(long, value_name = "DAYS")]
    details_retention_days: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Status {
    Active,
    Suspended,
    Closed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Treatment {
    /// At the tax rate
    Standard,
    /// No tax
    Exempt,
    /// The customer accounts for it
    ReverseCharge,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Terms {
    /// Credits in advance
    Prepaid,
    /// An invoice, due in 30 days
    #[value(name = "net-30")]
    Net30,
}

impl ContractArgs {
    /// Puts what was given over what is there.
    fn apply(&self, contract: &mut Contract, currency: &str) -> Result<(), CliError> {
        let set = |field: &mut String, given: &Option<String>| {
            if let Some(given) = given {
                field.clone_from(given);
            }
        };
        set(&mut contract.legal_name, &self.legal_name);
        self.apply_address(&mut contract.address);
        set(&mut contract.registration_id, &self.registration_id);
        set(&mut contract.tax_id, &self.tax_id);
        set(&mut contract.tax_rate_percent, &self.tax_rate);
        set(&mut contract.purchase_order, &self.purchase_order);
        set(&mut contract.cost_centre, &self.cost_centre);
        set(&mut contract.accounts_payable_email, &self.accounts_payable_email);
        set(&mut contract.discount_percent, &self.discount);
        set(&mut contract.dpa_reference, &self.dpa_reference);
        set(&mut contract.dpa_signed_on, &self.dpa_signed_on);
        if let Some(days) = self.details_retention_days {
            contract.details_retention_days = days;
        }
        if let Some(treatment) = self.tax_treatment {
            contract.set_tax_treatment(match treatment {
                Treatment::Standard => TaxTreatment::Standard,
                Treatment::Exempt => TaxTreatment::Exempt,
                Treatment::ReverseCharge => TaxTreatment::ReverseCharge,
            });
        }
        if let Some(terms) = self.payment_terms {
            contract.set_payment_terms(match terms {
                Terms::Prepaid => PaymentTerms::Prepaid,
                Terms::Net30 => PaymentTerms::Net30,
            });
        }
        if let Some(limit) = &self.credit_limit {
            contract.credit_limit = Some(args::money(limit, currency));
        }
        if !self.model_discount.is_empty() {
            contract.model_discounts = model_discounts(&self.model_discount)?;
        }
        Ok(())
    }

    fn apply_address(&self, address: &mut Option<Address>) {
        let mut changed = address.take().unwrap_or_default();
        let fields = [
            (&mut changed.line_1, &self.address_line_1),
            (&mut changed.line_2, &self.address_line_2),
            (&mut changed.city, &self.city),
            (&mut changed.postal_code, &self.postal_code),
            (&mut changed.subdivision, &self.subdivision),
            (&mut changed.country_code, &self.country),
        ];
        for (field, given) in fields {
            if let Some(given) = given {
                field.clone_from(given);
            }
        }
        *address = (changed != Address::default()).then_some(changed);
    }
}

fn model_discounts(given: &[String]) -> Result<Vec<ModelDiscount>, CliError> {
    let pairs = given.iter().filter(|text| !text.is_empty());
    pairs
        .map(|pair| {
            let (model, percent) = args::parse_pair(pair)
                .map_err(|problem| CliError::usage(format!("--model-discount: {problem}")))?;
            Ok(ModelDiscount { model, percent })
        })
        .collect()
}

type Accounts = AccountServiceClient<Authorized>;

pub(super) async fn run(command: AccountCommand, session: &Session) -> Result<(), CliError> {
    let mut accounts = session.connect().await?.accounts();
    let account = match command {
        AccountCommand::List { status, limit } => {
            return list(&mut accounts, session, status, &limit).await;
        }
        AccountCommand::ExportPersonalData(args) => {
            return personal_data::export(&mut accounts, args).await;
        }
        AccountCommand::ErasePersonalData(args) => {
            return personal_data::erase(&mut accounts, session, args).await;
        }
        AccountCommand::Create(args) => create(&mut accounts, *args).await?,
        AccountCommand::Update(args) => update(&mut accounts, *args).await?,
        AccountCommand::Show { account } => {
            accounts.get_account(GetAccountRequest { account }).await?.into_inner().account
        }
        AccountCommand::Suspend(ChangeArgs { account, reason, idempotency }) => {
            let idempotency_key = idempotency.key();
            let request = SuspendAccountRequest { account, reason, idempotency_key };
            accounts.suspend_account(request).await?.into_inner().account
        }
        AccountCommand::Resume(ChangeArgs { account, reason, idempotency }) => {
            let idempotency_key = idempotency.key();
            let request = ResumeAccountRequest { account, reason, idempotency_key };
            accounts.resume_account(request).await?.into_inner().account
        }
        AccountCommand::Close(ChangeArgs { account, reason, idempotency }) => {
            let idempotency_key = idempotency.key();
            let request = CloseAccountRequest { account, reason, idempotency_key };
            accounts.close_account(request).await?.into_inner().account
        }
    };
    session.output.show(&record(required(account, "account")?))
}

async fn create(accounts: &mut Accounts, args: CreateArgs) -> Result<Option<Account>, CliError> {
    let mut contract = Contract::default();
    args.contract.apply(&mut contract, &args.currency)?;
    let request = CreateAccountRequest {
        display_name: args.name.unwrap_or_else(|| args.handle.clone()),
        handle: args.handle,
        currency_code: args.currency,
        contract: Some(contract),
        idempotency_key: args.idempotency.key(),
    };
    Ok(accounts.create_account(request).await?.into_inner().account)
}

/// Reads the contract, changes what was named, and sends it back with the version that was read.
async fn update(accounts: &mut Accounts, args: UpdateArgs) -> Result<Option<Account>, CliError> {
    let request = GetAccountRequest { account: args.account.clone() };
    let found = accounts.get_account(request).await?.into_inner().account;
    let found = required(found, "account")?;
    let mut contract = found.contract.unwrap_or_default();
    args.contract.apply(&mut contract, &found.currency_code)?;
    let request = UpdateAccountRequest {
        account: args.account,
        display_name: args.name.unwrap_or_default(),
        contract: Some(contract),
        version: found.version,
        idempotency_key: args.idempotency.key(),
    };
    Ok(accounts.update_account(request).await?.into_inner().account)
}

async fn list(
    accounts: &mut Accounts,
    session: &Session,
    status: Option<Status>,
    limit: &Limit,
) -> Result<(), CliError> {
    let status = status.map_or(AccountStatus::Unspecified, |status| match status {
        Status::Active => AccountStatus::Active,
        Status::Suspended => AccountStatus::Suspended,
        Status::Closed => AccountStatus::Closed,
    });
    let columns = ["handle", "name", "status", "terms", "currency", "account_id", "created_at"];
    let mut table = Table::list("accounts", &columns);
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListAccountsRequest { status: status.into(), page_size, page_token };
        let page = accounts.list_accounts(request).await?.into_inner();
        pages.came(page.accounts.len(), page.next_page_token);
        for account in page.accounts {
            let terms = account.contract.as_ref().map(terms_word);
            table.row([
                text(&account.handle),
                text(&account.display_name),
                status_word(&account),
                terms.unwrap_or(Value::Nothing),
                text(&account.currency_code),
                text(&account.account_id),
                moment(account.created_at),
            ]);
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

fn status_word(account: &Account) -> Value {
    word(account.status().as_str_name(), "ACCOUNT_STATUS_")
}

fn terms_word(contract: &Contract) -> Value {
    word(contract.payment_terms().as_str_name(), "PAYMENT_TERMS_")
}

fn record(account: Account) -> Table {
    let status = status_word(&account);
    let contract = account.contract.unwrap_or_default();
    let terms = terms_word(&contract);
    let treatment = word(contract.tax_treatment().as_str_name(), "TAX_TREATMENT_");
    let retention = match contract.details_retention_days {
        0 => Value::Nothing,
        days => Value::Number(days.into()),
    };
    let address = contract.address.unwrap_or_default();
    let discounts = contract.model_discounts.iter();
    let discounts: Vec<String> =
        discounts.map(|discount| format!("{}={}", discount.model, discount.percent)).collect();
    Table::record(
        "account",
        vec![
            ("handle", text(account.handle)),
            ("name", text(account.display_name)),
            ("account_id", text(account.account_id)),
            ("status", status),
            ("status_reason", text(account.status_reason)),
            ("currency", text(account.currency_code)),
            ("payment_terms", terms),
            ("credit_limit", money(contract.credit_limit)),
            ("discount_percent", decimal(contract.discount_percent)),
            ("model_discounts", Value::List(discounts)),
            ("legal_name", text(contract.legal_name)),
            ("address_line_1", text(address.line_1)),
            ("address_line_2", text(address.line_2)),
            ("city", text(address.city)),
            ("postal_code", text(address.postal_code)),
            ("subdivision", text(address.subdivision)),
            ("country", text(address.country_code)),
            ("registration_id", text(contract.registration_id)),
            ("tax_id", text(contract.tax_id)),
            ("tax_treatment", treatment),
            ("tax_rate_percent", decimal(contract.tax_rate_percent)),
            ("purchase_order", text(contract.purchase_order)),
            ("cost_centre", text(contract.cost_centre)),
            ("accounts_payable_email", text(contract.accounts_payable_email)),
            ("dpa_reference", text(contract.dpa_reference)),
            ("dpa_signed_on", text(contract.dpa_signed_on)),
            ("details_retention_days", retention),
            ("version", Value::Number(account.version)),
            ("created_at", moment(account.created_at)),
            ("updated_at", moment(account.updated_at)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_what_is_named_and_nothing_else() {
        let mut contract = Contract {
            legal_name: "Acme Inc.".into(),
            purchase_order: "PO 7".into(),
            address: Some(Address { city: "Bonn".into(), ..Address::default() }),
            ..Contract::default()
        };
        let given = ContractArgs {
            purchase_order: Some(String::new()),
            country: Some("DE".into()),
            credit_limit: Some("500".into()),
            model_discount: vec!["gpt-*=10".into(), "Pro/*=5".into()],
            ..ContractArgs::default()
        };
        given.apply(&mut contract, "EUR").unwrap();
        assert_eq!(contract.legal_name, "Acme Inc.");
        assert_eq!(contract.purchase_order, "");
        let address = contract.address.unwrap();
        assert_eq!((address.city.as_str(), address.country_code.as_str()), ("Bonn", "DE"));
        assert_eq!(contract.credit_limit.unwrap().currency_code, "EUR");
        assert_eq!(contract.model_discounts.len(), 2);
    }

    #[test]
    fn a_discount_without_a_percentage_is_told_its_form() {
        let given =
            ContractArgs { model_discount: vec!["gpt-4o".into()], ..ContractArgs::default() };
        let told = given.apply(&mut Contract::default(), "USD").unwrap_err().to_string();
        assert!(told.contains("NAME=VALUE"), "{told}");
    }
}
