//! A call that the audit trail has, from the door to its entry.
//!
//! `api::call` begins an [`Attempt`] for each call of an audited RPC and runs the handler within it.
//! What commits the change writes the entry in the same transaction: [`commit`]. A call that ends otherwise is noted by the layer: [`Attempt::failed`]. A
//! repeated call, which changes nothing and gets the first one's answer, leaves no entry of its own.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{Extensions, HeaderMap};
use http_body::{Frame, SizeHint};
use prost::Message;
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tonic_types::StatusExt as _;

use super::json::{self, Side};
use crate::{
    audit::{Entry, OK, attempts::Attempts, store},
    identity::{Role, token::VerifiedToken},
    ids::AccountId,
    telemetry::served::ServedCall,
};

/// The most bytes of a request or an answer that an entry holds: far more than any but a price book.
pub(super) const MESSAGE_LIMIT: usize = 64 * 1024;
/// What gRPC puts before a message: a flag and four bytes of length.
const PREFIX: usize = 5;
/// The fields of requests that say what a call is about, in the order of an entry's target.
const TARGETS: [&str; 12] = [
    "account",
    "handle",
    "key_id",
    "budget_id",
    "invoice",
    "payment",
    "payment_id",
    "event_id",
    "token_id",
    "period",
    "project",
    "external_reference",
];
/// The most accounts that an entry takes from messages.
const ACCOUNTS: usize = 1_000;

tokio::task_local! {
    static ATTEMPT: Arc<Attempt>;
}

/// Runs a handler as this attempt.
pub(in crate::api) type Within<F> = tokio::task::futures::TaskLocalFuture<Arc<Attempt>, F>;

/// One call of an audited RPC.
#[derive(Debug)]
pub(in crate::api) struct Attempt {
    served: Arc<ServedCall>,
    who: Option<Arc<VerifiedToken>>,
    peer: String,
    heard: Mutex<Vec<u8>>,
    committed: AtomicBool,
}

impl Attempt {
    /// A call that begins; `who` is whose token it came with, if that is believed.
    pub(in crate::api) fn begin(
        served: &Arc<ServedCall>,
        who: Option<Arc<VerifiedToken>>,
        extensions: &Extensions,
    ) -> Arc<Self> {
        let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Arc::new(Self {
            served: Arc::clone(served),
            who,
            peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
            heard: Mutex::default(),
            committed: AtomicBool::new(false),
        })
    }

    /// Runs a handler as this attempt.
    pub(in crate::api) fn scope<F: Future>(self: &Arc<Self>, handler: F) -> Within<F> {
        ATTEMPT.scope(Arc::clone(self), handler)
    }

    /// The request's body, overheard as the handler reads it.
    pub(in crate::api) fn listen(self: &Arc<Self>, body: Body) -> Body {
        Body::new(Overheard { body, attempt: Arc::clone(self) })
    }

    /// Notes a call that ended with this refusal, unless its change was made all the same: then its
    /// entry is there, and what failed came afterwards.
    pub(in crate::api) fn failed(&self, attempts: &Attempts, headers: &HeaderMap, code: &str) {
        if self.committed.load(Ordering::Acquire) {
            return;
        }
        let reason = || {
            let status = Status::from_header_map(headers);
            let info = status.and_then(|status| status.get_details_error_info());
            info.map(|info| info.reason).unwrap_or_default()
        };
        let caller = match &self.who {
            Some(token) => format!("subject {}", token.subject),
            // The port is another with each connection.
            None => format!("from {}", self.peer.rsplit_once(':').map_or("", |(host, _)| host)),
        };
        let refused = |entry: Entry| Entry { code: code.to_owned(), reason: reason(), ..entry };
        attempts.note(
            &caller,
            || refused(self.bare()),
            || {
                let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                refused(self.entry(&heard, None))
            },
        );
    }

    /// Who, from where and what, without the messages.
    fn bare(&self) -> Entry {
        let token = self.who.as_deref();
        Entry {
            actor: token.map(|token| token.subject.to_string()).unwrap_or_default(),
            token_id: token.and_then(|token| token.token_id.as_deref()).unwrap_or("").to_owned(),
            roles: token.into_iter().flat_map(|token| token.roles.iter()).map(name).collect(),
            account_ids: token.and_then(|token| token.account).into_iter().collect(),
            peer: self.peer.clone(),
            request_id: self.served.request_id.clone(),
            rpc: self.served.rpc.to_owned(),
            ..Entry::default()
        }
    }

    fn entry(&self, heard: &[u8], answer: Option<&[u8]>) -> Entry {
        let request = request(self.served.rpc, heard);
        let answer = answer.map(|answer| message(self.served.rpc, Side::Answer, answer));
        let field = |name: &str| {
            request.as_ref().and_then(|request| request.get(name)).and_then(Value::as_str)
        };
        let target: Vec<String> = TARGETS
            .iter()
            .filter_map(|name| field(name).map(|value| format!("{name}={value}")))
            .collect();
        let mut entry = Entry {
            target: target.join(" "),
            handle: field("account").unwrap_or_default().to_owned(),
            idempotency_key: field("idempotency_key").unwrap_or_default().to_owned(),
            ..self.bare()
        };
        entry.account_ids.extend(field("account").and_then(|id| id.parse::<AccountId>().ok()));
        for message in request.iter().chain(&answer) {
            collect_accounts(message, &mut entry.account_ids);
        }
        entry.request = request;
        entry.answer = answer;
        entry
    }
}

/// Writes the entry of the call that runs here and commits it together with the call's change. Outside
/// of an audited call there is no entry.
///
/// # Errors
/// Failures of the database; neither has happened then, unless the connection broke during the commit.
pub(in crate::api) async fn commit(
    mut transaction: Transaction<'_, Postgres>,
    answer: &impl Message,
) -> sqlx::Result<()> {
    let Ok(attempt) = ATTEMPT.try_with(Arc::clone) else { return transaction.commit().await };
    let heard = {
        let heard = attempt.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    };
    let entry = attempt.entry(&heard, Some(&answer.encode_to_vec()));
    store::insert(&mut transaction, Entry { code: OK.to_owned(), ..entry }).await?;
    transaction.commit().await?;
    attempt.committed.store(true, Ordering::Release);
    Ok(())
}

fn name(role: Role) -> String {
    role.name().to_owned()
}

/// The request that was heard, where all of it was. One that was too large is told by its size.
fn request(rpc: &str, heard: &[u8]) -> Option<Value> {
    let length = heard.get(1..PREFIX)?.try_into().map(u32::from_be_bytes).ok()? as usize;
    match heard.get(PREFIX..PREFIX + length) {
        Some(bytes) => Some(message(rpc, Side::Request, bytes)),
        None if heard.len() >= MESSAGE_LIMIT => Some(json!({ "omitted_bytes": length })),
        None => None,
    }
}

fn message(rpc: &str, side: Side, bytes: &[u8]) -> Value {
    if bytes.len() > MESSAGE_LIMIT {
        return json!({ "omitted_bytes": bytes.len() });
    }
    json::of_message(rpc, side, bytes).unwrap_or_else(|| json!({ "unreadable_bytes": bytes.len() }))
}

/// Whatever a message calls `account_id`.
fn collect_accounts(value: &Value, found: &mut Vec<AccountId>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "account_id" => {
                        found.extend(
                            text.parse::<AccountId>().ok().filter(|_| found.len() < ACCOUNTS),
                        );
                    }
                    other => collect_accounts(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_accounts(item, found)),
        _ => {}
    }
}

/// A body, and who overhears its beginning.
struct Overheard {
    body: Body,
    attempt: Arc<Attempt>,
}

impl http_body::Body for Overheard {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let mut heard = this.attempt.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MESSAGE_LIMIT.saturating_sub(heard.len()).min(data.remaining());
            heard.extend_from_slice(data.get(..room).unwrap_or_default());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
