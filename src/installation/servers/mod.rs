//! The clocks, the servers that share the database, and whether anybody reaches this one.

mod store;

use std::net::SocketAddr;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use self::store::Server;
use super::{
    database::store::now,
    finding::{Check, Finding, count, span},
};
use crate::{authorization::limits::HEARTBEAT_TTL, clock, metering::limits::CLOCK_TOLERANCE};

/// Clocks that are set by NTP agree within milliseconds; from here on nothing sets one of them.
pub const CLOCK_SKEW_SECONDS: i64 = 2;

/// How far a clock is outside of two readings of another, in seconds: before the first or after the
/// second, which were taken around it; 0 within them.
#[must_use]
pub fn skew_seconds(earliest: DateTime<Utc>, other: DateTime<Utc>, latest: DateTime<Utc>) -> i64 {
    if other < earliest {
        (other - earliest).num_seconds()
    } else if other > latest {
        (other - latest).num_seconds()
    } else {
        0
    }
}

/// Whether the server's clock and the database's agree.
pub(super) async fn clocks(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let before = clock::now();
    let database = now(connection).await?;
    let skew = skew_seconds(before, database, clock::now());
    let looked_at =
        format!("the database's clock against this server's: {} apart", span(skew.abs()));
    Ok(Check::new("clocks", looked_at, judge_skew(skew)))
}

fn judge_skew(seconds: i64) -> Option<Finding> {
    if seconds.abs() < CLOCK_SKEW_SECONDS {
        return None;
    }
    let direction = if seconds > 0 { "ahead of" } else { "behind" };
    let problem = format!(
        "the database's clock is {} {direction} this server's: authorizations, months and tokens end at \
         another moment than they say.",
        span(seconds.abs())
    );
    let remedy = "Have NTP set the clocks of both machines (chronyc tracking, timedatectl); move a clock \
                  slowly, never back by a step.";
    let tolerated = i64::try_from(CLOCK_TOLERANCE.as_secs()).unwrap_or(i64::MAX);
    // Beyond it usage is refused.
    Some(if seconds.abs() >= tolerated {
        Finding::critical(problem, remedy)
    } else {
        Finding::warning(problem, remedy)
    })
}

/// Which servers live, and which fell silent.
pub(super) async fn servers(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let servers = store::servers(connection).await?;
    let ttl = i64::try_from(HEARTBEAT_TTL.as_secs()).unwrap_or(i64::MAX);
    let (live, silent): (Vec<_>, Vec<_>) =
        servers.into_iter().partition(|server| server.silent_seconds <= ttl);
    let names: Vec<_> = live.iter().map(|server| server.description.as_str()).collect();
    let alive = count(i64::try_from(live.len()).unwrap_or(0), "server");
    let looked_at = format!("{alive} alive ({})", names.join(", "));
    let mut findings: Vec<_> = silent.iter().map(judge_silent).collect();
    if live.is_empty() {
        findings.push(Finding::critical(
            "no server has been heard of for 5 s, this one included: none may authorize.",
            "Look for `heartbeat` in the log; the database is slow, or out of connections.",
        ));
    }
    Ok(Check::new("servers", looked_at, findings))
}

fn judge_silent(server: &Server) -> Finding {
    let Server { description, silent_seconds, held_seconds, leases } = server;
    let back = if *held_seconds > 0 {
        format!("for {} more", span(*held_seconds))
    } else {
        "until the next look for dead servers".to_owned()
    };
    Finding::warning(
        format!(
            "a server ({description}) was last heard of {} ago and did not stop in order; it holds {} \
             of customers' funds {back}.",
            span(*silent_seconds),
            count(*leases, "lease")
        ),
        "Look at its machine: it was killed, is frozen or is cut off from the database; start it again \
         if it is needed. Its leases come back by themselves.",
    )
}

/// Whether gateways on other machines reach this server.
pub(super) fn reach(listen: SocketAddr, is_embedded: bool) -> Check {
    // With a Postgres of its own it is one machine's server, and loopback is what that is for.
    let is_alone = listen.ip().is_loopback() && !is_embedded;
    let finding = is_alone.then(|| {
        Finding::notice(
            format!("this server listens on {listen}, which no other machine reaches."),
            "Where gateways run elsewhere, give it --listen with an address of theirs and a certificate.",
        )
    });
    Check::new("reach", format!("where gRPC is served: {listen}"), finding)
}

#[cfg(test)]
mod tests {
    use super::{
        super::finding::Severity::{Critical, Warning},
        *,
    };

    #[test]
    fn a_clock_between_two_readings_of_another_agrees_with_it() {
        let at = |seconds: i64| DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
        assert_eq!(skew_seconds(at(0), at(1), at(3)), 0);
        assert_eq!(skew_seconds(at(0), at(13), at(3)), 10);
        assert_eq!(skew_seconds(at(0), at(-4), at(3)), -4);
    }

    #[test]
    fn seconds_are_a_warning_and_what_makes_usage_refused_is_critical() {
        let judged = |seconds| judge_skew(seconds).map(|finding| finding.severity);
        assert_eq!([judged(1), judged(-1)], [None, None]);
        assert_eq!([judged(2), judged(-299)], [Some(Warning), Some(Warning)]);
        assert_eq!(judged(-300), Some(Critical));
    }

    #[test]
    fn loopback_is_for_the_embedded_cluster() {
        let loopback = "127.0.0.1:50051".parse().unwrap();
        assert_eq!(reach(loopback, true).findings, []);
        assert_eq!(reach(loopback, false).findings.len(), 1);
        assert_eq!(reach("0.0.0.0:50051".parse().unwrap(), false).findings, []);
    }
}
