//! Changing calls that may be sent twice and take effect once.
//!
//! [`begin`] opens the transaction of a changing RPC and takes its `idempotency_key`; whatever the
//! call changes happens on [`Turn::connection`], and [`Turn::commit`] stores the answer and commits
//! both together. The same key with the same request gets the stored answer; with another request it
//! is refused, naming the field. An empty key means none: the call is made without this protection.
//!
//! ```text
//! let mut turn = match idempotency::begin(&pool, "TopUp", &request.idempotency_key, &request).await? {
//!     Begun::Repeated(response) => return Ok(response),
//!     Begun::First(turn) => turn,
//! };
//! let effect = ledger.top_up(turn.connection(), …).await?;
//! turn.commit(&response).await?;
//! ```
//!
//! A turn that is dropped rolls back and gives the key back. Between the two use the turn's
//! connection alone: a second one from the same pool could wait for this one for ever.

mod store;

use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use thiserror::Error;

use super::audit::attempt;
use crate::{
    database::failure::{DatabaseFailure, RETRY_AFTER},
    problem::{Problem, ProblemKind},
};

/// The longest idempotency key, in characters: room for two UUIDs and a prefix.
pub const KEY_LENGTH: usize = 128;
/// How often a key is looked up that was seen taken but is gone again, as when the holder rolled
/// back or a clean-up removed it; each round waits for the holder.
const ROUNDS: usize = 5;

/// Why a call under an idempotency key is refused.
#[derive(Debug, Error)]
pub enum IdempotencyError {
    /// The key was used for a different request.
    #[error(
        "idempotency_key {0:?} was used before for a different request; \
         send the first request unchanged, or take a new key"
    )]
    Reused(String),
    /// The key is longer than [`KEY_LENGTH`] or has characters that cannot be printed.
    #[error(
        "idempotency_key is not usable: it may have at most {KEY_LENGTH} printable characters, \
         such as a UUID"
    )]
    Malformed,
    /// The call was made, and its answer was erased with the personal data that it held.
    #[error(
        "idempotency_key {0:?} was used before: that call took effect, and its answer was erased \
         with the account's personal data; read what it made, or take a new key"
    )]
    AnswerErased(String),
    /// The key changed hands too often while this call waited for it.
    #[error("other calls with the same idempotency_key keep failing and starting over; try again")]
    Contended,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for IdempotencyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Problem for IdempotencyError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::Reused(_) | Self::AnswerErased(_) => ProblemKind::AlreadyExists,
            Self::Malformed => ProblemKind::InvalidArgument,
            Self::Contended => ProblemKind::Aborted,
            Self::Database(failure) => failure.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Reused(_) => "IDEMPOTENCY_KEY_REUSED",
            Self::AnswerErased(_) => "IDEMPOTENCY_ANSWER_ERASED",
            Self::Malformed => "INVALID_IDEMPOTENCY_KEY",
            Self::Contended => "IDEMPOTENCY_KEY_CONTENDED",
            Self::Database(failure) => failure.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Reused(_) | Self::AnswerErased(_) | Self::Malformed => {
                Some("idempotency_key".to_owned())
            }
            Self::Contended | Self::Database(_) => None,
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Database(failure) => failure.retry_after(),
            Self::Contended => Some(RETRY_AFTER),
            Self::Reused(_) | Self::AnswerErased(_) | Self::Malformed => None,
        }
    }
}

/// What [`begin`] found.
#[derive(Debug)]
pub enum Begun<Response> {
    /// The same call was made before; this is its answer.
    Repeated(Response),
    /// The key is taken for this call: do the work, then commit.
    First(Turn),
}

/// The open transaction of a changing call.
#[derive(Debug)]
pub struct Turn {
    transaction: Transaction<'static, Postgres>,
    /// RPC and key; `None` for a call without a key.
    taken: Option<(String, String)>,
}

/// Opens a changing call. `request` is the whole request message as it came in: it tells a repeated
/// call from a different one. `rpc` names the RPC, and what else must keep callers apart.
///
/// # Errors
/// [`IdempotencyError`]: the key is reused or malformed, or the database failed.
pub async fn begin<Request, Response>(
    pool: &PgPool,
    rpc: impl Into<String>,
    key: &str,
    request: &Request,
) -> Result<Begun<Response>, IdempotencyError>
where
    Request: Message,
    Response: Message + Default,
{
    if key.is_empty() {
        return Ok(Begun::First(Turn { transaction: pool.begin().await?, taken: None }));
    }
    if key.chars().count() > KEY_LENGTH || key.chars().any(char::is_control) {
        return Err(IdempotencyError::Malformed);
    }
    let rpc = rpc.into();
    let request_hash: [u8; 32] = Sha256::digest(request.encode_to_vec()).into();
    let mut transaction = pool.begin().await?;
    for _ in 0..ROUNDS {
        if store::take(&mut transaction, &rpc, key, &request_hash).await? {
            let taken = Some((rpc, key.to_owned()));
            return Ok(Begun::First(Turn { transaction, taken }));
        }
        if let Some(earlier) = store::earlier(&mut transaction, &rpc, key).await? {
            if earlier.answer_erased {
                return Err(IdempotencyError::AnswerErased(key.to_owned()));
            }
            if earlier.request_hash != request_hash {
                return Err(IdempotencyError::Reused(key.to_owned()));
            }
            let response = Response::decode(earlier.response.as_slice())
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            return Ok(Begun::Repeated(response));
        }
    }
    Err(IdempotencyError::Contended)
}

impl Turn {
    /// The connection on which everything that this call changes must happen.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Stores the answer under the key, writes the call's entry in the audit trail, and commits both
    /// with the effect. A secret must not be in it: hand over the answer without it.
    ///
    /// # Errors
    /// When the database failed; then nothing has happened, unless the connection broke during the
    /// commit itself, which the same call with the same key finds out.
    pub async fn commit(mut self, response: &impl Message) -> Result<(), DatabaseFailure> {
        if let Some((rpc, key)) = &self.taken {
            store::answer(&mut self.transaction, rpc, key, &response.encode_to_vec()).await?;
        }
        Ok(attempt::commit(self.transaction, response).await?)
    }
}
