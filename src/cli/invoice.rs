//! `tollgate invoice`: closing months, and the documents that this makes.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        Session,
        args::{Idempotency, Limit, required},
        client::Authorized,
        error::CliError,
        invoice_export,
        output::{Table, Value, decimal, money, text, word},
    },
    proto::{
        ClosePeriodRequest, DocumentKind, GetInvoiceRequest, Invoice, InvoiceDetails,
        InvoiceStatus, IssueFinalInvoiceRequest, ListInvoicesRequest, PreviewInvoiceRequest,
        VoidInvoiceRequest, WriteOffRequest, billing_service_client::BillingServiceClient,
    },
};

const CLOSE_EXAMPLES: &str = "\
Invoices every account's usage of a month that is over. Once it is interrupted, run it again: it goes
on where it was, with the same issue date and numbers.

Examples:
  tollgate invoice close --period 2026-10";
const FINAL_EXAMPLES: &str = "\
For a customer who leaves, before the month is over: `tollgate account suspend` first, then this, and
`tollgate account close` once everything is paid.

Examples:
  tollgate invoice final acme";
const PREVIEW_EXAMPLES: &str = "\
Examples:
  tollgate invoice preview acme
  tollgate invoice preview acme --period 2026-10";
const LIST_EXAMPLES: &str = "\
Examples:
  tollgate invoice list acme
  tollgate invoice list --period 2026-10 --kind invoice --all --output csv";
const SHOW_EXAMPLES: &str = "\
Examples:
  tollgate invoice show INV-2026-000001
  tollgate invoice show INV-2026-000001 --output json";

const VOID_EXAMPLES: &str = "\
For an invoice that is wrong as a document: another legal name, tax id or tax treatment. Correct the
account first; the new invoice is to the customer as it is now. What was paid goes to it.

Examples:
  tollgate invoice void INV-2026-000001 --reason 'wrong VAT id'";
const WRITE_OFF_EXAMPLES: &str = "\
Sets the customer's credit limit to zero. A later payment for the invoice is a recovery.

Examples:
  tollgate invoice write-off INV-2026-000001 --reason 'insolvent'
  tollgate invoice write-off INV-2026-000001 --tax-relief --reason 'insolvent'";

/// Of a list of documents.
const COLUMNS: [&str; 14] = [
    "number",
    "kind",
    "period",
    "issue_date",
    "due_date",
    "net",
    "tax",
    "gross",
    "paid",
    "due",
    "status",
    "open",
    "account_id",
    "document_id",
];

#[derive(Debug, Subcommand)]
pub(super) enum InvoiceCommand {
    /// Close a month and invoice it
    #[command(after_help = CLOSE_EXAMPLES)]
    Close {
        /// The month, such as 2026-10
        #[arg(long, value_name = "MONTH")]
        period: String,
    },
    /// Invoice what a suspended account has used up to now
    #[command(after_help = FINAL_EXAMPLES)]
    Final {
        /// Handle or id
        account: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Show what an account's document of a month would be
    #[command(after_help = PREVIEW_EXAMPLES)]
    Preview {
        /// Handle or id
        account: String,
        /// The month, such as 2026-10 [default: the first open one with usage]
        #[arg(long, value_name = "MONTH")]
        period: Option<String>,
    },
    /// List documents, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show a document with its lines
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Number or id
        invoice: String,
    },
    /// Take an invoice back as a whole, and bill its usage again
    #[command(after_help = VOID_EXAMPLES)]
    Void {
        /// Number or id
        invoice: String,
        /// What was wrong with it; the customer reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Give up what is open of an invoice
    #[command(after_help = WRITE_OFF_EXAMPLES)]
    WriteOff {
        /// Number or id
        invoice: String,
        /// The tax in it is not owed to the tax office any more
        #[arg(long)]
        tax_relief: bool,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Write documents as PDF, UBL, CII, CSV or JSON
    #[command(after_help = invoice_export::EXAMPLES)]
    Export(invoice_export::ExportArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Handle or id [default: all accounts]
    account: Option<String>,
    /// Only of this month, such as 2026-10
    #[arg(long, value_name = "MONTH")]
    period: Option<String>,
    /// Only of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only invoices and credit notes of which something is open
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    Invoice,
    PrepaymentInvoice,
    CreditNote,
    Receipt,
    UsageStatement,
}

impl From<Kind> for DocumentKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Invoice => Self::Invoice,
            Kind::PrepaymentInvoice => Self::PrepaymentInvoice,
            Kind::CreditNote => Self::CreditNote,
            Kind::Receipt => Self::Receipt,
            Kind::UsageStatement => Self::UsageStatement,
        }
    }
}

type Billing = BillingServiceClient<Authorized>;

pub(super) async fn run(command: InvoiceCommand, session: &Session) -> Result<(), CliError> {
    let mut billing = session.connect().await?.billing();
    match command {
        InvoiceCommand::Close { period } => close(&mut billing, &period, session).await,
        InvoiceCommand::Final { account, idempotency } => {
            let idempotency_key = idempotency.key();
            let request = IssueFinalInvoiceRequest { account, idempotency_key };
            let made = billing.issue_final_invoice(request).await?.into_inner().invoices;
            let mut table = Table::list("invoices", &COLUMNS);
            for invoice in made.into_iter().filter_map(|details| details.invoice) {
                table.row(record(invoice).map(|(_, value)| value));
            }
            session.output.show(&table)
        }
        InvoiceCommand::Preview { account, period } => {
            let request = PreviewInvoiceRequest { account, period: period.unwrap_or_default() };
            let invoice = billing.preview_invoice(request).await?.into_inner().invoice;
            session.output.show_all(&details(required(invoice, "invoice")?)?)
        }
        InvoiceCommand::List(args) => list(&mut billing, args, session).await,
        InvoiceCommand::Void { invoice, reason, idempotency } => {
            let idempotency_key = idempotency.key();
            void(&mut billing, VoidInvoiceRequest { invoice, reason, idempotency_key }, session)
                .await
        }
        InvoiceCommand::WriteOff { invoice, tax_relief, reason, idempotency } => {
            let idempotency_key = idempotency.key();
            let request = WriteOffRequest { invoice, tax_relief, reason, idempotency_key };
            write_off(&mut billing, request, session).await
        }
        InvoiceCommand::Show { invoice } => {
            let request = GetInvoiceRequest { invoice };
            let invoice = billing.get_invoice(request).await?.into_inner().invoice;
            session.output.show_all(&details(required(invoice, "invoice")?)?)
        }
        InvoiceCommand::Export(args) => invoice_export::export(&mut billing, args, session).await,
    }
}

async fn void(
    billing: &mut Billing,
    request: VoidInvoiceRequest,
    session: &Session,
) -> Result<(), CliError> {
    let answer = billing.void_invoice(request).await?.into_inner();
    let note = required(answer.credit_note, "credit_note")?.invoice;
    let replacement = required(answer.replacement, "replacement")?.invoice;
    session.output.show_all(&[
        Table::record("credit_note", record(required(note, "credit_note.invoice")?).into()),
        Table::record("replacement", record(required(replacement, "replacement.invoice")?).into()),
    ])
}

async fn write_off(
    billing: &mut Billing,
    request: WriteOffRequest,
    session: &Session,
) -> Result<(), CliError> {
    let answer = billing.write_off(request).await?.into_inner();
    let fields = vec![("amount", money(answer.amount)), ("tax", money(answer.tax))];
    session.output.show(&Table::record("write_off", fields))
}

/// Calls until the month is closed, or nothing is left but accounts that cannot be; each call closes
/// some accounts.
async fn close(billing: &mut Billing, period: &str, session: &Session) -> Result<(), CliError> {
    let bar = session.output.is_for_people().then(|| indicatif::ProgressBar::new(0));
    let mut passed_over = BTreeMap::new();
    let progress = loop {
        let request = ClosePeriodRequest { period: period.to_owned(), max_accounts: 0 };
        let mut progress = billing.close_period(request).await?.into_inner();
        if let Some(bar) = &bar {
            let count = |count: i64| u64::try_from(count).unwrap_or(0);
            bar.set_length(count(progress.accounts.saturating_add(progress.remaining)));
            bar.set_position(count(progress.accounts));
        }
        let named = progress.passed_over.drain(..).map(|one| (one.account_id, one.problem));
        passed_over.extend(named);
        if progress.finished || progress.stalled {
            break progress;
        }
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let fields = vec![
        ("period", text(progress.period)),
        ("issue_date", text(progress.issue_date)),
        ("accounts", Value::Number(progress.accounts)),
        ("documents", Value::Number(progress.documents)),
        ("remaining", Value::Number(progress.remaining)),
    ];
    let closing = Table::record("closing", fields);
    if progress.finished {
        return session.output.show(&closing);
    }
    let mut table = Table::list("passed_over", &["account_id", "problem"]);
    for (account, problem) in passed_over {
        table.row([text(account), text(problem)]);
    }
    session.output.show_all(&[closing, table])?;
    Err(CliError::failed(format!(
        "{} accounts could not be closed; remedy what keeps them and close the month again",
        progress.remaining
    )))
}

async fn list(billing: &mut Billing, args: ListArgs, session: &Session) -> Result<(), CliError> {
    let mut table = Table::list("invoices", &COLUMNS);
    let mut pages = args.limit.pages();
    while let Some((page_size, page_token)) = pages.next_page() {
        let request = ListInvoicesRequest {
            account: args.account.clone().unwrap_or_default(),
            period: args.period.clone().unwrap_or_default(),
            kind: args.kind.map_or(DocumentKind::Unspecified, DocumentKind::from).into(),
            page_size,
            page_token,
            only_open: args.open,
        };
        let page = billing.list_invoices(request).await?.into_inner();
        pages.came(page.invoices.len(), page.next_page_token);
        for invoice in page.invoices {
            table.row(record(invoice).map(|(_, value)| value));
        }
    }
    session.output.show(&table)?;
    session.tell_if_more(&pages)
}

fn record(invoice: Invoice) -> [(&'static str, Value); 14] {
    let status = match invoice.status() {
        InvoiceStatus::Unspecified => text(""),
        status => word(status.as_str_name(), "INVOICE_STATUS_"),
    };
    let kind = word(invoice.kind().as_str_name(), "DOCUMENT_KIND_");
    [
        ("number", text(invoice.number)),
        ("kind", kind),
        ("period", text(invoice.period)),
        ("issue_date", text(invoice.issue_date)),
        ("due_date", text(invoice.due_date)),
        ("net", money(invoice.net)),
        ("tax", money(invoice.tax)),
        ("gross", money(invoice.gross)),
        ("paid", money(invoice.paid)),
        ("due", money(invoice.due)),
        ("status", status),
        ("open", money(invoice.open)),
        ("account_id", text(invoice.account_id)),
        ("document_id", text(invoice.document_id)),
    ]
}

/// The document, its lines, what comes off and its tax.
pub(super) fn details(details: InvoiceDetails) -> Result<Vec<Table>, CliError> {
    let invoice = required(details.invoice, "invoice.invoice")?;
    let mut lines = Table::list(
        "lines",
        &[
            "position",
            "description",
            "from",
            "until",
            "quantity",
            "price",
            "per",
            "list_price",
            "discount",
            "net",
        ],
    );
    for line in details.lines {
        lines.row([
            Value::Count(line.position.into()),
            text(line.description),
            text(line.first_day),
            text(line.last_day),
            decimal(line.quantity),
            decimal(line.price),
            Value::Count(line.base_quantity),
            decimal(line.list_price),
            decimal(line.discount_percent),
            money(line.net),
        ]);
    }
    let mut allowances = Table::list("allowances", &["kind", "reason", "amount"]);
    for allowance in details.allowances {
        allowances.row([text(allowance.kind), text(allowance.reason), money(allowance.amount)]);
    }
    let mut taxes = Table::list("taxes", &["category", "rate", "taxable", "amount", "reason"]);
    for tax in details.taxes {
        taxes.row([
            text(tax.category),
            decimal(tax.rate_percent),
            money(tax.taxable),
            money(tax.amount),
            text(tax.exemption_reason),
        ]);
    }
    let mut notes = Table::list("notes", &["note"]);
    let reason = (!details.reason.is_empty()).then_some(details.reason);
    for note in reason.into_iter().chain(details.notes) {
        notes.row([text(note)]);
    }
    let record = Table::record("invoice", record(invoice).into());
    let tables = [record, lines, allowances, taxes, notes];
    Ok(tables.into_iter().filter(|table| !table.is_empty()).collect())
}
