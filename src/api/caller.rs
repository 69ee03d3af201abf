//! Who makes this call, as `api::call` left it in the request.

use std::sync::Arc;

use sqlx::{PgPool, Postgres, Transaction};
use tonic::{Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use super::status::{ERROR_DOMAIN, refused};
use crate::{
    database::{
        failure::DatabaseFailure,
        reports::{ReportPool, Reports},
    },
    identity::{Caller, Role},
    ids::AccountId,
    telemetry::served::ServedCall,
};

/// The caller of a request.
///
/// # Errors
/// `UNAUTHENTICATED` where nobody was identified, which the server's layer never lets through.
pub fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .ok_or_else(|| Status::unauthenticated("nobody was identified for this call"))
}

/// The call's request id, which is also in its log lines and its answer's `x-request-id`.
pub fn request_id<T>(request: &Request<T>) -> &str {
    request.extensions().get::<Arc<ServedCall>>().map_or("", |call| &call.request_id)
}

/// Refuses a tenant that asks for any account but its own, in the same words as for an account
/// that does not exist: it must not learn which accounts there are. All others may go on.
///
/// # Errors
/// `NOT_FOUND`.
pub fn require_account(caller: &Caller, account: AccountId, field: &str) -> Result<(), Status> {
    if caller.role == Role::Tenant && caller.account != Some(account) {
        return Err(no_such_account(field));
    }
    Ok(())
}

/// What this caller's reports are read through: for a tenant, the rows of its own account alone.
#[must_use]
pub fn reports_of(reports: &Reports, caller: &Caller) -> ReportPool {
    match (caller.role, caller.account) {
        (Role::Tenant, Some(own)) => reports.of(own),
        // No such token is believed; if one were, it would see nothing.
        (Role::Tenant, None) => reports.of(AccountId(Uuid::nil())),
        _ => reports.all(),
    }
}

/// Begins a read that takes milliseconds: for staff among the service's other work, for a tenant where
/// it sees its own account alone.
///
/// # Errors
/// The database's.
pub async fn begin_reading(
    pool: &PgPool,
    reports: &Reports,
    caller: &Caller,
) -> Result<Transaction<'static, Postgres>, Status> {
    if caller.role == Role::Tenant {
        return reports_of(reports, caller).snapshot().await.map_err(refused);
    }
    pool.begin().await.map_err(|error| refused(DatabaseFailure::from(error)))
}

/// What everybody is told about an account that is not there, or not theirs to see.
#[must_use]
pub fn no_such_account(field: &str) -> Status {
    let message = "there is no such account; give its id or its handle, as in `acme`";
    let mut details = ErrorDetails::with_error_info(
        "ACCOUNT_NOT_FOUND",
        ERROR_DOMAIN,
        std::collections::HashMap::new(),
    );
    details.add_bad_request_violation(field, message);
    Status::with_error_details(tonic::Code::NotFound, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_with(role: Role, account: Option<AccountId>) -> Caller {
        Caller { subject: "someone".into(), role, account }
    }

    #[test]
    fn a_tenant_sees_its_own_account_alone() {
        let (own, other) = (AccountId::generate(), AccountId::generate());
        let tenant = caller_with(Role::Tenant, Some(own));
        assert!(require_account(&tenant, own, "account").is_ok());
        let refusal = require_account(&tenant, other, "account").unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::NotFound);
        assert_eq!(refusal.message(), no_such_account("account").message());
        let nobody = caller_with(Role::Tenant, None);
        assert!(require_account(&nobody, own, "account").is_err());
        assert!(require_account(&caller_with(Role::Auditor, None), other, "account").is_ok());
    }
}
