//! What the business needs to go on: months to record in, prices to charge by, usage that arrives,
//! months that are closed, and what is done in the background.

mod store;

use std::{fmt::Display, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use self::store::{MissingPartition, OpenMonths, Unpriced};
use super::{
    database::store::now as database_now,
    finding::{Check, Finding, Severity, count, span},
};
use crate::billing::closing::last_over;

/// Expired authorizations of so long ago are no news; `usage unsettled` lists them all.
const UNSETTLED_HOURS: i32 = 24;
/// A model that was used within so many days will be asked for again.
const USED_WITHIN_DAYS: i32 = 7;
/// A price that ends within so many days needs a successor.
const ENDS_WITHIN_DAYS: i32 = 14;
/// Of models without a price, so many are named.
const NAMED_MODELS: usize = 10;
/// Servers look hourly for months to close, and a closing takes its time.
const CLOSING_TAKES: Duration = Duration::from_hours(3);
/// Rollups and seals are some seconds behind; so much is a backlog that does not get smaller, or a
/// transaction that holds them up.
const LAG_SECONDS: i64 = 600;

fn moment(at: DateTime<Utc>) -> impl Display {
    at.format("%F %T UTC")
}

/// Whether each month that usage may be recorded in has its partition.
pub(super) async fn partitions(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let missing = store::missing_partitions(connection).await?;
    let looked_at =
        "partitions of usage_events and usage_details, from two months ago to three ahead";
    Ok(Check::new("partitions", looked_at, missing.iter().map(judge_partition)))
}

fn judge_partition(missing: &MissingPartition) -> Finding {
    let MissingPartition { name, months_ahead, attach } = missing;
    let problem = match (attach.is_some(), *months_ahead <= 0) {
        (true, true) => format!("partition {name} is detached: usage of that month is refused."),
        (true, false) => {
            format!("partition {name} is detached: usage of that month will be refused.")
        }
        (false, true) => format!("partition {name} is missing: usage of that month is refused."),
        (false, false) => {
            format!("partition {name} is missing: usage of that month will be refused.")
        }
    };
    let remedy = match attach {
        Some(attach) => format!("{attach}; nothing attaches a table that exists by itself."),
        None => {
            "SELECT ensure_usage_partitions(3); servers try it hourly, and their log says why it \
                 fails (`partitions not made`)."
                .to_owned()
        }
    };
    // Next month is at most 31 days away, and may begin tonight.
    if *months_ahead <= 1 {
        Finding::critical(problem, remedy)
    } else {
        Finding::warning(problem, remedy)
    }
}

/// Whether gateways report what they were authorized for.
pub(super) async fn unsettled(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let unsettled = store::unsettled(connection, UNSETTLED_HOURS).await?;
    let findings = unsettled.iter().map(|sum| {
        Finding::warning(
            format!(
                "{} of {} expired in the last {UNSETTLED_HOURS} hours without their usage: up to {} {} \
                 was served and is not charged.",
                count(sum.number, "authorization"),
                count(sum.accounts, "account"),
                sum.reserved,
                sum.currency
            ),
            "`tollgate usage unsettled` lists them with their request ids: find the gateway that does \
             not report, and have it send its usage again, which is taken for 35 days.",
        )
    });
    let looked_at = format!("authorizations that expired in the last {UNSETTLED_HOURS} hours");
    Ok(Check::new("unsettled", looked_at, findings))
}

/// Whether usage was refused for good.
pub(super) async fn quarantine(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let refused = store::quarantined(connection).await?;
    let finding = (refused.number > 0).then(|| {
        let since = refused.oldest.map(|oldest| format!(", the first at {}", moment(oldest)));
        Finding::critical(
            format!(
                "the database refused {} for good{}: it is neither charged nor lost.",
                count(refused.number, "usage event"),
                since.unwrap_or_default()
            ),
            "Read `error` and `event` in quarantined_usage, mend the cause, and have the gateway send it \
             again.",
        )
    });
    Ok(Check::new("quarantine", "usage that the database refused", finding))
}

/// Whether what customers use has a price, and will have one.
pub(super) async fn prices(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let models = store::models_in_use(connection, USED_WITHIN_DAYS).await?;
    let unpriced = store::unpriced(connection, USED_WITHIN_DAYS, ENDS_WITHIN_DAYS).await?;
    let mut findings: Vec<_> = unpriced.iter().take(NAMED_MODELS).map(judge_price).collect();
    if let Some(others @ 1..) = unpriced.len().checked_sub(NAMED_MODELS) {
        let others = count(i64::try_from(others).unwrap_or(i64::MAX), "model");
        findings.push(Finding::warning(
            format!("{others} more are in use without a price, or with one that ends."),
            "Publish those named above and look again.",
        ));
    }
    let looked_at = format!(
        "prices of {}: those used in the last {USED_WITHIN_DAYS} days and those that keys name",
        count(models, "model")
    );
    Ok(Check::new("prices", looked_at, findings))
}

fn judge_price(found: &Unpriced) -> Finding {
    let Unpriced { model, currency, account, .. } = found;
    let used = if found.is_used { "used by" } else { "on the allowlist of a key of" };
    let whose = match found.accounts {
        1 => format!("{used} {account}"),
        more => format!("{used} {account} and {} more", more.saturating_sub(1)),
    };
    if let Some(ends) = found.ends {
        return Finding::warning(
            format!(
                "the price of {model} in {currency} ends at {}, and it is {whose}.",
                moment(ends)
            ),
            "Publish a price from that moment on (`tollgate model import`), or tell them.",
        );
    }
    let what = if found.is_unknown {
        format!("model {model} is not in the catalogue")
    } else if found.is_inactive {
        format!("model {model} is inactive")
    } else {
        format!("model {model} has no price in {currency}")
    };
    Finding::warning(
        format!("{what}, and it is {whose}: their requests are denied."),
        format!(
            "Publish a price in {currency} (`tollgate model import`), or take it off the keys \
             (`tollgate key update`)."
        ),
    )
}

/// Whether months are closed once they are over.
pub(super) async fn closing(connection: &mut PgConnection, by_itself: bool) -> sqlx::Result<Check> {
    let now = database_now(connection).await?;
    let patience = TimeDelta::from_std(CLOSING_TAKES).unwrap_or_default();
    let over = last_over(now.checked_sub_signed(patience).unwrap_or(now));
    let open = store::open_months(connection, over).await?;
    let looked_at = format!(
        "months up to {}, which are closed {}",
        over.format("%Y-%m"),
        if by_itself { "by the servers" } else { "by hand" }
    );
    Ok(Check::new("closing", looked_at, judge_months(&open)))
}

fn judge_months(open: &OpenMonths) -> Option<Finding> {
    let oldest = open.oldest?.format("%Y-%m");
    let problem = format!(
        "{} not closed and not invoiced, from {oldest} on.",
        if open.accounts == 1 {
            "a month of 1 account is".to_owned()
        } else {
            format!("months of {} accounts are", open.accounts)
        }
    );
    let remedy = if open.has_seller {
        format!(
            "`tollgate invoice close --period {oldest}` closes it, or says what keeps an account."
        )
    } else {
        "Nothing is closed before the seller is set: `tollgate seller set`.".to_owned()
    };
    Some(Finding::warning(problem, remedy))
}

/// Whether daily sums and seals keep up.
pub(super) async fn background(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let lags = store::lags(connection).await?;
    let each = [
        ("seals", lags.seals, "what is changed behind the program's back meanwhile is not noticed"),
        ("rollups", lags.rollups, "totals are right and get slower"),
    ];
    let told = each.map(|(name, lag, _)| match lag {
        Some(seconds) => format!("{name} are {} behind", span(seconds)),
        None => format!("{name} have not begun"),
    });
    let findings = each.into_iter().filter_map(|(name, lag, consequence)| {
        let lag = lag.filter(|lag| *lag >= LAG_SECONDS)?;
        Some(Finding {
            severity: Severity::Warning,
            problem: format!("{name} are {} behind: {consequence}.", span(lag)),
            remedy:
                "After an upgrade or a load it falls by itself; else end the transaction that has \
                     been writing for as long (docs/operations.md, `the rollup lag grows`)."
                    .to_owned(),
        })
    });
    Ok(Check::new("background", told.join(", "), findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_that_begins_soon_is_critical_and_a_later_one_is_not() {
        let judged = |months_ahead| {
            let name = "usage_events_2026_12".to_owned();
            judge_partition(&MissingPartition { name, months_ahead, attach: None }).severity
        };
        assert_eq!([-2, 0, 1].map(judged), [Severity::Critical; 3]);
        assert_eq!(judged(2), Severity::Warning);
    }

    #[test]
    fn without_a_seller_that_is_the_remedy() {
        let open =
            |has_seller| OpenMonths { accounts: 2, oldest: "2026-10-01".parse().ok(), has_seller };
        let told = |has_seller| judge_months(&open(has_seller)).unwrap();
        assert!(told(true).remedy.contains("--period 2026-10"));
        assert!(told(false).remedy.contains("seller set"));
        assert_eq!(judge_months(&OpenMonths { oldest: None, accounts: 0, has_seller: true }), None);
    }
}
