//! `tollgate payment`: what customers pay for invoices.

use clap::{Args, Subcommand};

use crate::{
    cli::{
        Session,
        args::{self, Idempotency, Limit, required},
        client::Authorized,
        credit::Method,
        error::CliError,
        output::{Table, Value, moment, money, text, word},
    },
    proto::{
        AllocatePaymentRequest, GetPaymentRequest, ListPaymentsRequest, Money, Payment,
        PaymentAllocation, RecordPaymentRequest, ReversePaymentRequest,
        billing_service_client::BillingServiceClient,
    },
};

const RECORD_EXAMPLES: &str = "\
What no invoice gets stays unapplied: the customer's, but never spendable. The reference is unique for
each method: the same payment is never recorded twice.

Examples:
  tollgate payment record acme 1190 --method wire --reference 'E2E 7' --invoice INV-2026-000001
  tollgate payment record acme 500 --method wire --reference 'E2E 8' --oldest-first
  tollgate payment record acme 95 --method wire --reference 'E2E 9' --invoice INV-2026-000002=95+5
  tollgate payment record acme 100 --method wire --reference 'E2E 10' --fee 0.30";
const ALLOCATE_EXAMPLES: &str = "\
Takes what is unapplied of a payment, or of a credit note.

Examples:
  tollgate payment allocate 0196f1c2-… --invoice INV-2026-000003
  tollgate payment allocate CN-2026-000001 --oldest-first";
const REVERSE_EXAMPLES: &str = "\
For a payment that bounced or was recalled, and for an overpayment that is paid back. What belongs to no
invoice goes first; invoices that were paid by the rest are open again.

Examples:
  tollgate payment reverse 0196f1c2-… --reference 'R 81' --reason 'insufficient funds'
  tollgate payment reverse 0196f1c2-… --amount 20 --reference 'R 82' --reason 'paid twice'
  tollgate payment reverse CN-2026-000001 --method wire --reference 'R 83' --reason 'asked for'";
const LIST_EXAMPLES: &str = "\
Examples:
  tollgate payment list acme
  tollgate payment list --unapplied --all --output csv";
const SHOW_EXAMPLES: &str = "\
Examples:
  tollgate payment show 0196f1c2-…";

#[derive(Debug, Subcommand)]
pub(super) enum PaymentCommand {
    /// Record a payment for invoices
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Give invoices what is unapplied
    #[command(after_help = ALLOCATE_EXAMPLES)]
    Allocate {
        /// The payment's id, or a credit note's number or id
        payment: String,
        #[command(flatten)]
        invoices: Invoices,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Record that a payment went back
    #[command(after_help = REVERSE_EXAMPLES)]
    Reverse {
        /// The payment's id, or a credit note's number or id
        payment_id: String,
        /// How a credit note is paid out
        #[arg(long, value_enum)]
        method: Option<Method>,
        /// How much went back [default: all that is left]
        #[arg(long, value_parser = args::parse_amount)]
        amount: Option<String>,
        /// The return's id at the processor or bank
        #[arg(long, value_name = "ID")]
        reference: String,
        /// Why; kept with it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// List payments, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Handle or id [default: all accounts]
        account: Option<String>,
        /// Only those of which something belongs to no invoice
        #[arg(long)]
        unapplied: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a payment and what became of it
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The payment's id
        payment_id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// Handle or id
    account: String,
    /// What was paid, the fee included
    #[arg(value_parser = args::parse_amount)]
    amount: String,
    /// How it was paid
    #[arg(long, value_enum)]
    method: Method,
    /// The payment's id at its processor or bank
    #[arg(long, value_name = "ID")]
    reference: String,
    #[command(flatten)]
    invoices: Invoices,
    /// When it reached us, such as 2026-11-26 [default: today]
    #[arg(long, value_name = "DAY", default_value = "", hide_default_value = true)]
    received_on: String,
    /// What a bank or processor kept of it
    #[arg(long, value_parser = args::parse_amount)]
    fee: Option<String>,
    /// Anything worth keeping with it
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Args)]
pub(super) struct Invoices {
    /// An invoice that it pays: NUMBER, NUMBER=AMOUNT, or NUMBER=AMOUNT+TAX WITHHELD; may be repeated
    #[arg(long = "invoice", value_name = "INVOICE", value_parser = parse_share)]
    shares: Vec<Share>,
    /// The rest pays open invoices, those that are due first
    #[arg(long)]
    oldest_first: bool,
}

#[derive(Debug, Clone)]
struct Share {
    invoice: String,
    amount: Option<String>,
    withheld: Option<String>,
}

fn parse_share(text: &str) -> Result<Share, String> {
    let Some((invoice, amounts)) = text.split_once('=') else {
        return Ok(Share { invoice: text.to_owned(), amount: None, withheld: None });
    };
    let (amount, withheld) = match amounts.split_once('+') {
        Some((amount, withheld)) => (amount, Some(args::parse_amount(withheld)?)),
        None => (amounts, None),
    };
    let amount = Some(args::parse_amount(amount)?);
    Ok(Share { invoice: invoice.to_owned(), amount, withheld })
}

impl Invoices {
    fn allocations(&self, currency: &str) -> Vec<PaymentAllocation> {
        let money = |amount: &Option<String>| -> Option<Money> {
            amount.as_ref().map(|amount| args::money(amount, currency))
        };
        self.shares
            .iter()
            .map(|share| PaymentAllocation {
                invoice: share.invoice.clone(),
                amount: money(&share.amount),
                withheld: money(&share.withheld),
            })
            .collect()
    }
}

type Billing = BillingServiceClient<Authorized>;

pub(super) async fn run(command: PaymentCommand, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut billing = client.billing();
    match command {
        PaymentCommand::Record(args) => {
            let currency = client.currency_of(&args.account).await?;
            let request = RecordPaymentRequest {
                amount: Some(args::money(&args.amount, &currency)),
                method: args.method.into(),
                external_reference: args.reference,
                received_on: args.received_on,
                allocations: args.invoices.allocations(&currency),
                oldest_first: args.invoices.oldest_first,
                fee: args.fee.map(|fee| args::money(&fee, &currency)),
                note: args.note,
                idempotency_key: args.idempotency.key(),
                account: args.account,
            };
            let answer = billing.record_payment(request).await?.into_inner();
            let mut tables = details(required(answer.payment, "payment")?);
            if answer.duplicate {
                session.output.note("it had been recorded before; nothing changed")?;
            }
            tables.retain(|table| !table.is_empty());
            session.output.show_all(&tables)
        }
        PaymentCommand::Allocate { payment, invoices, idempotency } => {
            let currency = currency_of(&mut billing, &payment).await?;
            let request = AllocatePaymentRequest {
                payment,
                allocations: invoices.allocations(&currency),
                oldest_first: invoices.oldest_first,
                idempotency_key: idempotency.key(),
            };
            let answer = billing.allocate_payment(request).await?.into_inner();
            let fields =
                vec![("applied", money(answer.applied)), ("unapplied", money(answer.unapplied))];
            session.output.show(&Table::record("allocation", fields))
        }
        PaymentCommand::Reverse { payment_id, method, amount, reference, reason, idempotency } => {
            let amount = match amount {
                Some(amount) => {
                    let currency = currency_of(&mut billing, &payment_id).await?;
                    Some(args::money(&amount, &currency))
                }
                None => None,
            };
            let request = ReversePaymentRequest {
                payment_id,
                amount,
                external_reference: reference,
                reason,
                idempotency_key: idempotency.key(),
                method: method.map_or(0, i32::from),
            };
            let answer = billing.reverse_payment(request).await?.into_inner();
            let left = Table::record("left", vec![("unapplied", money(answer.unapplied))]);
            let tables = answer.payment.map_or_else(|| vec![left], details);
            session.output.show_all(&tables)
        }
        PaymentCommand::List { account, unapplied, limit } => {
            list(&mut billing, account, unapplied, &limit, session).await
        }
        PaymentCommand::Show { payment_id } => {
            let request = GetPaymentRequest { payment_id };
            let payment = billing.get_payment(request).await?.into_inner().payment;
            session.output.show_all(&details(required(payment, "payment")?))
        }
    }
}

/// The currency of a payment, or of a credit note.
async fn currency_of(billing: &mut Billing, payment: &str) -> Result<String, CliError> {
    let amount = if payment.starts_with("CN-") {
        let request = crate::proto::GetInvoiceRequest { invoice: payment.to_owned() };
        let note = billing.get_invoice(request).await?.into_inner().invoice;
        note.and_then(|note| note.invoice).and_then(|note| note.gross)
    } else {
        let request = GetPaymentRequest { payment_id: payment.to_owned() };
        let payment = billing.get_payment(request).await?.into_inner().payment;
        payment.and_then(|payment| payment.amount)
    };
    Ok(required(amount, "amount")?.currency_code)
}

async fn list(
    billing: &mut Billing,
    account: Option<String>,
    only_unapplied: bool,
    limit: &Limit,
    session: &Session,
) -> Result<(), CliError> {
    let columns = [
        "payment_id",
        "received_on",
        "method",
        "reference",
        "amount",
        "fee",
        "unapplied",
        "returned",
        "account_id",
        "note",
    ];
    let mut table = Table::list("payments", &columns);
    let mut pages = limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let account = account.clone().unwrap_or_default();
        let request = ListPaymentsRequest { account, only_unapplied, page_size, page_token };
        let page = billing.list_payments(request).await?.into_inner();
        pages.came(page.payments.len(), page.next_page_token);
        for payment in page.payments {
            table.row(record(payment).map(|(_, value)| value));
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

fn record(payment: Payment) -> [(&'static str, Value); 10] {
    let method = word(payment.method().as_str_name(), "PAYMENT_METHOD_");
    [
        ("payment_id", text(payment.payment_id)),
        ("received_on", text(payment.received_on)),
        ("method", method),
        ("reference", text(payment.external_reference)),
        ("amount", money(payment.amount)),
        ("fee", money(payment.fee)),
        ("unapplied", money(payment.unapplied)),
        ("returned", money(payment.returned)),
        ("account_id", text(payment.account_id)),
        ("note", text(payment.note)),
    ]
}

fn details(mut payment: Payment) -> Vec<Table> {
    let settlements = std::mem::take(&mut payment.settlements);
    let mut table = Table::list("settlements", &["kind", "invoice", "amount", "at"]);
    for settlement in settlements {
        table.row([
            text(settlement.kind),
            text(settlement.invoice),
            money(settlement.amount),
            moment(settlement.settled_at),
        ]);
    }
    vec![Table::record("payment", record(payment).into()), table]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invoice_is_named_alone_or_with_what_it_gets() {
        let parts = |text: &str| {
            let share = parse_share(text).unwrap();
            (share.invoice, share.amount, share.withheld)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("INV-1"), ("INV-1".to_owned(), None, None));
        assert_eq!(parts("INV-1=95"), ("INV-1".to_owned(), some("95"), None));
        assert_eq!(parts("INV-1=95+5"), ("INV-1".to_owned(), some("95"), some("5")));
        assert!(parse_share("INV-1=").is_err());
        assert!(parse_share("INV-1=9+x").is_err());
    }
}
