//! What the hot path remembers of keys and accounts, and how it hears that they changed.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tollgate::{
    accounts::{account::AccountStatus, change::Change, directory::Directory, key},
    clock, proto,
    tasks::Tasks,
};

use crate::{
    harness::server::TestServer,
    keys::{issue, revoke, standard, with_account},
};

/// The time a change may take to reach every server.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// Another server's memory: a directory over the same database, with its listener running.
struct Elsewhere {
    directory: Arc<Directory>,
    /// Changes heard so far, and how often listening began.
    heard: watch::Receiver<(u32, u32)>,
    _tasks: Tasks,
}

impl Elsewhere {
    async fn of(server: &TestServer) -> Self {
        let pool = server.pool();
        let directory = Arc::new(Directory::new(pool.clone()));
        let (hear, heard) = watch::channel((0, 0));
        let (tasks, listener) = (Tasks::new(), Arc::clone(&directory));
        tasks.spawn("listener", async move {
            let tell = move |change: Option<&Change>| {
                hear.send_modify(|(changes, begun)| match change {
                    // Follows a change, and changes nothing.
                    Some(Change::Barrier(_)) => {}
                    Some(_) => *changes += 1,
                    None => *begun += 1,
                });
            };
            listener.listen(pool, tell).await;
        });
        let mut elsewhere = Self { directory, heard, _tasks: tasks };
        elsewhere.heard.wait_for(|(_, begun)| *begun > 0).await.unwrap();
        elsewhere
    }

    /// Waits until so many changes were heard, so that none of them is still under way.
    async fn heard_of(&mut self, changes: u32) {
        self.heard.wait_for(|(heard, _)| *heard >= changes).await.unwrap();
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = clock::since_boot();
    while !holds().await {
        let waited = clock::since_boot().saturating_sub(started);
        assert!(waited < HEARD_WITHIN, "not within a second: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn another_server_hears_of_every_change_within_a_second() {
    let (server, account_id) = with_account().await;
    let mut keys = server.operator().await.keys();
    let mut elsewhere = Elsewhere::of(&server).await;
    let issued = issue(&mut keys, standard("production")).await.unwrap();
    elsewhere.heard_of(1).await;
    let directory = &elsewhere.directory;
    let (hash, issued) = (key::parse(&issued.api_key).unwrap().hash, issued.key.unwrap());
    let known = directory.key_by_hash(hash).await.unwrap().expect("the key");
    assert_eq!(known.key_id.to_string(), issued.key_id);
    let account = directory.account(known.account_id).await.unwrap().expect("the account");
    assert_eq!((account.handle.as_str(), account.status), ("acme", AccountStatus::Active));
    assert!(directory.cached_key(&hash).is_some(), "the second look-up is from memory");
    assert_eq!(directory.resolve("acme").await.unwrap().to_string(), account_id);

    revoke(&mut keys, &issued).await.unwrap();
    until("the key is revoked", async || {
        directory.key_by_hash(hash).await.unwrap().unwrap().revoked_at.is_some()
    })
    .await;
    let suspend = proto::SuspendAccountRequest { account: account_id, ..Default::default() };
    server.operator().await.accounts().suspend_account(suspend).await.unwrap();
    until("the account is suspended", async || {
        let account = directory.account(known.account_id).await.unwrap().unwrap();
        account.status == AccountStatus::Suspended
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_lost_its_connection_drops_what_it_may_have_missed() {
    let (server, _) = with_account().await;
    let mut keys = server.operator().await.keys();
    let mut elsewhere = Elsewhere::of(&server).await;
    let issued = issue(&mut keys, standard("production")).await.unwrap();
    elsewhere.heard_of(1).await;
    let directory = &elsewhere.directory;
    let hash = key::parse(&issued.api_key).unwrap().hash;
    assert!(directory.key_by_hash(hash).await.unwrap().is_some());

    // A change that is not announced stands for one whose announcement was lost.
    sqlx::query("UPDATE api_keys SET revoked_at = now()").execute(&server.pool()).await.unwrap();
    assert!(directory.key_by_hash(hash).await.unwrap().unwrap().revoked_at.is_none());
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE query LIKE 'LISTEN%' AND datname = current_database()",
    )
    .execute(&server.pool())
    .await
    .unwrap();
    until("the revocation is seen", async || {
        directory.key_by_hash(hash).await.unwrap().unwrap().revoked_at.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_key_nobody_has_is_remembered_as_unknown() {
    let (server, _) = with_account().await;
    let pool = server.pool();
    let directory = Directory::new(pool.clone());
    let nobodys = key::ApiKey::generate(key::Tier::Standard).unwrap().hash();
    assert!(directory.key_by_hash(nobodys).await.unwrap().is_none());
    pool.close().await;
    assert!(directory.key_by_hash(nobodys).await.unwrap().is_none(), "asked the database again");
    let other = key::ApiKey::generate(key::Tier::Standard).unwrap().hash();
    assert!(directory.key_by_hash(other).await.is_err(), "made an answer up");
}
