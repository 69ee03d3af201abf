//! `tollgate credit-note`: taking back what an invoice asks for.

use clap::Subcommand;

use crate::{
    cli::{
        Session,
        args::{self, Idempotency, required},
        client::Client,
        error::CliError,
        invoice,
        output::{Table, money},
    },
    proto::{CreditNoteLine, GetInvoiceRequest, IssueCreditNoteRequest},
};

const ISSUE_EXAMPLES: &str = "\
Without --net and --line all that is left of the invoice is credited. What is beyond its open amount
stays unapplied; `tollgate payment allocate` gives it to other invoices.

Examples:
  tollgate credit-note issue INV-2026-000001 --reason 'not as agreed'
  tollgate credit-note issue INV-2026-000001 --net 25 --reason 'goodwill'
  tollgate credit-note issue INV-2026-000001 --line 3 --line 4=10.50 --reason 'wrong model'
  tollgate credit-note issue INV-2026-000001 --net 10 --service-level --reason 'outage of 12 October'";

#[derive(Debug, Subcommand)]
pub(super) enum CreditNoteCommand {
    /// Credit an invoice, in whole or in part
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue {
        /// The invoice's number or id
        invoice: String,
        /// An amount without tax
        #[arg(long, value_parser = args::parse_amount, conflicts_with = "lines")]
        net: Option<String>,
        /// A line by its position, or a part of it: POSITION=NET; may be repeated
        #[arg(long = "line", value_name = "LINE", value_parser = parse_line)]
        lines: Vec<(u32, Option<String>)>,
        /// It is for missed availability
        #[arg(long)]
        service_level: bool,
        /// Why; the customer reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
}

fn parse_line(text: &str) -> Result<(u32, Option<String>), String> {
    let (position, net) = match text.split_once('=') {
        Some((position, net)) => (position, Some(args::parse_amount(net)?)),
        None => (text, None),
    };
    let position = position
        .parse()
        .map_err(|_| format!("{position:?} is no line's position; write 3 or 3=10.50"))?;
    Ok((position, net))
}

pub(super) async fn run(command: CreditNoteCommand, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let CreditNoteCommand::Issue { invoice, net, lines, service_level, reason, idempotency } =
        command;
    let currency = currency_of(&client, &invoice).await?;
    let lines = lines.into_iter().map(|(position, net)| {
        let net = net.map(|net| args::money(&net, &currency));
        CreditNoteLine { position, net }
    });
    let request = IssueCreditNoteRequest {
        invoice,
        lines: lines.collect(),
        net: net.map(|net| args::money(&net, &currency)),
        for_service_level: service_level,
        reason,
        idempotency_key: idempotency.key(),
    };
    let answer = client.billing().issue_credit_note(request).await?.into_inner();
    let mut tables = invoice::details(required(answer.credit_note, "credit_note")?)?;
    tables.push(Table::record("unapplied", vec![("surplus", money(answer.surplus))]));
    session.output.show_all(&tables)
}

async fn currency_of(client: &Client, invoice: &str) -> Result<String, CliError> {
    let request = GetInvoiceRequest { invoice: invoice.to_owned() };
    let invoice = client.billing().get_invoice(request).await?.into_inner().invoice;
    let gross = invoice.and_then(|details| details.invoice).and_then(|invoice| invoice.gross);
    Ok(required(gross, "invoice.gross")?.currency_code)
}
