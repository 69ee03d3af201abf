//! `AuditService`, and how calls come into the trail that it shows.

pub(in crate::api) mod attempt;
mod json;

use std::sync::Arc;

use serde_json::Value;
use tonic::{Request, Response, Status};

use super::{
    caller::caller,
    convert::{moment, next_page_token, page, timestamp},
    named_account::named_account,
    status::refused,
};
use crate::{
    accounts::directory::Directory,
    audit::{Filter, Recorded, store},
    database::{failure::DatabaseFailure, reports::ReportPool},
    proto::{self, audit_service_server::AuditService},
};

const LIST: &str = "ListAuditEntries";

/// The service.
#[derive(Debug, Clone)]
pub struct AuditApi {
    reports: ReportPool,
    directory: Arc<Directory>,
}

impl AuditApi {
    /// Reads the trail in the database behind this pool.
    #[must_use]
    pub const fn new(reports: ReportPool, directory: Arc<Directory>) -> Self {
        Self { reports, directory }
    }
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_audit_entries(
        &self,
        request: Request<proto::ListAuditEntriesRequest>,
    ) -> Result<Response<proto::ListAuditEntriesResponse>, Status> {
        let account = match request.get_ref().account.as_str() {
            "" => None,
            name => Some(named_account(&self.directory, caller(&request)?, "account", name).await?),
        };
        let request = request.into_inner();
        let page = page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let given = |text: String| (!text.is_empty()).then_some(text);
        let time = |field, at: Option<prost_types::Timestamp>| {
            at.map(|at| moment(field, &at)).transpose().map_err(refused)
        };
        let filter = Filter {
            account,
            actor: given(request.actor),
            rpc: given(request.rpc),
            code: given(request.result),
            from: time("from", request.from)?,
            until: time("until", request.until)?,
            before: page.after,
            limit: page.limit(),
        };
        let mut snapshot = self.reports.snapshot().await.map_err(refused)?;
        let listed = store::list(&mut *snapshot, &filter).await;
        let mut rows = listed.map_err(|error| refused(DatabaseFailure::from(error)))?;
        let next_page_token = next_page_token(LIST, &mut rows, page.size, |last| last.audit_entry);
        let entries = rows.into_iter().map(message).collect();
        Ok(Response::new(proto::ListAuditEntriesResponse { entries, next_page_token }))
    }
}

fn message(row: Recorded) -> proto::AuditEntry {
    let Recorded { audit_entry, recorded_at, entry, changes } = row;
    let json = |value: Option<Value>| value.map(|value| value.to_string()).unwrap_or_default();
    proto::AuditEntry {
        number: audit_entry,
        recorded_at: Some(timestamp(recorded_at)),
        actor: entry.actor,
        token_id: entry.token_id,
        roles: entry.roles,
        peer: entry.peer,
        request_id: entry.request_id,
        rpc: entry.rpc,
        target: entry.target,
        account_ids: entry.account_ids.iter().map(ToString::to_string).collect(),
        idempotency_key: entry.idempotency_key,
        result: entry.code,
        reason: entry.reason,
        request_json: json(entry.request),
        answer_json: json(entry.answer),
        changes_json: changes.to_string(),
        suppressed: entry.suppressed,
    }
}
