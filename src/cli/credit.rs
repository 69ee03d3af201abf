//! `tollgate credit`: money in and out of a customer's credits.

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    cli::{
        Session,
        args::{self, Idempotency, required},
        balance,
        client::Client,
        error::CliError,
        output::{Table, Value, money, text},
    },
    proto::{
        Balance, ChargebackStage, GrantCreditRequest, Money, PaymentMethod,
        RecordChargebackRequest, RefundRequest, TopUpRequest, WithdrawGrantRequest,
    },
};

const TOP_UP_EXAMPLES: &str = "\
The reference is unique for each method: the same payment is never credited twice.

Examples:
  tollgate credit top-up acme 50 --method visa --reference ch_3Qx81
  tollgate credit top-up acme 1250.50 --method wire --reference 'E2E 2026-11-22/7' --note 'PO 881'";
const GRANT_EXAMPLES: &str = "\
Promotional credits burn before paid ones and are never refunded.

Examples:
  tollgate credit grant acme 5 --reason 'welcome'";
const WITHDRAW_EXAMPLES: &str = "\
Takes back what is unused of promotional credits.

Examples:
  tollgate credit withdraw acme 5 --reason 'granted by mistake'";
const REFUND_EXAMPLES: &str = "\
Pays unused credits back; no more than is neither used nor reserved. Tax that was paid for them goes
back with them, with credit notes: pay the customer the payout.

Examples:
  tollgate credit refund acme 20 --method visa --reference re_3Qx81 --reason 'customer asked'";
const CHARGEBACK_EXAMPLES: &str = "\
An opened dispute takes the payment's unspent part out of the credits and suspends the account. A lost
one corrects the tax of that part with a credit note.

Examples:
  tollgate credit chargeback acme 0196f1c2-… --reference dp_81 --reason 'fraudulent'
  tollgate credit chargeback acme 0196f1c2-… --stage won --reference dp_81 --reason 'evidence'";

#[derive(Debug, Subcommand)]
pub(super) enum CreditCommand {
    /// Credit a payment
    #[command(after_help = TOP_UP_EXAMPLES)]
    TopUp {
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        payment: PaymentArgs,
        /// Anything worth keeping with it
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Give promotional credits
    #[command(after_help = GRANT_EXAMPLES)]
    Grant {
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        reason: ReasonArgs,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Take unused promotional credits back
    #[command(after_help = WITHDRAW_EXAMPLES)]
    Withdraw {
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        reason: ReasonArgs,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Pay unused credits back
    #[command(after_help = REFUND_EXAMPLES)]
    Refund {
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        payment: PaymentArgs,
        #[command(flatten)]
        reason: ReasonArgs,
        #[command(flatten)]
        idempotency: Idempotency,
    },
    /// Record that a payment is disputed, or how the dispute ended
    #[command(after_help = CHARGEBACK_EXAMPLES)]
    Chargeback(ChargebackArgs),
}

#[derive(Debug, Args)]
pub(super) struct AmountArgs {
    /// Handle or id
    account: String,
    /// How much, such as 50 or 12.50
    #[arg(value_parser = args::parse_amount)]
    amount: String,
    /// The amount's currency [default: the account's]
    #[arg(long)]
    currency: Option<String>,
}

impl AmountArgs {
    async fn money(&self, client: &Client) -> Result<Money, CliError> {
        let currency = match &self.currency {
            Some(currency) => currency.clone(),
            None => client.currency_of(&self.account).await?,
        };
        Ok(args::money(&self.amount, &currency))
    }
}

#[derive(Debug, Args)]
pub(super) struct PaymentArgs {
    /// How it is paid
    #[arg(long, value_enum)]
    method: Method,
    /// The payment's id at its processor or bank
    #[arg(long, value_name = "ID")]
    reference: String,
}

#[derive(Debug, Args)]
pub(super) struct ReasonArgs {
    /// Why; kept with it
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct ChargebackArgs {
    /// Handle or id
    account: String,
    /// The payment's id, as `credit top-up` returned it
    payment_id: String,
    /// Where the dispute stands
    #[arg(long, value_enum, default_value = "opened")]
    stage: Stage,
    /// The dispute's id at the processor
    #[arg(long, value_name = "ID")]
    reference: String,
    #[command(flatten)]
    reason: ReasonArgs,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Method {
    Visa,
    Mastercard,
    Paypal,
    Wire,
    Manual,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Stage {
    Opened,
    Won,
    Lost,
}

impl From<Method> for i32 {
    fn from(method: Method) -> Self {
        let method = match method {
            Method::Visa => PaymentMethod::Visa,
            Method::Mastercard => PaymentMethod::Mastercard,
            Method::Paypal => PaymentMethod::Paypal,
            Method::Wire => PaymentMethod::Wire,
            Method::Manual => PaymentMethod::Manual,
        };
        method.into()
    }
}

pub(super) async fn run(command: CreditCommand, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut credits = client.credits();
    let (fields, after) = match command {
        CreditCommand::TopUp { amount, payment, note, idempotency } => {
            let request = TopUpRequest {
                amount: Some(amount.money(&client).await?),
                account: amount.account,
                method: payment.method.into(),
                external_reference: payment.reference,
                note,
                idempotency_key: idempotency.key(),
            };
            let answer = credits.top_up(request).await?.into_inner();
            let fields = vec![
                ("payment_id", text(answer.payment_id)),
                ("duplicate", Value::Flag(answer.duplicate)),
            ];
            (fields, answer.balance)
        }
        CreditCommand::Grant { amount, reason, idempotency } => {
            let request = GrantCreditRequest {
                amount: Some(amount.money(&client).await?),
                account: amount.account,
                reason: reason.reason,
                idempotency_key: idempotency.key(),
            };
            let answer = credits.grant_credit(request).await?.into_inner();
            (vec![("grant_id", text(answer.grant_id))], answer.balance)
        }
        CreditCommand::Withdraw { amount, reason, idempotency } => {
            let request = WithdrawGrantRequest {
                amount: Some(amount.money(&client).await?),
                account: amount.account,
                reason: reason.reason,
                idempotency_key: idempotency.key(),
            };
            let answer = credits.withdraw_grant(request).await?.into_inner();
            (vec![("withdrawal_id", text(answer.withdrawal_id))], answer.balance)
        }
        CreditCommand::Refund { amount, payment, reason, idempotency } => {
            let request = RefundRequest {
                amount: Some(amount.money(&client).await?),
                account: amount.account,
                method: payment.method.into(),
                external_reference: payment.reference,
                reason: reason.reason,
                idempotency_key: idempotency.key(),
            };
            let answer = credits.refund(request).await?.into_inner();
            let fields = vec![
                ("refund_id", text(answer.refund_id)),
                ("refunded", money(answer.credits)),
                ("tax", money(answer.tax)),
                ("payout", money(answer.payout)),
                ("credit_notes", text(answer.credit_notes.join(", "))),
            ];
            (fields, answer.balance)
        }
        CreditCommand::Chargeback(args) => chargeback(&client, args).await?,
    };
    let mut record = fields;
    record.extend(balance::fields(required(after, "balance")?));
    session.output.show(&Table::record("credit", record))
}

type Outcome = (Vec<(&'static str, Value)>, Option<Balance>);

async fn chargeback(client: &Client, args: ChargebackArgs) -> Result<Outcome, CliError> {
    let stage = match args.stage {
        Stage::Opened => ChargebackStage::Opened,
        Stage::Won => ChargebackStage::Won,
        Stage::Lost => ChargebackStage::Lost,
    };
    let request = RecordChargebackRequest {
        account: args.account,
        payment_id: args.payment_id,
        stage: stage.into(),
        external_reference: args.reference,
        reason: args.reason.reason,
        idempotency_key: args.idempotency.key(),
    };
    let answer = client.credits().record_chargeback(request).await?.into_inner();
    let fields = vec![
        ("chargeback_id", text(answer.chargeback_id)),
        ("unspent", money(answer.unspent)),
        ("spent", money(answer.spent)),
        ("tax_corrected", money(answer.tax_corrected)),
        ("credit_notes", text(answer.credit_notes.join(", "))),
    ];
    Ok((fields, answer.balance))
}
