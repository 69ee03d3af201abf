//! The periods of budgets, in UTC: when one begins and ends, and how it is written.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, Utc};

use crate::ids::BudgetId;

/// How often a budget starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// At midnight UTC.
    Day,
    /// At midnight UTC before Monday (ISO 8601).
    Week,
    /// At midnight UTC before the first of the month.
    Month,
    /// Never.
    Total,
}

/// Where the one period of a total begins: before everything.
const TOTAL_START: NaiveDate = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

impl Period {
    /// Every period, the shortest first.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// As the database spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// Reads the database's spelling.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == text)
    }

    /// The first day of the period that holds this moment.
    #[must_use]
    pub fn start(self, moment: DateTime<Utc>) -> NaiveDate {
        let day = moment.date_naive();
        let back = match self {
            Self::Day => 0,
            Self::Week => day.weekday().num_days_from_monday(),
            Self::Month => day.day0(),
            Self::Total => return TOTAL_START,
        };
        day.checked_sub_days(Days::new(back.into())).unwrap_or(day)
    }

    /// When the period with this first day ends and the next one begins; `None` for a total.
    #[must_use]
    pub fn end(self, start: NaiveDate) -> Option<DateTime<Utc>> {
        let next = match self {
            Self::Day => start.checked_add_days(Days::new(1)),
            Self::Week => start.checked_add_days(Days::new(7)),
            Self::Month => start.checked_add_months(Months::new(1)),
            Self::Total => None,
        }?;
        Some(next.and_time(NaiveTime::MIN).and_utc())
    }
}

/// One period of a budget: what a reservation is held in and an event is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetPeriod {
    /// The budget.
    pub budget: BudgetId,
    /// The first day of the period.
    pub start: NaiveDate,
}

impl fmt::Display for BudgetPeriod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.budget, self.start)
    }
}

/// The text is not a [`BudgetPeriod`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a budget and the first day of its period")]
pub struct NotABudgetPeriod;

impl FromStr for BudgetPeriod {
    type Err = NotABudgetPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (budget, start) = text.split_once('/').ok_or(NotABudgetPeriod)?;
        Ok(Self {
            budget: budget.parse().map_err(|_| NotABudgetPeriod)?,
            start: start.parse().map_err(|_| NotABudgetPeriod)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn moment(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_begins_at_midnight_and_ends_where_the_next_begins() {
        let table = [
            (Period::Day, "2026-11-24T23:59:59.999Z", "2026-11-24", "2026-11-25T00:00:00Z"),
            (Period::Day, "2026-11-25T00:00:00Z", "2026-11-25", "2026-11-26T00:00:00Z"),
            (Period::Week, "2026-11-29T23:59:59Z", "2026-11-23", "2026-11-30T00:00:00Z"),
            (Period::Week, "2026-11-30T00:00:00Z", "2026-11-30", "2026-12-07T00:00:00Z"),
            (Period::Week, "2027-01-01T12:00:00Z", "2026-12-28", "2027-01-04T00:00:00Z"),
            (Period::Month, "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01T00:00:00Z"),
            (Period::Month, "2028-02-29T01:00:00Z", "2028-02-01", "2028-03-01T00:00:00Z"),
        ];
        for (period, at, start, end) in table {
            assert_eq!(period.start(moment(at)), day(start), "{period:?} {at}");
            assert_eq!(period.end(day(start)), Some(moment(end)), "{period:?} {at}");
            assert_eq!(period.start(moment(end)), moment(end).date_naive(), "{period:?} {at}");
        }
    }

    #[test]
    fn a_total_never_ends() {
        let start = Period::Total.start(moment("2026-11-24T00:00:00Z"));
        assert_eq!((start, Period::Total.end(start)), (day("2000-01-01"), None));
    }

    #[test]
    fn a_period_of_a_budget_is_read_as_it_was_written() {
        let one = BudgetPeriod { budget: BudgetId::generate(), start: day("2026-11-23") };
        assert_eq!(one.to_string().parse(), Ok(one));
        for text in ["", "/", "2026-11-23", "x/2026-11-23"] {
            assert_eq!(text.parse::<BudgetPeriod>(), Err(NotABudgetPeriod), "{text}");
        }
    }

    #[test]
    fn every_period_of_the_database_is_read_back() {
        assert_eq!(Period::ALL.map(Period::as_str), ["day", "week", "month", "total"]);
        for period in Period::ALL {
            assert_eq!(Period::from_stored(period.as_str()), Some(period));
        }
        assert_eq!(Period::from_stored("year"), None);
    }
}
