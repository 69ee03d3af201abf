//! `KeyService`: translates, checks the caller, calls [`Keys`].
//!
//! A tenant manages the keys of its own account; another's key is told from none. A `ga_pro_` key
//! opens dedicated capacity that was sold, so a tenant may rotate one but not make one.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use sqlx::PgPool;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    accounts::{
        change::Change,
        directory::Directory,
        error::AccountError,
        key::Tier,
        keys::{
            Keys,
            record::{KeyRecord, KeyStatus, KeyTerms, ModelPatterns, Rates, SpikeGuard},
        },
    },
    api::{
        account_convert::unknown_choice,
        caller::{caller, no_such_account},
        convert::{self, BadField},
        idempotency::{self, Begun},
        named_account::named_account_record,
        status::{ERROR_DOMAIN, refused},
    },
    authorization::{Authorizer, limits},
    clock,
    database::reports::ReportPool,
    identity::{Caller, Role},
    ids::KeyId,
    money::{Amount, Currency},
    proto::{self, key_service_server::KeyService},
};

const LIST: &str = "ListKeys";
/// What may cost no more is no spike, unless a guard says otherwise: 0.01 of any currency.
const USUAL_SPIKE_FLOOR: Amount = Amount::HUNDREDTH;
/// What was done when it is not known whether every server knows.
const REVOKED: &str = "the key is revoked";
/// The successor's secret is shown in the answer alone, and there is none.
const ROTATED: &str =
    "the key is rotated (its successor's secret is lost with this answer, so issue another key)";

/// The service.
#[derive(Debug, Clone)]
pub struct KeyApi {
    pool: PgPool,
    reports: ReportPool,
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
        reports: ReportPool,
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
        let name = &request.get_ref().account;
        let account =
            named_account_record(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let page = convert::page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let mut snapshot = self.reports.snapshot().await.map_err(refused)?;
        let (id, limit) = (account.account_id, page.limit());
        let mut rows =
            self.keys.list(&mut snapshot, id, page.after, limit).await.map_err(refused)?;
        let next_page_token =
            convert::next_page_token(LIST, &mut rows, page.size, |key| key.key_id);
        let keys = rows.into_iter().map(|key| key_message(key, account.currency)).collect();
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
}

/// Tenants choose their idempotency keys without knowing of each other.
fn scope(rpc: &str, caller: &Caller) -> String {
    match caller.account {
        Some(account) if caller.role == Role::Tenant => format!("{rpc} for {account}"),
        _ => rpc.to_owned(),
    }
}

fn read_tier(value: i32, caller: &Caller) -> Result<Tier, Status> {
    match proto::Tier::try_from(value) {
        Ok(proto::Tier::Standard) => Ok(Tier::Standard),
        Ok(proto::Tier::Pro) if caller.role == Role::Tenant => Err(pro_key_refused()),
        Ok(proto::Tier::Pro) => Ok(Tier::Pro),
        Ok(proto::Tier::Unspecified) => {
            let problem = "is missing; TIER_STANDARD makes a ga_sk_ key, TIER_PRO a ga_pro_ key";
            Err(refused(BadField::new("tier", "MISSING", problem)))
        }
        Err(_) => Err(refused(unknown_choice("tier", value))),
    }
}

fn pro_key_refused() -> Status {
    let message = "a tenant cannot issue a ga_pro_ key; ask whoever operates this service";
    let mut details =
        ErrorDetails::with_error_info("PRO_KEY_NOT_ALLOWED", ERROR_DOMAIN, HashMap::new());
    details.add_bad_request_violation("tier", message);
    Status::with_error_details(tonic::Code::PermissionDenied, message, details)
}

fn read_terms(
    name: String,
    project: String,
    limits: Option<proto::KeyLimits>,
    expires_at: Option<prost_types::Timestamp>,
    currency: Currency,
) -> Result<KeyTerms, Status> {
    let limits = limits.unwrap_or_default();
    let max_cost = limits.max_cost_per_request.as_ref();
    let expires_at = expires_at.map(|moment| convert::moment("expires_at", &moment));
    Ok(KeyTerms {
        name,
        allowed_models: ModelPatterns::parse(&limits.allowed_models).map_err(refused)?,
        max_tokens_per_request: Some(limits.max_tokens_per_request).filter(|most| *most > 0),
        max_cost_per_request: convert::optional_amount(
            "limits.max_cost_per_request",
            max_cost,
            currency,
        )
        .map_err(refused)?,
        expires_at: expires_at.transpose().map_err(refused)?,
        project,
        rates: Rates {
            requests_per_minute: rate("requests_per_minute", limits.requests_per_minute)?,
            tokens_per_minute: rate("tokens_per_minute", limits.tokens_per_minute)?,
            spike_guard: match &limits.spike_guard {
                Some(guard) => Some(read_spike_guard(guard, currency)?),
                None => None,
            },
        },
    })
}

fn rate(field: &str, rate: u64) -> Result<Option<NonZeroU32>, Status> {
    let fits = u32::try_from(rate).map_err(|_| {
        let problem = format!("must be 1 to {}, or 0 for no limit", u32::MAX);
        refused(BadField::new(format!("limits.{field}"), "OUT_OF_RANGE", problem))
    })?;
    Ok(NonZeroU32::new(fits))
}

fn read_spike_guard(guard: &proto::SpikeGuard, currency: Currency) -> Result<SpikeGuard, Status> {
    let refuses = match proto::SpikeGuardMode::try_from(guard.mode) {
        Ok(proto::SpikeGuardMode::Refuse) => true,
        Ok(proto::SpikeGuardMode::Flag) => false,
        Ok(proto::SpikeGuardMode::Unspecified) => {
            let problem = "is missing; REFUSE denies a spike, FLAG warns in the grant";
            return Err(refused(BadField::new("limits.spike_guard.mode", "MISSING", problem)));
        }
        Err(_) => return Err(refused(unknown_choice("limits.spike_guard.mode", guard.mode))),
    };
    let multiple = SpikeGuard::multiple("limits.spike_guard.multiple", &guard.multiple);
    let floor =
        convert::optional_amount("limits.spike_guard.floor", guard.floor.as_ref(), currency);
    Ok(SpikeGuard {
        refuses,
        multiple: multiple.map_err(refused)?,
        floor: floor.map_err(refused)?.unwrap_or(USUAL_SPIKE_FLOOR),
    })
}

fn shown(rate: Option<NonZeroU32>) -> u64 {
    rate.map_or(0, |rate| rate.get().into())
}

fn spike_guard(guard: SpikeGuard, currency: Currency) -> proto::SpikeGuard {
    let mode =
        if guard.refuses { proto::SpikeGuardMode::Refuse } else { proto::SpikeGuardMode::Flag };
    proto::SpikeGuard {
        mode: mode.into(),
        multiple: guard.multiple.to_string(),
        floor: Some(convert::money(guard.floor, currency)),
    }
}

fn key_message(key: KeyRecord, currency: Currency) -> proto::Key {
    let status = match key.status_at(clock::now()) {
        KeyStatus::Active => proto::KeyStatus::Active,
        KeyStatus::Revoked => proto::KeyStatus::Revoked,
        KeyStatus::Expired => proto::KeyStatus::Expired,
    };
    proto::Key {
        key_id: key.key_id.to_string(),
        account_id: key.account_id.to_string(),
        name: key.name,
        tier: match key.tier {
            Tier::Standard => proto::Tier::Standard,
            Tier::Pro => proto::Tier::Pro,
        }
        .into(),
        hint: key.hint,
        status: status.into(),
        limits: Some(proto::KeyLimits {
            allowed_models: key.allowed_models.to_strings(),
            max_tokens_per_request: key.max_tokens_per_request.unwrap_or(0),
            max_cost_per_request: key
                .max_cost_per_request
                .map(|most| convert::money(most, currency)),
            requests_per_minute: shown(key.rates.requests_per_minute),
            tokens_per_minute: shown(key.rates.tokens_per_minute),
            spike_guard: key.rates.spike_guard.map(|guard| spike_guard(guard, currency)),
        }),
        project: key.project,
        created_at: Some(convert::timestamp(key.created_at)),
        expires_at: key.expires_at.map(convert::timestamp),
        revoked_at: key.revoked_at.map(convert::timestamp),
        revoked_reason: key.revoked_reason,
        rotated_from: key.rotated_from.map(|from| from.to_string()).unwrap_or_default(),
    }
}
