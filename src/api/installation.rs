//! `InstallationService`: translates, calls `installation`.

use tonic::{Request, Response, Status};

use super::{convert::timestamp, status::refused};
use crate::{
    clock,
    installation::{Check, Doctor, Finding, Severity},
    proto::{self, installation_service_server::InstallationService},
};

/// The service.
#[derive(Debug, Clone)]
pub struct InstallationApi {
    doctor: Doctor,
}

impl InstallationApi {
    /// Answers what this doctor finds.
    #[must_use]
    pub const fn new(doctor: Doctor) -> Self {
        Self { doctor }
    }
}

#[tonic::async_trait]
impl InstallationService for InstallationApi {
    async fn check_installation(
        &self,
        _: Request<proto::CheckInstallationRequest>,
    ) -> Result<Response<proto::CheckInstallationResponse>, Status> {
        let examination = self.doctor.examine().await.map_err(refused)?;
        Ok(Response::new(proto::CheckInstallationResponse {
            healthy: examination.is_healthy(),
            checks: examination.checks.into_iter().map(check).collect(),
            server_time: Some(timestamp(clock::now())),
        }))
    }
}

fn check(check: Check) -> proto::InstallationCheck {
    proto::InstallationCheck {
        name: check.name.to_owned(),
        looked_at: check.looked_at,
        findings: check.findings.into_iter().map(finding).collect(),
    }
}

fn finding(finding: Finding) -> proto::InstallationFinding {
    let severity = match finding.severity {
        Severity::Notice => proto::Severity::Notice,
        Severity::Warning => proto::Severity::Warning,
        Severity::Critical => proto::Severity::Critical,
    };
    proto::InstallationFinding {
        severity: severity.into(),
        problem: finding.problem,
        remedy: finding.remedy,
    }
}
