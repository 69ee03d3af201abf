//! `KeyService`: translates, checks the caller, calls [`Keys`].
//!
//! A tenant manages the keys of its own account; another's key is told from none. A `ga_pro_` key
//! opens dedicated capacity that was sold, so a tenant may rotate one but not make one.

use std::sync::Arc;

use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::{
    accounts::{
        change::Change,
        directory::Directory,
        error::AccountError,
        keys::{Keys, record::KeyRecord},
    },
    api::{
        caller::{caller, no_such_account, reports_of},
        convert,
        idempotency::{self, Begun},
        key_convert::{key_message, leaked_key, read_hashes, read_terms, read_tier},
        named_account::named_account_record,
        status::refused,
    },
    authorization::{Authorizer, limits},
    clock,
    database::reports::Reports,
    identity::{Caller, Role},
    ids::KeyId,
    metering::report::last_used,
    money::Currency,
    proto::{self, key_service_server::KeyService},
};

const LIST: &str = "ListKeys";
/// What was done when it is not known whether every server knows.
const REVOKED: &str = "the key is revoked";
/// The same, of those that were found.
const LEAKED: &str = "the keys are revoked";
/// The successor's secret is shown in the answer alone, and there is none.
const ROTATED: &str =
    "the key is rotated (its successor's secret is lost with this answer, so issue another key)";

/// The service.
#[derive(Debug, Clone)]
pub struct KeyApi {
    pool: PgPool,
    reports: Reports,
    keys: Keys,
    directory: Arc<Directory>,
    authorizer: Arc<Authorizer>,
}

impl KeyApi {
    /// Changes are dropped from this directory before they are answered, and a key that dies is
    /// dead on every server by then.
    #[must_use]
    pub fn new(
        pool: PgPool,
        reports: Reports,
        directory: Arc<Directory>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { keys: Keys::new(pool.clone()), pool, reports, directory, authorizer }
    }

    /// Waits until every server knows when a rotated key ends. One that works on for longer than
    /// that can take ends everywhere in time by itself: its new end is announced, and a server that
    /// does not hear it notices, or may not authorize.
    async fn previous_dead_everywhere(
        &self,
        rotated: &proto::RotateKeyResponse,
    ) -> Result<(), Status> {
        let soon = (clock::now() + 2 * limits::EVERYWHERE_WAIT).timestamp();
        let end = rotated.previous.as_ref().and_then(|previous| previous.expires_at.as_ref());
        if end.is_some_and(|end| end.seconds <= soon) {
            self.authorizer.everywhere(ROTATED).await.map_err(refused)?;
        }
        Ok(())
    }

    fn forget(&self, changes: &[Change]) {
        for change in changes {
            self.directory.invalidate(change);
        }
    }

    /// The key that a request names, if the caller may see it, and the currency of its account.
    async fn named_key(
        &self,
        caller: &Caller,
        key_id: &str,
    ) -> Result<(KeyRecord, Currency), Status> {
        let key_id: KeyId = convert::id("key_id", key_id).map_err(refused)?;
        let key = self.keys.get(key_id).await.map_err(refused)?;
        if caller.role == Role::Tenant && caller.account != Some(key.account_id) {
            return Err(refused(AccountError::UnknownKey(key_id)));
        }
        let account = self.directory.account(key.account_id).await.map_err(refused)?;
        let account = account.ok_or_else(|| no_such_account("key_id"))?;
        Ok((key, account.currency))
    }
}

#[tonic::async_trait]
impl KeyService for KeyApi {
    async fn issue_key(
        &self,
        request: Request<proto::IssueKeyRequest>,
    ) -> Result<Response<proto::IssueKeyResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account =
            named_account_record(&self.directory, &caller, "account", &request.account).await?;
        let (scope, key) = (scope("IssueKey", &caller), &request.idempotency_key);
        let mut turn =
            match idempotency::begin(&self.pool, scope, key, &request).await.map_err(refused)? {
                Begun::Repeated(response) => return Ok(Response::new(response)),
                Begun::First(turn) => turn,
            };
        let tier = read_tier(request.tier, &caller)?;
        let terms = read_terms(
            request.name,
            request.project,
            request.limits,
            request.expires_at,
            account.currency,
        )?;
        let changed = self
            .keys
            .issue(turn.connection(), account.account_id, tier, terms)
            .await
            .map_err(refused)?;
        let issued = changed.now;
        let mut response = proto::IssueKeyResponse {
            key: Some(key_message(issued.record, account.currency)),
            api_key: String::new(),
        };
        turn.commit(&response).await.map_err(refused)?;
        self.forget(&changed.changes);
        // Only now, so that it is not stored with the answer.
        issued.secret.reveal().clone_into(&mut response.api_key);
        Ok(Response::new(response))
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let (name, caller) = (&request.get_ref().account, caller(&request)?);
        let account = named_account_record(&self.directory, caller, "account", name).await?;
        let reports = reports_of(&self.reports, caller);
        let request = request.into_inner();
        let page = convert::page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let mut snapshot = reports.snapshot().await.map_err(refused)?;
        let (id, limit) = (account.account_id, page.limit());
        let mut rows =
            self.keys.list(&mut snapshot, id, page.after, limit).await.map_err(refused)?;
        let next_page_token =
            convert::next_page_token(LIST, &mut rows, page.size, |key| key.key_id);
        let ids: Vec<KeyId> = rows.iter().map(|key| key.key_id).collect();
        let used = last_used(&mut snapshot, id, &ids).await.map_err(refused)?;
        let shown = |key: KeyRecord| {
            let last_used_at = used.get(&key.key_id).copied().map(convert::timestamp);
            proto::Key { last_used_at, ..key_message(key, account.currency) }
        };
        let keys = rows.into_iter().map(shown).collect();
        Ok(Response::new(proto::ListKeysResponse { keys, next_page_token }))
    }

    async fn update_key(
        &self,
        request: Request<proto::UpdateKeyRequest>,
    ) -> Result<Response<proto::UpdateKeyResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let (named, currency) = self.named_key(&caller, &request.key_id).await?;
        let (scope, key) = (scope("UpdateKey", &caller), &request.idempotency_key);
        let mut turn =
            match idempotency::begin(&self.pool, scope, key, &request).await.map_err(refused)? {
                Begun::Repeated(response) => return Ok(Response::new(response)),
                Begun::First(turn) => turn,
            };
        let terms = read_terms(
            request.name,
            request.project,
            request.limits,
            request.expires_at,
            currency,
        )?;
        let changed =
            self.keys.update(turn.connection(), named.key_id, &terms).await.map_err(refused)?;
        let response = proto::UpdateKeyResponse { key: Some(key_message(changed.now, currency)) };
        turn.commit(&response).await.map_err(refused)?;
        self.forget(&changed.changes);
        Ok(Response::new(response))
    }

    async fn rotate_key(
        &self,
        request: Request<proto::RotateKeyRequest>,
    ) -> Result<Response<proto::RotateKeyResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let (named, currency) = self.named_key(&caller, &request.key_id).await?;
        let (scope, key) = (scope("RotateKey", &caller), &request.idempotency_key);
        let mut turn =
            match idempotency::begin(&self.pool, scope, key, &request).await.map_err(refused)? {
                Begun::Repeated(response) => {
                    self.forget(&[Change::Key(named.hash)]);
                    self.previous_dead_everywhere(&response).await?;
                    return Ok(Response::new(response));
                }
                Begun::First(turn) => turn,
            };
        let overlap = request.overlap.map(|overlap| convert::length("overlap", &overlap));
        let overlap = overlap.transpose().map_err(refused)?;
        let changed =
            self.keys.rotate(turn.connection(), named.key_id, overlap).await.map_err(refused)?;
        let rotated = changed.now;
        let mut response = proto::RotateKeyResponse {
            key: Some(key_message(rotated.issued.record, currency)),
            api_key: String::new(),
            previous: Some(key_message(rotated.previous, currency)),
        };
        turn.commit(&response).await.map_err(refused)?;
        self.forget(&changed.changes);
        self.previous_dead_everywhere(&response).await?;
        // Only now, so that it is not stored with the answer.
        rotated.issued.secret.reveal().clone_into(&mut response.api_key);
        Ok(Response::new(response))
    }

    async fn revoke_key(
        &self,
        request: Request<proto::RevokeKeyRequest>,
    ) -> Result<Response<proto::RevokeKeyResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let (named, currency) = self.named_key(&caller, &request.key_id).await?;
        let (scope, key) = (scope("RevokeKey", &caller), &request.idempotency_key);
        let mut turn =
            match idempotency::begin(&self.pool, scope, key, &request).await.map_err(refused)? {
                Begun::Repeated(response) => {
                    self.forget(&[Change::Key(named.hash)]);
                    self.authorizer.everywhere(REVOKED).await.map_err(refused)?;
                    return Ok(Response::new(response));
                }
                Begun::First(turn) => turn,
            };
        let changed = self
            .keys
            .revoke(turn.connection(), named.key_id, &request.reason)
            .await
            .map_err(refused)?;
        let response = proto::RevokeKeyResponse { key: Some(key_message(changed.now, currency)) };
        turn.commit(&response).await.map_err(refused)?;
        self.forget(&changed.changes);
        self.authorizer.everywhere(REVOKED).await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn revoke_leaked_keys(
        &self,
        request: Request<proto::RevokeLeakedKeysRequest>,
    ) -> Result<Response<proto::RevokeLeakedKeysResponse>, Status> {
        let request = request.into_inner();
        let hashes = read_hashes(&request.key_hashes)?;
        let forgotten: Vec<Change> = hashes.iter().copied().map(Change::Key).collect();
        let key = &request.idempotency_key;
        let begun = idempotency::begin(&self.pool, "RevokeLeakedKeys", key, &request);
        let mut turn = match begun.await.map_err(refused)? {
            Begun::Repeated(response) => {
                self.forget(&forgotten);
                self.authorizer.everywhere(LEAKED).await.map_err(refused)?;
                return Ok(Response::new(response));
            }
            Begun::First(turn) => turn,
        };
        let changed = self
            .keys
            .revoke_leaked(turn.connection(), &hashes, &request.reason)
            .await
            .map_err(refused)?;
        let unknown = hashes.len().saturating_sub(changed.now.len());
        let response = proto::RevokeLeakedKeysResponse {
            keys: changed.now.into_iter().map(leaked_key).collect(),
            unknown: u32::try_from(unknown).unwrap_or(u32::MAX),
        };
        turn.commit(&response).await.map_err(refused)?;
        self.forget(&forgotten);
        self.authorizer.everywhere(LEAKED).await.map_err(refused)?;
        Ok(Response::new(response))
    }
}

/// Tenants choose their idempotency keys without knowing of each other.
fn scope(rpc: &str, caller: &Caller) -> String {
    match caller.account {
        Some(account) if caller.role == Role::Tenant => format!("{rpc} for {account}"),
        _ => rpc.to_owned(),
    }
}
