//! Keys and accounts in memory, for the hot path.
//!
//! A first look-up asks the database; after that memory answers, until the row changes. Every
//! change is announced in the transaction that makes it ([`Change`]) and heard by every server
//! ([`Directory::listen`]); the server that makes it also drops its own copy before it answers, so
//! that a revoked key is dead here when `RevokeKey` returns. A row that was read before a change is
//! never kept after it.
//!
//! What may be used is for the caller to judge: a record says that a key is revoked or expired and
//! an account suspended, it is not missing then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use thiserror::Error;
use tokio::time::timeout;

use crate::{
    accounts::{
        account::{AccountRecord, HANDLE_LENGTH},
        budgets,
        change::{CHANNEL, Change},
        keys::{self, record::KeyRecord},
        shelf::{Bounds, Shelf},
        store,
    },
    database::failure::DatabaseFailure,
    ids::{AccountId, KeyId},
    problem::{Problem, ProblemKind},
};

/// Keys in memory: about a kilobyte each, and far more than are busy at a time.
const MAX_KEYS: usize = 200_000;
/// Accounts in memory: more than are busy as well, since the cache is in parts, and one that has more
/// than its share forgets some before the others are full.
const MAX_ACCOUNTS: usize = 200_000;
/// Handles in memory. They never change, nor do the hashes of keys, so that these need no fence.
const MAX_HANDLES: usize = 100_000;
/// How long a row is kept at most: the net under an announcement that was lost.
const LIFETIME: Duration = Duration::from_mins(10);
/// Well-formed keys and ids in memory that nobody has: a gateway's misconfigured customer must not
/// cost a query for each request.
const MAX_UNKNOWN: usize = 50_000;
/// How long they are remembered.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(10);
/// How the listener's connection is called in `pg_stat_activity`.
const LISTENER: &str = "tollgate listener";
/// How often a listener that hears nothing asks whether its connection still carries anything: a
/// router that forgot it says nothing either.
const LISTENER_BEAT: Duration = Duration::from_millis(500);
/// How long the answer to that may take.
const LISTENER_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before listening again after the connection was lost.
const RELISTEN: Duration = Duration::from_millis(200);

/// Why an account or a key cannot be looked up.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// No account has this id or handle.
    #[error("there is no account {0:?}; give the id or the handle of one, see ListAccounts")]
    UnknownAccount(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
}

impl From<sqlx::Error> for DirectoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Problem for DirectoryError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::UnknownAccount(_) => ProblemKind::NotFound,
            Self::Database(failure) => failure.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownAccount(_) => "ACCOUNT_NOT_FOUND",
            Self::Database(failure) => failure.reason(),
        }
    }

    fn field(&self) -> Option<String> {
        matches!(self, Self::UnknownAccount(_)).then(|| "account".to_owned())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::UnknownAccount(_) => None,
            Self::Database(failure) => failure.retry_after(),
        }
    }
}

/// The cache; see the module. One per server.
pub struct Directory {
    pool: PgPool,
    keys: Shelf<[u8; 32], KeyRecord>,
    accounts: Shelf<AccountId, AccountRecord>,
    handles: Cache<String, AccountId>,
    hashes: Cache<KeyId, [u8; 32]>,
    /// Rises after each change that dropped something.
    version: AtomicU64,
}

impl Directory {
    /// An empty directory that fills itself from this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let bounds = |rows| Bounds {
            rows,
            lifetime: LIFETIME,
            absent: MAX_UNKNOWN,
            absent_lifetime: UNKNOWN_LIFETIME,
        };
        Self {
            pool,
            keys: Shelf::new(bounds(MAX_KEYS)),
            accounts: Shelf::new(bounds(MAX_ACCOUNTS)),
            handles: Cache::new(MAX_HANDLES),
            hashes: Cache::new(MAX_KEYS),
            version: AtomicU64::new(0),
        }
    }

    /// The key with this hash, if it is in memory. Never waits.
    #[must_use]
    pub fn cached_key(&self, hash: &[u8; 32]) -> Option<Arc<KeyRecord>> {
        self.keys.get(hash)
    }

    /// The account, if it is in memory. Never waits.
    #[must_use]
    pub fn cached_account(&self, account: AccountId) -> Option<Arc<AccountRecord>> {
        self.accounts.get(&account)
    }

    /// The key with this hash; `None` if nobody has it.
    ///
    /// # Errors
    /// When it is not in memory and the database failed.
    pub async fn key_by_hash(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<Arc<KeyRecord>>, DirectoryError> {
        let load = async { Ok(keys::store::by_hash(&self.pool, &hash).await?) };
        let found: Result<_, DirectoryError> = self.keys.find(hash, load).await;
        if let Ok(Some(key)) = &found {
            self.hashes.insert(key.key_id, hash);
        }
        found
    }

    /// The key with this id; `None` if there is none.
    ///
    /// # Errors
    /// When it is not in memory and the database failed.
    pub async fn key(&self, key: KeyId) -> Result<Option<Arc<KeyRecord>>, DirectoryError> {
        let hash = match self.hashes.get(&key) {
            Some(hash) => hash,
            None => match keys::store::key(&self.pool, key).await? {
                Some(record) => record.hash,
                None => return Ok(None),
            },
        };
        match self.cached_key(&hash) {
            Some(record) => Ok(Some(record)),
            None => self.key_by_hash(hash).await,
        }
    }

    /// The account with this id; `None` if there is none.
    ///
    /// # Errors
    /// When it is not in memory and the database failed.
    pub async fn account(
        &self,
        account: AccountId,
    ) -> Result<Option<Arc<AccountRecord>>, DirectoryError> {
        let load = async {
            let Some(found) = store::account(&self.pool, account).await? else { return Ok(None) };
            let budgets = budgets::of_account(&self.pool, account).await?;
            Ok(Some(AccountRecord::of(found, budgets)))
        };
        self.accounts.find(account, load).await
    }

    /// The account that a request names by id or handle.
    ///
    /// # Errors
    /// [`DirectoryError::UnknownAccount`], or the database failed.
    pub async fn resolve(&self, id_or_handle: &str) -> Result<AccountId, DirectoryError> {
        let account = match id_or_handle.parse::<AccountId>() {
            Ok(id) => self.account(id).await?.map(|account| account.account_id),
            Err(_) => self.account_of_handle(id_or_handle).await?,
        };
        account.ok_or_else(|| {
            DirectoryError::UnknownAccount(id_or_handle.chars().take(HANDLE_LENGTH).collect())
        })
    }

    async fn account_of_handle(&self, handle: &str) -> Result<Option<AccountId>, DirectoryError> {
        if handle.len() > HANDLE_LENGTH || handle.contains('\0') {
            return Ok(None);
        }
        if let Some(account) = self.handles.get(handle) {
            return Ok(Some(account));
        }
        let found = store::account_of_handle(&self.pool, handle).await?;
        if let Some(account) = found {
            self.handles.insert(handle.to_owned(), account);
        }
        Ok(found)
    }

    /// Drops what a change has made stale. Whoever commits a change calls this before it answers.
    pub fn invalidate(&self, change: &Change) {
        match change {
            Change::Key(hash) => self.keys.forget(hash),
            Change::Account(account) | Change::Budgets(account) => self.accounts.forget(account),
            Change::Token(_)
            | Change::Prices
            | Change::Recall(..)
            | Change::Barrier(_)
            | Change::Question(_) => return,
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// As long as this is what it was before a look-up, memory still holds what was found, but for
    /// its age.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Drops everything: changes may have been missed.
    pub fn invalidate_all(&self) {
        self.keys.forget_all();
        self.accounts.forget_all();
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Listens to the changes that all servers announce, for as long as the server runs; whenever
    /// it had to connect again it first listens, then drops everything, since changes may have been
    /// missed. `on_change` is called for each change, and then with `None`: anything may have
    /// changed.
    pub async fn listen(
        self: Arc<Self>,
        pool: PgPool,
        on_change: impl Fn(Option<&Change>) + Send + Sync + 'static,
    ) {
        loop {
            let lost = match self.listen_once(&pool, &on_change).await {
                Ok(()) => "the connection ended".to_owned(),
                Err(error) => error.to_string(),
            };
            tracing::warn!(cause = lost, "not hearing of changes; connecting again");
            // Nothing is dropped here: what is in memory stays good for as long as this server may
            // go on authorising without the database, which its heartbeat decides.
            tokio::time::sleep(RELISTEN).await;
        }
    }

    /// Returns when the connection is lost.
    async fn listen_once(
        &self,
        pool: &PgPool,
        on_change: &(impl Fn(Option<&Change>) + Send + Sync),
    ) -> sqlx::Result<()> {
        // Not one of the pool's connections, which may all have fallen silent with this one.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LISTENER_PATIENCE)
            .connect_lazy_with(
                PgConnectOptions::clone(&pool.connect_options()).application_name(LISTENER),
            );
        let mut listener = PgListener::connect_with(&own).await?;
        // A listener that connects again by itself would hide that changes were missed.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        self.invalidate_all();
        on_change(None);
        loop {
            let Ok(heard) = timeout(LISTENER_BEAT, listener.try_recv()).await else {
                match timeout(LISTENER_PATIENCE, store::ask(&mut listener)).await {
                    Ok(answer) => answer?,
                    Err(_) => return Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                }
                continue;
            };
            let Some(notification) = heard? else { return Ok(()) };
            if let Ok(change) = notification.payload().parse() {
                self.invalidate(&change);
                on_change(Some(&change));
            } else {
                tracing::debug!(
                    payload = notification.payload(),
                    "an announcement that this version does not know"
                );
            }
        }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Directory").finish_non_exhaustive()
    }
}
