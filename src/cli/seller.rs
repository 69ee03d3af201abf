//! `tollgate seller`: ourselves as invoices name us, and how sales are taxed.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{Idempotency, Limit, required},
        error::CliError,
        output::{Table, Value, decimal, moment, text},
    },
    proto::{
        Address, ElectronicAddress, GetSellerRequest, ListTaxRatesRequest, RemittanceDetails,
        Seller, SetSellerRequest, SetTaxRateRequest, TaxRate,
    },
};

const SET_EXAMPLES: &str = "\
Replaces all of it, for documents that are issued from now on.

Examples:
  tollgate seller set --legal-name 'Gateway GmbH' --line-1 'Weg 1' --city Berlin \\
    --postal-code 10115 --country DE --tax-id DE123456789 --registration-id 'HRB 1234' \\
    --email billing@gateway.example --account-number DE02120300000000202051 --bank-code BYLADEM1001";
const SHOW_EXAMPLES: &str = "\
Examples:
  tollgate seller show";
const TAX_RATE_EXAMPLES: &str = "\
Examples:
  tollgate seller tax-rate set DE 19 --label VAT --from 2026-01-01 --due-on-payment
  tollgate seller tax-rate set US-CA 7.25 --label 'CA sales tax' --from 2026-01-01
  tollgate seller tax-rate list";

#[derive(Debug, Subcommand)]
pub(super) enum SellerCommand {
    /// Say who we are
    #[command(after_help = SET_EXAMPLES)]
    Set(Box<SetArgs>),
    /// Show who we are
    #[command(after_help = SHOW_EXAMPLES)]
    Show,
    /// How jurisdictions tax
    #[command(subcommand, after_help = TAX_RATE_EXAMPLES)]
    TaxRate(TaxRateCommand),
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// The registered name
    #[arg(long)]
    legal_name: String,
    /// The name we do business under, where it is another
    #[arg(long)]
    trading_name: Option<String>,
    /// Street and number
    #[arg(long, value_name = "TEXT")]
    line_1: String,
    /// Building, floor, suite
    #[arg(long, value_name = "TEXT")]
    line_2: Option<String>,
    /// Town
    #[arg(long)]
    city: String,
    /// ZIP or postal code
    #[arg(long)]
    postal_code: Option<String>,
    /// State, province or canton
    #[arg(long)]
    subdivision: Option<String>,
    /// ISO 3166-1 alpha-2, such as DE
    #[arg(long)]
    country: String,
    /// The company register's number
    #[arg(long)]
    registration_id: Option<String>,
    /// The VAT id with its country's prefix, or another tax number
    #[arg(long)]
    tax_id: Option<String>,
    /// Where electronic documents are delivered, as SCHEME:ADDRESS, such as 0204:991-1234
    #[arg(long, value_name = "ADDRESS")]
    electronic_address: Option<String>,
    /// Where questions go
    #[arg(long)]
    email: Option<String>,
    /// The telephone number of who answers them
    #[arg(long)]
    telephone: Option<String>,
    /// Who answers them
    #[arg(long)]
    contact: Option<String>,
    /// Whose bank account it is
    #[arg(long)]
    account_name: Option<String>,
    /// IBAN or account number
    #[arg(long)]
    account_number: Option<String>,
    /// BIC or routing number
    #[arg(long)]
    bank_code: Option<String>,
    /// The bank's name
    #[arg(long)]
    bank_name: Option<String>,
    /// The terms in words [default: Net 30 days]
    #[arg(long)]
    terms: Option<String>,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Subcommand)]
pub(super) enum TaxRateCommand {
    /// Say how a jurisdiction taxes from a day on
    #[command(after_help = TAX_RATE_EXAMPLES)]
    Set {
        /// A country or a part of it, such as DE or US-CA
        jurisdiction: String,
        /// The rate in percent
        rate: String,
        /// What documents call it, such as VAT
        #[arg(long)]
        label: String,
        /// The first day, such as 2026-01-01
        #[arg(long, value_name = "DAY")]
        from: String,
        /// The tax falls due when credits are paid for, as in the EU
        #[arg(long)]
        due_on_payment: bool,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// List the entries, the newest of each jurisdiction first
    #[command(after_help = TAX_RATE_EXAMPLES)]
    List {
        /// Only this jurisdiction
        jurisdiction: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

pub(super) async fn run(command: SellerCommand, session: &Session) -> Result<(), CliError> {
    let mut service = session.connect().await?.seller();
    match command {
        SellerCommand::Set(args) => {
            let idempotency_key = args.idempotency.key();
            let request = SetSellerRequest { seller: Some(seller(*args)?), idempotency_key };
            let seller = service.set_seller(request).await?.into_inner().seller;
            session.output.show(&record(required(seller, "seller")?))
        }
        SellerCommand::Show => {
            let seller = service.get_seller(GetSellerRequest {}).await?.into_inner().seller;
            session.output.show(&record(required(seller, "seller")?))
        }
        SellerCommand::TaxRate(TaxRateCommand::Set {
            jurisdiction,
            rate,
            label,
            from,
            due_on_payment,
            idempotency,
        }) => {
            let tax_rate = TaxRate {
                jurisdiction,
                effective_from: from,
                rate_percent: rate,
                label,
                due_on_payment,
            };
            let request =
                SetTaxRateRequest { tax_rate: Some(tax_rate), idempotency_key: idempotency.key() };
            let set = service.set_tax_rate(request).await?.into_inner().tax_rate;
            session.output.show(&tax_rates([required(set, "tax_rate")?]))
        }
        SellerCommand::TaxRate(TaxRateCommand::List { jurisdiction, limit }) => {
            let mut listed = Vec::new();
            let mut pages = limit.pages();
            while let Some((page_size, page_token)) = pages.next_page() {
                let jurisdiction = jurisdiction.clone().unwrap_or_default();
                let request = ListTaxRatesRequest { jurisdiction, page_size, page_token };
                let page = service.list_tax_rates(request).await?.into_inner();
                pages.came(page.tax_rates.len(), page.next_page_token);
                listed.extend(page.tax_rates);
            }
            session.output.show(&tax_rates(listed))?;
            session.tell_if_more(&pages)
        }
    }
}

fn seller(args: SetArgs) -> Result<Seller, CliError> {
    let electronic_address = match args.electronic_address.as_deref() {
        None => None,
        Some(text) => {
            let (scheme, address) = text.split_once(':').ok_or_else(|| {
                CliError::usage(format!(
                    "{text:?} has no scheme; write it like 0204:991-1234 or EM:ap@example.com"
                ))
            })?;
            Some(ElectronicAddress { scheme: scheme.to_owned(), address: address.to_owned() })
        }
    };
    Ok(Seller {
        legal_name: args.legal_name,
        trading_name: args.trading_name.unwrap_or_default(),
        address: Some(Address {
            line_1: args.line_1,
            line_2: args.line_2.unwrap_or_default(),
            city: args.city,
            postal_code: args.postal_code.unwrap_or_default(),
            subdivision: args.subdivision.unwrap_or_default(),
            country_code: args.country,
        }),
        registration_id: args.registration_id.unwrap_or_default(),
        tax_id: args.tax_id.unwrap_or_default(),
        electronic_address,
        email: args.email.unwrap_or_default(),
        telephone: args.telephone.unwrap_or_default(),
        contact: args.contact.unwrap_or_default(),
        remittance: Some(RemittanceDetails {
            account_name: args.account_name.unwrap_or_default(),
            account_number: args.account_number.unwrap_or_default(),
            bank_code: args.bank_code.unwrap_or_default(),
            bank_name: args.bank_name.unwrap_or_default(),
            terms: args.terms.unwrap_or_default(),
        }),
        set_at: None,
    })
}

fn record(seller: Seller) -> Table {
    let address = seller.address.unwrap_or_default();
    let remittance = seller.remittance.unwrap_or_default();
    let electronic = seller.electronic_address.map(|one| format!("{}:{}", one.scheme, one.address));
    Table::record(
        "seller",
        vec![
            ("legal_name", text(seller.legal_name)),
            ("trading_name", text(seller.trading_name)),
            ("line_1", text(address.line_1)),
            ("line_2", text(address.line_2)),
            ("city", text(address.city)),
            ("postal_code", text(address.postal_code)),
            ("subdivision", text(address.subdivision)),
            ("country", text(address.country_code)),
            ("registration_id", text(seller.registration_id)),
            ("tax_id", text(seller.tax_id)),
            ("electronic_address", text(electronic.unwrap_or_default())),
            ("email", text(seller.email)),
            ("telephone", text(seller.telephone)),
            ("contact", text(seller.contact)),
            ("account_name", text(remittance.account_name)),
            ("account_number", text(remittance.account_number)),
            ("bank_code", text(remittance.bank_code)),
            ("bank_name", text(remittance.bank_name)),
            ("terms", text(remittance.terms)),
            ("set_at", moment(seller.set_at)),
        ],
    )
}

fn tax_rates(rates: impl IntoIterator<Item = TaxRate>) -> Table {
    let columns = ["jurisdiction", "effective_from", "rate_percent", "label", "due_on_payment"];
    let mut table = Table::list("tax_rates", &columns);
    for rate in rates {
        table.row([
            text(rate.jurisdiction),
            text(rate.effective_from),
            decimal(rate.rate_percent),
            text(rate.label),
            Value::Flag(rate.due_on_payment),
        ]);
    }
    table
}
