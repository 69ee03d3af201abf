//! `UsageService`: translates, checks the caller, calls `metering`.
//!
//! Gateways record usage of every account; a customer's own tools read that of their account alone.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    caller::{caller, reports_of},
    convert::{self, BadField},
    idempotency::{self, Begun},
    named_account::named_account,
    status::{item_error, refused},
    usage_convert::{self as messages, UsageRefusal},
};
use crate::{
    accounts::directory::Directory,
    catalog::book::PriceBook,
    database::reports::Reports,
    identity::{Caller, Role},
    ids::{AccountId, AuthorizationId, KeyId, ModelId},
    ledger::reversal::{ReversalOrder, reverse_usage},
    metering::{
        error::MeteringError,
        intake::{Intake, Ticket},
        limits::{MAX_USAGES, STREAM_IN_FLIGHT},
        report::{Grouping, Span, SummaryCursor, UnsettledCursor, UsageQuery, UsageReports},
    },
    proto::{self, usage_service_server::UsageService},
    tasks::slowly,
};

/// What the service is made of.
#[derive(Clone)]
pub struct UsageApi {
    /// Where usage goes.
    pub intake: Intake,
    /// Names of accounts.
    pub directory: Arc<Directory>,
    /// Names of models.
    pub book: Arc<PriceBook>,
    /// For reversals.
    pub pool: PgPool,
    /// For lists and totals.
    pub reports: Reports,
    /// When it is cancelled, streams answer what they have received and end.
    pub closing: CancellationToken,
}

impl UsageApi {
    async fn submit(&self, usage: proto::RecordUsageRequest) -> Result<Ticket, UsageRefusal> {
        Ok(self.intake.submit(messages::usage(usage)?).await?)
    }

    async fn record(
        &self,
        usage: proto::RecordUsageRequest,
    ) -> Result<proto::RecordUsageResponse, UsageRefusal> {
        let recorded = self.submit(usage).await?.answer().await?;
        Ok(messages::recorded(&recorded))
    }

    async fn submit_item(
        &self,
        usage: Option<proto::RecordUsageRequest>,
    ) -> Result<Ticket, UsageRefusal> {
        match usage {
            Some(usage) => self.submit(usage).await,
            None => Err(messages::no_usage("usage").into()),
        }
    }

    /// The account that may be left out: then all, or for a tenant its own.
    async fn account_or_all(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<AccountId>, Status> {
        match name {
            "" if caller.role == Role::Tenant => Ok(Some(caller.account.ok_or_else(|| {
                let problem = "is missing; give your own account's id or handle";
                refused(BadField::new("account", "MISSING_ACCOUNT", problem))
            })?)),
            "" => Ok(None),
            name => named_account(&self.directory, caller, "account", name).await.map(Some),
        }
    }

    fn model(&self, name: &str) -> Result<Option<ModelId>, Status> {
        if name.is_empty() {
            return Ok(None);
        }
        let model = self.book.model(name).ok_or_else(|| {
            let shown: String = name.chars().take(60).collect();
            let problem = format!("there is no model {shown:?}; see ListModels for the names");
            refused(BadField::new("model", "MODEL_NOT_FOUND", problem))
        })?;
        Ok(Some(model.model_id))
    }

    fn reports_of(&self, caller: &Caller) -> UsageReports {
        UsageReports::new(reports_of(&self.reports, caller))
    }
}

/// The answer to one of many, once it is committed or refused.
async fn answer_to(ticket: Result<Ticket, UsageRefusal>) -> proto::RecordUsageResult {
    use proto::record_usage_result::Result as Item;
    let answer = match ticket {
        Ok(ticket) => ticket.answer().await.map_err(UsageRefusal::from),
        Err(error) => Err(error),
    };
    let result = match answer {
        Ok(recorded) => Item::Response(messages::recorded(&recorded)),
        Err(error) => Item::Error(item_error(&error)),
    };
    proto::RecordUsageResult { result: Some(result) }
}

type Streamed = Result<proto::RecordUsageStreamResponse, Status>;

#[tonic::async_trait]
impl UsageService for UsageApi {
    type RecordUsageStreamStream = Pin<Box<dyn Stream<Item = Streamed> + Send>>;

    async fn record_usage(
        &self,
        request: Request<proto::RecordUsageRequest>,
    ) -> Result<Response<proto::RecordUsageResponse>, Status> {
        self.record(request.into_inner()).await.map(Response::new).map_err(refused)
    }

    async fn record_usage_batch(
        &self,
        request: Request<proto::RecordUsageBatchRequest>,
    ) -> Result<Response<proto::RecordUsageBatchResponse>, Status> {
        let usages = request.into_inner().usages;
        if usages.len() > MAX_USAGES {
            let problem = format!("has {} usages; send at most {MAX_USAGES}", usages.len());
            return Err(refused(BadField::new("usages", "TOO_MANY_USAGES", problem)));
        }
        // All are queued before the first is waited for, so that they share their commits.
        let mut tickets = Vec::with_capacity(usages.len());
        for usage in usages {
            tickets.push(self.submit(usage).await);
        }
        let mut results = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            results.push(answer_to(ticket).await);
        }
        Ok(Response::new(proto::RecordUsageBatchResponse { results }))
    }

    async fn record_usage_stream(
        &self,
        request: Request<Streaming<proto::RecordUsageStreamRequest>>,
    ) -> Result<Response<Self::RecordUsageStreamStream>, Status> {
        let api = Arc::new(self.clone());
        let answers = request
            .into_inner()
            .take_until(self.closing.clone().cancelled_owned())
            .map(move |item| {
                let api = Arc::clone(&api);
                // In memory of its own, which is free again once the item is queued: thousands wait
                // for their commit at a time.
                let queued = slowly(async move {
                    let item: proto::RecordUsageStreamRequest = item?;
                    Ok::<_, Status>((item.sequence, api.submit_item(item.usage).await))
                });
                async move {
                    let (sequence, ticket) = queued.await?;
                    let result = Some(answer_to(ticket).await);
                    Ok(proto::RecordUsageStreamResponse { sequence, result })
                }
            })
            // A caller that does not read its answers stops being read.
            .buffer_unordered(STREAM_IN_FLIGHT);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn reverse_usage(
        &self,
        request: Request<proto::ReverseUsageRequest>,
    ) -> Result<Response<proto::ReverseUsageResponse>, Status> {
        const RPC: &str = "ReverseUsage";
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account = named_account(&self.directory, &caller, "account", &request.account).await?;
        let event: AuthorizationId = convert::id("event_id", &request.event_id).map_err(refused)?;
        let (pool, key) = (&self.pool, &request.idempotency_key);
        let mut turn = match idempotency::begin(pool, RPC, key, &request).await.map_err(refused)? {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        let order = ReversalOrder {
            account,
            event: event.0,
            reason: request.reason,
            idempotency_key: request.idempotency_key,
        };
        let reversal = reverse_usage(turn.connection(), &order).await.map_err(refused)?;
        let response = messages::reversed(event, &reversal);
        turn.commit(&response).await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn list_usage(
        &self,
        request: Request<proto::ListUsageRequest>,
    ) -> Result<Response<proto::ListUsageResponse>, Status> {
        const LIST: &str = "ListUsage";
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account = named_account(&self.directory, &caller, "account", &request.account).await?;
        let page = convert::page::<AuthorizationId>(LIST, request.page_size, &request.page_token)
            .map_err(refused)?;
        let key_id: Option<KeyId> =
            convert::optional_id("key_id", &request.key_id).map_err(refused)?;
        let query = UsageQuery {
            account,
            key_id,
            model_id: self.model(&request.model)?,
            span: span(request.from.as_ref(), request.until.as_ref())?,
        };
        let mut rows = self
            .reports_of(&caller)
            .list(&query, page.after, page.limit())
            .await
            .map_err(refused)?;
        let next_page_token =
            convert::next_page_token(LIST, &mut rows, page.size, |event| event.event_id);
        let events = rows.into_iter().map(messages::usage_event).collect();
        Ok(Response::new(proto::ListUsageResponse { events, next_page_token }))
    }

    async fn summarize_usage(
        &self,
        request: Request<proto::SummarizeUsageRequest>,
    ) -> Result<Response<proto::SummarizeUsageResponse>, Status> {
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account = self.account_or_all(&caller, &request.account).await?;
        let span = span(request.from.as_ref(), request.until.as_ref())?;
        let (list, grouping) = grouping(request.group_by)?;
        let page = convert::page::<SummaryCursor>(list, request.page_size, &request.page_token)
            .map_err(refused)?;
        let limit = page.limit();
        let mut rows = self
            .reports_of(&caller)
            .summarize(account, span, grouping, page.after, limit)
            .await
            .map_err(refused)?;
        let next_page_token =
            convert::next_page_token(list, &mut rows, page.size, SummaryCursor::of);
        let summaries = rows.into_iter().map(messages::summary).collect();
        Ok(Response::new(proto::SummarizeUsageResponse { summaries, next_page_token }))
    }

    async fn list_unsettled(
        &self,
        request: Request<proto::ListUnsettledRequest>,
    ) -> Result<Response<proto::ListUnsettledResponse>, Status> {
        const LIST: &str = "ListUnsettled";
        let caller = caller(&request)?.clone();
        let request = request.into_inner();
        let account = self.account_or_all(&caller, &request.account).await?;
        let page = convert::page::<UnsettledCursor>(LIST, request.page_size, &request.page_token)
            .map_err(refused)?;
        let mut rows = self
            .reports_of(&caller)
            .unsettled(account, page.after, page.limit())
            .await
            .map_err(refused)?;
        let next_page_token = convert::next_page_token(LIST, &mut rows, page.size, |row| {
            UnsettledCursor { account: row.account_id.0, authorization: row.authorization_id.0 }
        });
        let authorizations = rows.into_iter().map(messages::unsettled).collect();
        Ok(Response::new(proto::ListUnsettledResponse { authorizations, next_page_token }))
    }
}

fn span(
    from: Option<&prost_types::Timestamp>,
    until: Option<&prost_types::Timestamp>,
) -> Result<Span, Status> {
    let from = from.map(|from| convert::moment("from", from)).transpose().map_err(refused)?;
    let until = until.map(|until| convert::moment("until", until)).transpose().map_err(refused)?;
    Span::new(from, until).map_err(|error: MeteringError| refused(error))
}

/// What to group by, and a name for that list, so that a page of one is refused by another.
fn grouping(value: i32) -> Result<(&'static str, Grouping), Status> {
    match proto::UsageGrouping::try_from(value) {
        Ok(proto::UsageGrouping::Unspecified | proto::UsageGrouping::Model) => {
            Ok(("SummarizeUsage by model", Grouping::Model))
        }
        Ok(proto::UsageGrouping::Key) => Ok(("SummarizeUsage by key", Grouping::Key)),
        Ok(proto::UsageGrouping::Day) => Ok(("SummarizeUsage by day", Grouping::Day)),
        Ok(proto::UsageGrouping::Account) => Ok(("SummarizeUsage by account", Grouping::Account)),
        Err(_) => Err(refused(messages::unknown_number("group_by", value))),
    }
}
