//! `tollgate doctor`: what is wrong with this installation.

use chrono::{DateTime, Utc};

use crate::{
    cli::{
        Session,
        error::CliError,
        output::{Table, Value, text, word},
    },
    clock,
    installation::{CLOCK_SKEW_SECONDS, skew_seconds},
    proto::{
        CheckInstallationRequest, CheckInstallationResponse, InstallationCheck,
        InstallationFinding, Severity,
    },
};

pub(super) const EXAMPLES: &str = "\
Looks at what the books stand on: settings, clocks, servers, rights, replicas, disk, partitions, prices,
months. Exits with 1 when a finding is a warning or critical, with 69 when no server answers.

Examples:
  tollgate doctor
  tollgate doctor --output json";

pub(super) async fn run(session: &Session) -> Result<(), CliError> {
    match look(session).await {
        Ok((checks, healthy)) => {
            session.output.show_all(&tables(&checks))?;
            if healthy {
                let number = checks.len();
                return session
                    .output
                    .note(&format!("healthy: {number} checks, nothing to be done"));
            }
            Err(CliError::failed("this installation needs somebody; do what the findings say"))
        }
        Err(error) => {
            // People read it on the error stream; a program gets a finding as of everything else.
            if !session.output.is_for_people() && is_away(&error) {
                session.output.show_all(&tables(&[unreachable(&error)]))?;
            }
            Err(error)
        }
    }
}

/// Every check, this machine's clock among them, and whether no finding is worse than a notice.
async fn look(session: &Session) -> Result<(Vec<InstallationCheck>, bool), CliError> {
    let mut installation = session.connect().await?.installation();
    let asked = clock::now();
    let answer = installation.check_installation(CheckInstallationRequest {}).await?.into_inner();
    let own = own_clock(asked, &answer, clock::now());
    let healthy = answer.healthy && own.findings.is_empty();
    let mut checks = answer.checks;
    checks.push(own);
    Ok((checks, healthy))
}

/// The server read its clock between our two readings.
fn own_clock(
    asked: DateTime<Utc>,
    answer: &CheckInstallationResponse,
    answered: DateTime<Utc>,
) -> InstallationCheck {
    let time = answer.server_time.as_ref();
    let time = time
        .and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    let skew = time.map_or(0, |time| skew_seconds(asked, time, answered));
    let finding = (skew.abs() >= CLOCK_SKEW_SECONDS).then(|| InstallationFinding {
        severity: Severity::Warning.into(),
        problem: format!(
            "the server's clock is {} s {} this machine's.",
            skew.abs(),
            if skew > 0 { "ahead of" } else { "behind" }
        ),
        remedy:
            "Have NTP set the clocks of both machines (chronyc tracking, timedatectl); `clocks` \
                 says whether the server's agrees with the database's."
                .to_owned(),
    });
    InstallationCheck {
        name: "caller_clock".to_owned(),
        looked_at: format!("the server's clock against this machine's: {} s apart", skew.abs()),
        findings: finding.into_iter().collect(),
    }
}

fn is_away(error: &CliError) -> bool {
    match error {
        CliError::Unreachable { .. } => true,
        CliError::Refused(status) => status.code() == tonic::Code::Unavailable,
        _ => false,
    }
}

fn unreachable(error: &CliError) -> InstallationCheck {
    InstallationCheck {
        name: "answer".to_owned(),
        looked_at: "whether a server answers".to_owned(),
        findings: vec![InstallationFinding {
            severity: Severity::Critical.into(),
            problem: format!("{error}."),
            remedy: "Look whether it runs (systemctl status tollgate) and what its log says last; start \
                     it with `tollgate serve`, or name another with --endpoint."
                .to_owned(),
        }],
    }
}

/// The findings, the worst first, and what was looked at.
fn tables(checks: &[InstallationCheck]) -> [Table; 2] {
    let mut found: Vec<(&str, &InstallationFinding)> = checks
        .iter()
        .flat_map(|check| check.findings.iter().map(|finding| (check.name.as_str(), finding)))
        .collect();
    found.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    let mut findings = Table::list("findings", &["severity", "check", "problem", "remedy"]);
    for (check, finding) in found {
        findings.row([
            word(finding.severity().as_str_name(), "SEVERITY_"),
            text(check),
            text(&finding.problem),
            text(&finding.remedy),
        ]);
    }
    let mut looked_at = Table::list("checks", &["check", "findings", "looked_at"]);
    for check in checks {
        let number = Value::Count(check.findings.len() as u64);
        looked_at.row([text(&check.name), number, text(&check.looked_at)]);
    }
    [findings, looked_at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_clock_that_is_off_is_found_and_a_slow_answer_is_not() {
        let at = |seconds: i64| DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
        let found = |server: i64| {
            let server_time =
                Some(prost_types::Timestamp { seconds: 1_700_000_000 + server, nanos: 0 });
            let answer = CheckInstallationResponse { server_time, ..Default::default() };
            own_clock(at(0), &answer, at(10)).findings
        };
        assert_eq!(found(0), []);
        assert_eq!(found(10), []);
        assert!(found(15)[0].problem.contains("5 s ahead of"));
        assert!(found(-3)[0].problem.contains("3 s behind"));
    }
}
