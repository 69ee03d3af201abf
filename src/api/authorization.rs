//! `AuthorizationService`: may this key call this model now.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    caller::caller,
    convert,
    named_account::named_account,
    status::{item_error, refused},
};
use crate::{
    accounts::{directory::Directory, key::Tier},
    authorization::{
        Authorizer,
        decision::{self, Decision, Denial, Grant, Reason, Warning, WarningReason},
        error::AuthorizationError,
        grant::GrantClaims,
        reservations::{Position, position},
    },
    catalog::model::Route,
    metering::{event::NewEvent, recorder::Recorder},
    proto::{self, authorization_service_server::AuthorizationService},
};

/// Requests of one stream that are decided at the same time: enough to hide the wait for a lease,
/// few enough that one stream cannot flood the server.
const STREAM_CONCURRENCY: usize = 256;
/// The scheduling class of requests on dedicated capacity; shared capacity has 0.
const DEDICATED_PRIORITY: u32 = 10;

/// The service; see `proto/tollgate/v1/authorization.proto`.
#[derive(Clone)]
pub struct AuthorizationApi {
    authorizer: Arc<Authorizer>,
    directory: Arc<Directory>,
    recorder: Recorder,
    closing: CancellationToken,
}

impl AuthorizationApi {
    /// The service over these parts; its streams answer what they have received and end when
    /// `closing` is cancelled.
    #[must_use]
    pub const fn new(
        authorizer: Arc<Authorizer>,
        directory: Arc<Directory>,
        recorder: Recorder,
        closing: CancellationToken,
    ) -> Self {
        Self { authorizer, directory, recorder, closing }
    }

    async fn decide(
        &self,
        request: proto::AuthorizeRequest,
    ) -> Result<proto::AuthorizeResponse, AuthorizationError> {
        let decision = self.authorizer.authorize(&question(request)).await?;
        Ok(proto::AuthorizeResponse { decision: Some(answer(decision)) })
    }

    async fn decide_item(&self, item: proto::AuthorizeStreamRequest) -> StreamedAnswer {
        use proto::authorize_stream_response::Result as Item;
        let request = item.request.unwrap_or_default();
        let request_id = request.request_id.clone();
        let result = match self.decide(request).await {
            Ok(response) => Item::Response(response),
            Err(error) => Item::Error(item_error(&error)),
        };
        Ok(proto::AuthorizeStreamResponse { request_id, result: Some(result) })
    }
}

type StreamedAnswer = Result<proto::AuthorizeStreamResponse, Status>;

#[tonic::async_trait]
impl AuthorizationService for AuthorizationApi {
    type AuthorizeStreamStream = Pin<Box<dyn Stream<Item = StreamedAnswer> + Send>>;

    async fn authorize(
        &self,
        request: Request<proto::AuthorizeRequest>,
    ) -> Result<Response<proto::AuthorizeResponse>, Status> {
        self.decide(request.into_inner()).await.map(Response::new).map_err(refused)
    }

    async fn authorize_stream(
        &self,
        request: Request<Streaming<proto::AuthorizeStreamRequest>>,
    ) -> Result<Response<Self::AuthorizeStreamStream>, Status> {
        let api = Arc::new(self.clone());
        let answers = request
            .into_inner()
            .take_until(self.closing.clone().cancelled_owned())
            .map(move |item| {
                let api = Arc::clone(&api);
                async move { api.decide_item(item?).await }
            })
            .buffered(STREAM_CONCURRENCY);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn extend_authorization(
        &self,
        request: Request<proto::ExtendAuthorizationRequest>,
    ) -> Result<Response<proto::ExtendAuthorizationResponse>, Status> {
        use proto::extend_authorization_response::Decision as Answer;
        let request = request.into_inner();
        let decision = self
            .authorizer
            .extend(&request.token, request.max_output_tokens, request.allow_reduced_output)
            .await
            .map_err(refused)?;
        let decision = match decision {
            Decision::Granted(grant) => Answer::Grant(granted(grant)),
            Decision::Denied(denial) => Answer::Denial(denied(*denial)),
        };
        Ok(Response::new(proto::ExtendAuthorizationResponse { decision: Some(decision) }))
    }

    async fn cancel_authorization(
        &self,
        request: Request<proto::CancelAuthorizationRequest>,
    ) -> Result<Response<proto::CancelAuthorizationResponse>, Status> {
        let token = request.into_inner().token;
        let claims = self.authorizer.claims(&token).map_err(refused)?;
        let (id, reserved, currency) = (claims.authorization_id, claims.reserved, claims.currency);
        if self.authorizer.heartbeat().database_now() >= claims.expires_at {
            // Nothing is held for it any more; cancelling it would only hide that it leaked.
            return Err(refused(AuthorizationError::Expired(id)));
        }
        let cancellation = NewEvent::cancellation(claims);
        let recorded = self.recorder.record(cancellation).await.map_err(refused)?;
        Ok(Response::new(proto::CancelAuthorizationResponse {
            authorization_id: id.to_string(),
            released: Some(convert::money(reserved.minus_to_zero(recorded.charge), currency)),
            charged: Some(convert::money(recorded.charge, currency)),
        }))
    }

    async fn list_reservations(
        &self,
        request: Request<proto::ListReservationsRequest>,
    ) -> Result<Response<proto::ListReservationsResponse>, Status> {
        const LIST: &str = "ListReservations";
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let page = convert::page::<Position>(LIST, request.page_size, &request.page_token)
            .map_err(refused)?;
        let account = match request.account.as_str() {
            "" => None,
            named => Some(named_account(&self.directory, &caller, "account", named).await?),
        };
        let limit = u32::try_from(page.size).unwrap_or(u32::MAX).saturating_add(1);
        let found =
            self.authorizer.reservations(account, page.after, limit).await.map_err(refused)?;
        let mut rows = found.rows;
        let next_page_token = convert::next_page_token(LIST, &mut rows, page.size, position);
        let now = self.authorizer.heartbeat().database_now();
        Ok(Response::new(proto::ListReservationsResponse {
            reservations: rows.into_iter().map(|claims| reservation(claims, now)).collect(),
            next_page_token,
            missing_instance_ids: found.missing.iter().map(ToString::to_string).collect(),
        }))
    }
}

fn question(request: proto::AuthorizeRequest) -> decision::Request {
    decision::Request {
        api_key: request.api_key,
        model: request.model,
        request_id: request.request_id,
        input_tokens: request.input_tokens,
        max_output_tokens: request.max_output_tokens,
        allow_reduced_output: request.allow_reduced_output,
        end_user: request.end_user,
        labels: request.labels.into_iter().collect(),
    }
}

fn answer(decision: Decision) -> proto::authorize_response::Decision {
    match decision {
        Decision::Granted(grant) => proto::authorize_response::Decision::Grant(granted(grant)),
        Decision::Denied(denial) => proto::authorize_response::Decision::Denial(denied(*denial)),
    }
}

fn granted(grant: Grant) -> proto::Grant {
    let claims = grant.claims;
    let (route, priority) = match grant.route {
        Route::Standard => (proto::Route::Standard, 0),
        Route::Dedicated => (proto::Route::Dedicated, DEDICATED_PRIORITY),
    };
    let tier = match claims.tier {
        Tier::Standard => proto::Tier::Standard,
        Tier::Pro => proto::Tier::Pro,
    };
    proto::Grant {
        authorization_id: claims.authorization_id.to_string(),
        token: grant.token,
        account_id: claims.account_id.to_string(),
        key_id: claims.key_id.to_string(),
        tier: tier.into(),
        route: route.into(),
        price_version: claims.price_version.0,
        reserved: Some(convert::money(claims.reserved, claims.currency)),
        max_output_tokens: claims.max_output_tokens,
        expires_at: Some(convert::timestamp(claims.expires_at)),
        reduced: grant.reduced,
        priority,
        warnings: grant.warnings.into_iter().map(warning).collect(),
    }
}

fn warning(warning: Warning) -> proto::GrantWarning {
    let reason = match warning.reason {
        WarningReason::SpikeGuard => proto::WarningReason::SpikeGuard,
        WarningReason::SoftBudget => proto::WarningReason::SoftBudget,
    };
    proto::GrantWarning {
        reason: reason.into(),
        scope: warning.scope,
        message: warning.message,
        limit: warning.limit.unwrap_or_default(),
        used: warning.used.unwrap_or_default(),
    }
}

fn denied(denial: Denial) -> proto::Denial {
    proto::Denial {
        reason: reason(denial.reason).into(),
        scope: denial.scope,
        limit: denial.limit.unwrap_or_default(),
        used: denial.used.unwrap_or_default(),
        reserved: denial.reserved.unwrap_or_default(),
        resets_at: denial.resets_at.map(convert::timestamp),
        retryable: denial.retry_after.is_some(),
        retry_after: denial.retry_after.map(convert::duration),
        http_status: denial.reason.http_status().into(),
        error_code: denial.reason.error_code().to_owned(),
        message: denial.message,
    }
}

const fn reason(reason: Reason) -> proto::DenialReason {
    match reason {
        Reason::MalformedKey => proto::DenialReason::MalformedKey,
        Reason::UnknownKey => proto::DenialReason::UnknownKey,
        Reason::KeyRevoked => proto::DenialReason::KeyRevoked,
        Reason::KeyExpired => proto::DenialReason::KeyExpired,
        Reason::AccountSuspended => proto::DenialReason::AccountSuspended,
        Reason::AccountClosed => proto::DenialReason::AccountClosed,
        Reason::ModelNotFound => proto::DenialReason::ModelNotFound,
        Reason::ModelUnpriced => proto::DenialReason::ModelUnpriced,
        Reason::ModelNotAllowed => proto::DenialReason::ModelNotAllowed,
        Reason::ProKeyRequired => proto::DenialReason::ProKeyRequired,
        Reason::RequestTooLarge => proto::DenialReason::RequestTooLarge,
        Reason::RequestTooExpensive => proto::DenialReason::RequestTooExpensive,
        Reason::SpikeGuard => proto::DenialReason::SpikeGuard,
        Reason::RateLimited => proto::DenialReason::RateLimited,
        Reason::BudgetExceeded => proto::DenialReason::BudgetExceeded,
        Reason::CreditLimitExceeded => proto::DenialReason::CreditLimitExceeded,
        Reason::InsufficientCredits => proto::DenialReason::InsufficientCredits,
    }
}

fn reservation(claims: GrantClaims, now: chrono::DateTime<chrono::Utc>) -> proto::Reservation {
    proto::Reservation {
        authorization_id: claims.authorization_id.to_string(),
        account_id: claims.account_id.to_string(),
        key_id: claims.key_id.to_string(),
        model: claims.model,
        reserved: Some(convert::money(claims.reserved, claims.currency)),
        max_output_tokens: claims.max_output_tokens,
        authorized_at: Some(convert::timestamp(claims.authorized_at)),
        expires_at: Some(convert::timestamp(claims.expires_at)),
        request_id: claims.request_id,
        instance_id: claims.issuer.to_string(),
        expired: claims.expires_at <= now,
    }
}
