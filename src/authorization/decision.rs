//! What `Authorize` is asked and what it answers. A denial is a normal answer: it names what stood
//! in the way, by how much, when that changes and what to do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::{
    grant::GrantClaims,
    lease::{BudgetView, FundsView},
};
use crate::{
    accounts::budgets::{Budget, period::Period},
    catalog::model::Route,
    money::{Amount, Currency},
};

/// One request that a gateway wants to serve.
#[derive(Clone)]
pub struct Request {
    /// The customer's key as it came in.
    pub api_key: String,
    /// The model's name.
    pub model: String,
    /// The gateway's id of the request, or empty.
    pub request_id: String,
    /// Prompt tokens as the gateway counted them.
    pub input_tokens: u64,
    /// The most the model may generate; `None` is the model's own maximum.
    pub max_output_tokens: Option<u64>,
    /// Whether a smaller answer is better than none.
    pub allow_reduced_output: bool,
    /// The customer's own user, or empty.
    pub end_user: String,
    /// The customer's labels.
    pub labels: BTreeMap<String, String>,
}

/// The answer.
#[derive(Debug, Clone)]
pub enum Decision {
    /// It may be served.
    Granted(Grant),
    /// It may not.
    Denied(Box<Denial>),
}

impl Decision {
    /// The name in logs and metrics: `granted`, `reduced`, or the reason of a denial.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Granted(Grant { reduced: true, .. }) => "reduced",
            Self::Granted(_) => "granted",
            Self::Denied(denial) => denial.reason.name(),
        }
    }
}

/// A promise to pay for one request.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What is promised.
    pub claims: Arc<GrantClaims>,
    /// The same, signed.
    pub token: String,
    /// Which capacity serves it.
    pub route: Route,
    /// Whether it may generate less than was asked for.
    pub reduced: bool,
    /// What somebody should look at, though it may be served.
    pub warnings: Vec<Warning>,
}

/// What a grant warns of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningReason {
    /// It is far from what the key usually costs.
    SpikeGuard,
    /// A soft budget's limit is passed.
    SoftBudget,
}

/// Something to look at, though the request may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub reason: WarningReason,
    /// What the limit belongs to.
    pub scope: String,
    /// In a sentence.
    pub message: String,
    /// The limit.
    pub limit: Option<String>,
    /// What is used of it, this request included.
    pub used: Option<String>,
}

impl Warning {
    /// The warning that a soft budget's limit is passed with what is reserved now.
    #[must_use]
    pub fn of_budget(
        scope: String,
        budget: &Budget,
        currency: Currency,
        limit: Decimal,
        used: Decimal,
    ) -> Self {
        let (limit, used) = (limit.normalize(), used.normalize());
        let name = budget_name(budget.period);
        let message = format!(
            "the soft {name} of {scope} is {limit} {currency}, and {used} {currency} are spent and \
             reserved"
        );
        Self {
            reason: WarningReason::SoftBudget,
            scope,
            message,
            limit: Some(limit.to_string()),
            used: Some(used.to_string()),
        }
    }
}

/// Why a request may not be served, in the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Not one of our keys by its form.
    MalformedKey,
    /// Nobody has it.
    UnknownKey,
    /// Revoked.
    KeyRevoked,
    /// Past its time.
    KeyExpired,
    /// Its account is suspended.
    AccountSuspended,
    /// Its account is closed.
    AccountClosed,
    /// No such model, or not served any more.
    ModelNotFound,
    /// The model has no price in the account's currency now.
    ModelUnpriced,
    /// Not on the key's list.
    ModelNotAllowed,
    /// A `Pro/` model with a standard key.
    ProKeyRequired,
    /// More tokens than the key or the model allows.
    RequestTooLarge,
    /// Could cost more than the key allows.
    RequestTooExpensive,
    /// Far from what the key usually costs.
    SpikeGuard,
    /// Too many at once.
    RateLimited,
    /// A budget does not cover it.
    BudgetExceeded,
    /// A Net-30 account at its limit.
    CreditLimitExceeded,
    /// Not enough credits.
    InsufficientCredits,
}

impl Reason {
    /// Every reason, in the order of the checks.
    pub const ALL: [Self; 17] = [
        Self::MalformedKey,
        Self::UnknownKey,
        Self::KeyRevoked,
        Self::KeyExpired,
        Self::AccountSuspended,
        Self::AccountClosed,
        Self::ModelNotFound,
        Self::ModelUnpriced,
        Self::ModelNotAllowed,
        Self::ProKeyRequired,
        Self::RequestTooLarge,
        Self::RequestTooExpensive,
        Self::SpikeGuard,
        Self::RateLimited,
        Self::BudgetExceeded,
        Self::CreditLimitExceeded,
        Self::InsufficientCredits,
    ];

    /// The HTTP status the gateway should answer with. Funds are 402 and not the 429 that OpenAI
    /// uses: client libraries repeat a 429 by themselves, and that never helps here.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::MalformedKey | Self::UnknownKey | Self::KeyRevoked | Self::KeyExpired => 401,
            Self::BudgetExceeded | Self::CreditLimitExceeded | Self::InsufficientCredits => 402,
            Self::AccountSuspended
            | Self::AccountClosed
            | Self::ModelNotAllowed
            | Self::ProKeyRequired => 403,
            Self::ModelNotFound | Self::ModelUnpriced => 404,
            Self::RequestTooLarge | Self::RequestTooExpensive => 400,
            Self::SpikeGuard | Self::RateLimited => 429,
        }
    }

    /// The `code` of an OpenAI-style error object.
    #[must_use]
    pub const fn error_code(self) -> &'static str {
        match self {
            Self::MalformedKey | Self::UnknownKey | Self::KeyRevoked | Self::KeyExpired => {
                "invalid_api_key"
            }
            Self::AccountSuspended | Self::AccountClosed => "account_deactivated",
            Self::ModelNotFound | Self::ModelUnpriced => "model_not_found",
            Self::ModelNotAllowed | Self::ProKeyRequired => "model_not_allowed",
            Self::RequestTooLarge => "context_length_exceeded",
            Self::RequestTooExpensive => "request_too_expensive",
            Self::SpikeGuard => "spike_guard",
            Self::RateLimited => "rate_limit_exceeded",
            Self::BudgetExceeded => "budget_exceeded",
            Self::CreditLimitExceeded | Self::InsufficientCredits => "insufficient_quota",
        }
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedKey => "malformed_key",
            Self::UnknownKey => "unknown_key",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::AccountSuspended => "account_suspended",
            Self::AccountClosed => "account_closed",
            Self::ModelNotFound => "model_not_found",
            Self::ModelUnpriced => "model_unpriced",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::ProKeyRequired => "pro_key_required",
            Self::RequestTooLarge => "request_too_large",
            Self::RequestTooExpensive => "request_too_expensive",
            Self::SpikeGuard => "spike_guard",
            Self::RateLimited => "rate_limited",
            Self::BudgetExceeded => "budget_exceeded",
            Self::CreditLimitExceeded => "credit_limit_exceeded",
            Self::InsufficientCredits => "insufficient_credits",
        }
    }
}

/// A refusal that explains itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What stood in the way.
    pub reason: Reason,
    /// What the limit belongs to.
    pub scope: String,
    /// The limit in force.
    pub limit: Option<String>,
    /// What is used of it.
    pub used: Option<String>,
    /// What is reserved of it.
    pub reserved: Option<String>,
    /// When it starts anew.
    pub resets_at: Option<DateTime<Utc>>,
    /// When the same request may succeed without anybody changing anything.
    pub retry_after: Option<Duration>,
    /// What to do, in a sentence that may be shown to the customer.
    pub message: String,
}

const fn budget_name(period: Period) -> &'static str {
    match period {
        Period::Day => "daily budget",
        Period::Week => "weekly budget",
        Period::Month => "monthly budget",
        Period::Total => "total budget",
    }
}

/// What requests hold: of what is leased this server has something left.
fn held(leased: Decimal, free: Amount) -> String {
    (leased - free.decimal()).max(Decimal::ZERO).normalize().to_string()
}

/// Time for other requests to be settled.
const RETRY_AFTER_SETTLEMENT: Duration = Duration::from_secs(2);

impl Denial {
    /// A denial without numbers.
    #[must_use]
    pub fn new(reason: Reason, scope: impl Into<String>, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            reason,
            scope: scope.into(),
            limit: None,
            used: None,
            reserved: None,
            resets_at: None,
            retry_after: None,
            message: message.into(),
        })
    }

    /// The denial with the limit it met and what the request asked of it.
    #[must_use]
    pub fn beyond(mut self: Box<Self>, limit: &impl ToString, asked: &impl ToString) -> Box<Self> {
        self.limit = Some(limit.to_string());
        self.used = Some(asked.to_string());
        self
    }

    /// The denial that a budget does not cover the request: neither what is `free` on this server
    /// nor what no server holds. `now` is the database's time.
    #[must_use]
    pub fn of_budget(
        scope: String,
        budget: Option<(&Budget, NaiveDate)>,
        needed: (Amount, Currency),
        free: Amount,
        view: &BudgetView,
        now: DateTime<Utc>,
    ) -> Box<Self> {
        let (needed, currency) = needed;
        let resets_at = budget.and_then(|(budget, start)| budget.period.end(start));
        let name = budget.map_or("budget", |(budget, _)| budget_name(budget.period));
        let fits_the_next = needed.decimal() <= view.limit;
        let remedy = match resets_at.filter(|_| fits_the_next) {
            Some(at) => format!("raise it, or wait until {}", at.format("%Y-%m-%d %H:%M UTC")),
            None => "raise it, or ask for fewer output tokens".to_owned(),
        };
        let whose = if scope == "key" { "this key" } else { scope.as_str() };
        let message = format!(
            "the {name} of {whose} has {} of {} {currency} left and this request may cost {needed} \
             {currency}: {remedy}",
            (view.available.max(Decimal::ZERO) + free.decimal()).normalize(),
            view.limit.normalize(),
        );
        // What other requests hold comes back in part when they are settled.
        let may_come_back = view.available + view.leased >= needed.decimal();
        let until_reset = resets_at.and_then(|at| (at - now).to_std().ok());
        Box::new(Self {
            limit: Some(view.limit.normalize().to_string()),
            used: Some(view.spent.normalize().to_string()),
            reserved: Some(held(view.leased, free)),
            resets_at,
            retry_after: if may_come_back {
                Some(RETRY_AFTER_SETTLEMENT)
            } else {
                until_reset.filter(|_| fits_the_next)
            },
            ..*Self::new(Reason::BudgetExceeded, scope, message)
        })
    }

    /// The denial that funds do not cover the request: neither what is `free` on this server nor
    /// what no server holds.
    #[must_use]
    pub fn of_funds(
        handle: &str,
        currency: Currency,
        needed: Amount,
        free: Amount,
        funds: &FundsView,
    ) -> Box<Self> {
        let (reason, limit, used, remedy) = if funds.net_30 {
            (
                Reason::CreditLimitExceeded,
                funds.credit_limit + funds.prepaid.max(Decimal::ZERO),
                funds.owed,
                "pay open invoices, top up, or ask for a higher credit limit",
            )
        } else {
            let spent = (-funds.prepaid).max(Decimal::ZERO);
            (
                Reason::InsufficientCredits,
                funds.prepaid.max(Decimal::ZERO),
                spent,
                "top up, or ask for fewer output tokens",
            )
        };
        // What other requests hold comes back in part when they are settled.
        let may_come_back = funds.available + funds.leased >= needed.decimal();
        let message = format!(
            "account {handle} has {} {currency} available and this request may cost {needed} \
             {currency}: {remedy}{}",
            (funds.available.max(Decimal::ZERO) + free.decimal()).normalize(),
            if may_come_back { ", or try again when running requests have ended" } else { "" },
        );
        Box::new(Self {
            limit: Some(limit.normalize().to_string()),
            used: Some(used.normalize().to_string()),
            reserved: Some(held(funds.leased, free)),
            retry_after: may_come_back.then_some(RETRY_AFTER_SETTLEMENT),
            ..*Self::new(reason, format!("account {handle}"), message)
        })
    }
}
