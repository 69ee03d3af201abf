//! `TokenService`: translates, calls `identity::revoked`, and waits until every server knows.

use std::sync::Arc;

use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{
    audit::attempt,
    caller::caller,
    convert::{self, next_page_token, page, timestamp},
    status::refused,
};
use crate::{
    accounts::{self, change::Change},
    authorization::Authorizer,
    database::{failure::DatabaseFailure, reports::ReportPool},
    identity::{
        revoked::{
            self, MOST_REVOKED, RevocationError, RevokedTokens,
            store::{self, RevokedToken},
        },
        token::Fingerprint,
    },
    proto::{self, token_service_server::TokenService},
};

const LIST: &str = "ListRevokedTokens";
/// What was done when it is not known whether every server knows.
const REVOKED: &str = "the token is revoked";

/// The service.
#[derive(Debug, Clone)]
pub struct TokenApi {
    pool: PgPool,
    reports: ReportPool,
    revoked: Arc<RevokedTokens>,
    authorizer: Arc<Authorizer>,
}

impl TokenApi {
    /// Revoked tokens are in the database behind these pools, and in this server's memory.
    #[must_use]
    pub const fn new(
        pool: PgPool,
        reports: ReportPool,
        revoked: Arc<RevokedTokens>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { pool, reports, revoked, authorizer }
    }
}

#[tonic::async_trait]
impl TokenService for TokenApi {
    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Result<Response<proto::RevokeTokenResponse>, Status> {
        let by = Arc::clone(&caller(&request)?.subject);
        let request = request.into_inner();
        let (token_id, reason) = (request.token_id.as_str(), request.reason.as_str());
        revoked::check(token_id, reason).map_err(refused)?;
        let expires_at = request.expires_at.map(|end| convert::moment("expires_at", &end));
        let expires_at = expires_at.transpose().map_err(refused)?;

        let mut transaction = self.pool.begin().await.map_err(failed)?;
        if store::count_unexpired(&mut transaction).await.map_err(failed)? >= MOST_REVOKED {
            return Err(refused(RevocationError::TooMany));
        }
        let stored = store::insert(&mut transaction, token_id, reason, &by, expires_at)
            .await
            .map_err(failed)?;
        let change = Change::Token(Fingerprint::of(token_id));
        accounts::store::announce(&mut transaction, &change).await.map_err(failed)?;
        let response = proto::RevokeTokenResponse { token: Some(message(stored)) };
        attempt::commit(transaction, &response).await.map_err(failed)?;

        self.revoked.add(Fingerprint::of(token_id));
        self.authorizer.everywhere(REVOKED).await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn list_revoked_tokens(
        &self,
        request: Request<proto::ListRevokedTokensRequest>,
    ) -> Result<Response<proto::ListRevokedTokensResponse>, Status> {
        let request = request.into_inner();
        let page = page::<String>(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let mut snapshot = self.reports.snapshot().await.map_err(refused)?;
        let mut rows = store::list(&mut *snapshot, page.after.as_deref(), page.limit())
            .await
            .map_err(failed)?;
        let next_page_token =
            next_page_token(LIST, &mut rows, page.size, |last| last.token_id.clone());
        let tokens = rows.into_iter().map(message).collect();
        Ok(Response::new(proto::ListRevokedTokensResponse { tokens, next_page_token }))
    }
}

fn failed(error: sqlx::Error) -> Status {
    refused(DatabaseFailure::from(error))
}

fn message(token: RevokedToken) -> proto::RevokedToken {
    proto::RevokedToken {
        token_id: token.token_id,
        reason: token.reason,
        revoked_by: token.revoked_by,
        revoked_at: Some(timestamp(token.revoked_at)),
        expires_at: token.expires_at.map(timestamp),
    }
}
