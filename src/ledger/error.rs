//! Why the books refuse something. Each refusal says what is wrong, with the numbers, and what to do
//! about it.

use thiserror::Error;
use uuid::Uuid;

use crate::{
    catalog::error::CatalogError,
    database::failure::{DatabaseFailure, NUMBER_OUT_OF_RANGE, QUERY_CANCELED, sqlstate},
    ids::{AccountId, CauseId},
    ledger::{
        balances::BalanceError,
        chart::{PaymentMethod, UnknownCode},
        split::SplitError,
    },
    money::{AMOUNT_LIMIT, Amount, Currency},
    problem::{Problem, ProblemKind},
};

/// Why money was not moved, or the books could not be read.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// No such account.
    #[error("there is no account {0}; `tollgate account list` shows them")]
    UnknownAccount(AccountId),
    /// A closed account takes no money any more.
    #[error("account {0} is closed; open a new account for this customer")]
    AccountClosed(String),
    /// Zero or less.
    #[error("amount is {0}; give an amount above zero")]
    NotPositive(Amount),
    /// Not the account's currency.
    #[error("amount is in {given}, but the account's currency is {account}; give it in {account}")]
    CurrencyDiffers {
        /// What was given.
        given: Currency,
        /// What the account has.
        account: Currency,
    },
    /// A text that is missing, too long or not printable.
    #[error("{field} {problem}")]
    Text {
        /// The request's field.
        field: &'static str,
        /// What is wrong with it and what to give instead.
        problem: String,
    },
    /// The payment or refund was recorded before, with different content.
    #[error(
        "{method} {reference:?} was recorded before as {what} {id} with another {field}, {recorded}; \
         check the reference, or send what was recorded"
    )]
    RecordedDifferently {
        /// "payment" or "refund".
        what: &'static str,
        /// The first recording's id.
        id: CauseId,
        /// The method.
        method: PaymentMethod,
        /// The reference at the processor or bank.
        reference: String,
        /// The field that differs.
        field: &'static str,
        /// What the first recording has there.
        recorded: String,
    },
    /// More than is unused and not reserved.
    #[error(
        "{asked} cannot be refunded: {refundable} is refundable, of {credits} credits; \
         the rest is reserved by servers for requests and comes back within minutes"
    )]
    NotRefundable {
        /// What was asked for.
        asked: Amount,
        /// The most that can be refunded now.
        refundable: Amount,
        /// The credits.
        credits: Amount,
    },
    /// More than is unused and not reserved.
    #[error(
        "{asked} cannot be withdrawn: {withdrawable} is withdrawable, of {promotional} promotional \
         credits; the rest is reserved by servers for requests and comes back within minutes"
    )]
    NotWithdrawable {
        /// What was asked for.
        asked: Amount,
        /// The most that can be withdrawn now.
        withdrawable: Amount,
        /// The promotional credits.
        promotional: Amount,
    },
    /// No such payment of this account.
    #[error("the account has no payment {0}; give the payment_id that TopUp returned")]
    UnknownPayment(CauseId),
    /// The payment is disputed already.
    #[error("payment {payment} is disputed already as {reference:?}; record how that ended first")]
    DisputeOpen {
        /// The payment.
        payment: CauseId,
        /// The open dispute's reference.
        reference: String,
    },
    /// The payment is gone for good.
    #[error("payment {payment} was lost in dispute {reference:?}; it cannot be disputed again")]
    DisputeLost {
        /// The payment.
        payment: CauseId,
        /// The lost dispute's reference.
        reference: String,
    },
    /// A dispute that was never opened cannot end.
    #[error("payment {payment} has no dispute {reference:?}; record it as OPENED first")]
    UnknownDispute {
        /// The payment.
        payment: CauseId,
        /// The reference that was given.
        reference: String,
    },
    /// The dispute ended the other way.
    #[error("dispute {reference:?} has ended as {ended}; that is final")]
    DisputeEnded {
        /// The dispute's reference.
        reference: String,
        /// How it ended.
        ended: &'static str,
    },
    /// No such usage event of this account.
    #[error("the account has no usage event {0}; `tollgate usage list` shows them")]
    UnknownEvent(Uuid),
    /// The event moved no money.
    #[error("usage event {0} cost nothing; there is nothing to take back")]
    NothingToReverse(Uuid),
    /// The event's charge is on an invoice.
    #[error("usage event {0} is invoiced; correct it with a credit note")]
    Invoiced(Uuid),
    /// A code that the chart does not have.
    #[error(transparent)]
    UnknownCode(#[from] UnknownCode),
    /// Balances do not allow the posting.
    #[error(transparent)]
    Balance(#[from] BalanceError),
    /// Each balance is within bounds, but not all together.
    #[error(
        "with that the account's funds, its credit limit included, would pass the largest amount, \
         {AMOUNT_LIMIT}; give less"
    )]
    FundsTooLarge,
    /// The books contradict themselves.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A stored value that no version of this program writes.
    #[error("the database holds {0:?}, which is not valid; run ledger verify")]
    Stored(String),
    /// A report that would take longer than a snapshot may be held.
    #[error(
        "the {what} took longer than {limit_seconds} seconds; ask for one account where it takes one, \
         or when less is going on"
    )]
    TooLong {
        /// The report.
        what: &'static str,
        /// The bound it passed.
        limit_seconds: u32,
    },
    /// A journal in a format that holds one currency.
    #[error("the journal would mix {0}, and this format holds one currency; give currency_code")]
    SeveralCurrencies(String),
    /// A report could not be written down in its format.
    #[error("the journal could not be written")]
    Unwritten(#[source] std::io::Error),
    /// The price book could not be read.
    #[error("the prices to verify charges with could not be read")]
    Prices(#[source] Box<CatalogError>),
    /// Another verification is running.
    #[error("another verification is running on this server; try again when it is done")]
    Verifying,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl LedgerError {
    /// What a report failed by, told apart from having used up its time.
    pub(crate) fn bounded(error: sqlx::Error, what: &'static str, limit_seconds: u32) -> Self {
        if sqlstate(&error).as_deref() == Some(QUERY_CANCELED) {
            return Self::TooLong { what, limit_seconds };
        }
        error.into()
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        if sqlstate(&error).as_deref() == Some(NUMBER_OUT_OF_RANGE) {
            return Self::FundsTooLarge;
        }
        Self::Database(error.into())
    }
}

impl Problem for LedgerError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::NotPositive(_)
            | Self::CurrencyDiffers { .. }
            | Self::Text { .. }
            | Self::SeveralCurrencies(_)
            | Self::UnknownCode(_) => ProblemKind::InvalidArgument,
            Self::UnknownAccount(_)
            | Self::UnknownPayment(_)
            | Self::UnknownDispute { .. }
            | Self::UnknownEvent(_) => ProblemKind::NotFound,
            Self::RecordedDifferently { .. } => ProblemKind::AlreadyExists,
            Self::AccountClosed(_)
            | Self::NotRefundable { .. }
            | Self::NotWithdrawable { .. }
            | Self::DisputeOpen { .. }
            | Self::DisputeLost { .. }
            | Self::DisputeEnded { .. }
            | Self::NothingToReverse(_)
            | Self::Invoiced(_)
            | Self::FundsTooLarge
            | Self::Balance(_) => ProblemKind::FailedPrecondition,
            Self::TooLong { .. } | Self::Verifying => ProblemKind::ResourceExhausted,
            Self::Prices(error) => error.kind(),
            Self::Split(_) | Self::Stored(_) | Self::Unwritten(_) => ProblemKind::Internal,
            Self::Database(failure) => failure.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownAccount(_) => "ACCOUNT_NOT_FOUND",
            Self::AccountClosed(_) => "ACCOUNT_CLOSED",
            Self::NotPositive(_) => "AMOUNT_NOT_POSITIVE",
            Self::CurrencyDiffers { .. } => "CURRENCY_MISMATCH",
            Self::Text { .. } => "INVALID_TEXT",
            Self::RecordedDifferently { .. } => "RECORDED_DIFFERENTLY",
            Self::NotRefundable { .. } => "NOT_REFUNDABLE",
            Self::NotWithdrawable { .. } => "NOT_WITHDRAWABLE",
            Self::UnknownPayment(_) => "PAYMENT_NOT_FOUND",
            Self::DisputeOpen { .. } => "DISPUTE_OPEN",
            Self::DisputeLost { .. } => "DISPUTE_LOST",
            Self::UnknownDispute { .. } => "DISPUTE_NOT_FOUND",
            Self::DisputeEnded { .. } => "DISPUTE_ENDED",
            Self::UnknownEvent(_) => "EVENT_NOT_FOUND",
            Self::NothingToReverse(_) => "NOTHING_TO_REVERSE",
            Self::Invoiced(_) => "EVENT_INVOICED",
            Self::UnknownCode(_) => "UNKNOWN_LEDGER_ACCOUNT",
            Self::Balance(BalanceError::Insufficient { .. }) => "INSUFFICIENT_BALANCE",
            Self::Balance(BalanceError::TooLarge { .. }) | Self::FundsTooLarge => {
                "BALANCE_TOO_LARGE"
            }
            Self::Split(_) | Self::Stored(_) => "BOOKS_INCONSISTENT",
            Self::TooLong { .. } => "REPORT_TOO_LONG",
            Self::SeveralCurrencies(_) => "SEVERAL_CURRENCIES",
            Self::Unwritten(_) => "REPORT_NOT_WRITTEN",
            Self::Prices(error) => error.reason(),
            Self::Verifying => "VERIFICATION_RUNNING",
            Self::Database(failure) => failure.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::UnknownAccount(_) | Self::AccountClosed(_) => "account",
            Self::NotPositive(_) => "amount.amount",
            Self::CurrencyDiffers { .. } => "amount.currency_code",
            Self::NotRefundable { .. }
            | Self::NotWithdrawable { .. }
            | Self::FundsTooLarge
            | Self::Balance(BalanceError::TooLarge { .. }) => "amount",
            Self::Text { field, .. } | Self::RecordedDifferently { field, .. } => field,
            Self::UnknownPayment(_) | Self::DisputeOpen { .. } | Self::DisputeLost { .. } => {
                "payment_id"
            }
            Self::UnknownDispute { .. } => "external_reference",
            Self::DisputeEnded { .. } => "stage",
            Self::UnknownEvent(_) | Self::NothingToReverse(_) | Self::Invoiced(_) => "event_id",
            Self::UnknownCode(_) => "ledger_account",
            Self::SeveralCurrencies(_) => "currency_code",
            _ => return None,
        };
        Some(field.to_owned())
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Database(failure) => failure.retry_after(),
            _ => None,
        }
    }
}
