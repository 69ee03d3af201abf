//! What is revoked or suspended is so on every server when the call returns, whatever stands in the
//! way of the news.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;
use tollgate::{
    cli::client::Client,
    proto::{
        CancelAuthorizationRequest, DenialReason, ExtendAuthorizationRequest, KeyLimits,
        RevokeKeyRequest, RotateKeyRequest, SuspendAccountRequest, Tier,
        authorize_response::Decision, extend_authorization_response::Decision as Extension,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    postgres::fresh_database,
    server::TestServer,
    wire::{LISTENER, Wire},
    world::{World, all_roles, authorize, decimal, request},
};

/// A barrier with every server in good health takes milliseconds; the machine may be busy.
const HEALTHY: Duration = Duration::from_secs(1);
/// One beat, a moment for the listener, another beat.
const LISTENER_GONE: Duration = Duration::from_secs(2);
/// The deadline of a heartbeat with its margin, and a look.
const CUT_OFF: Duration = Duration::from_millis(6_500);
const CLIENTS: usize = 18;

/// Three servers of one database, the last on a wire; a customer with one key on all of them.
struct Cluster {
    world: World,
    others: Vec<TestServer>,
    wire: Wire,
    database: PgConnectOptions,
    key_id: String,
    key: String,
}

impl Cluster {
    async fn start() -> Self {
        let database = fresh_database().await;
        let world = World::on(TestServer::start_on(database.clone()).await).await;
        let wire = Wire::to(database.clone()).await;
        let others = vec![
            TestServer::start_on(database.clone()).await,
            TestServer::start_on(wire.options.clone()).await,
        ];
        world.startup("acme", "100000").await;
        let (record, key) = world.issue("acme", Tier::Standard, KeyLimits::default()).await;
        Self { world, others, wire, database, key_id: record.key_id, key }
    }

    async fn clients(&self) -> Vec<Client> {
        let mut clients = vec![self.world.client.clone()];
        for server in &self.others {
            clients.push(all_roles(server).await);
        }
        clients
    }

    fn revocation(&self) -> RevokeKeyRequest {
        RevokeKeyRequest { key_id: self.key_id.clone(), ..RevokeKeyRequest::default() }
    }

    async fn revoke(&self) {
        self.world.client.keys().revoke_key(self.revocation()).await.unwrap();
    }
}

/// Grants after which the load is one.
const UNDER_LOAD: u64 = 50;

/// Clients that authorize on all servers, one request after the other.
struct Load {
    clients: JoinSet<u64>,
    stopped: Arc<AtomicBool>,
    /// Set when the call that revokes has returned.
    revoked: Arc<AtomicBool>,
    granted: Arc<AtomicU64>,
}

impl Load {
    async fn on(cluster: &Cluster) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            stopped: Arc::default(),
            revoked: Arc::default(),
            granted: Arc::default(),
        };
        let servers = cluster.clients().await;
        for client in servers.iter().cycle().take(CLIENTS) {
            let client = client.clone();
            let asked = request(&cluster.key, 10);
            let (stopped, revoked) = (Arc::clone(&load.stopped), Arc::clone(&load.revoked));
            let granted = Arc::clone(&load.granted);
            load.clients.spawn(async move {
                let mut too_late = 0;
                while !stopped.load(Ordering::SeqCst) {
                    let after = revoked.load(Ordering::SeqCst);
                    if let Ok(Decision::Grant(_)) = authorize(&client, &asked).await {
                        granted.fetch_add(1, Ordering::SeqCst);
                        too_late += u64::from(after);
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                too_late
            });
        }
        // Every server has key, account and lease in memory before anything is revoked.
        for client in &servers {
            let asked = request(&cluster.key, 10);
            while !matches!(authorize(client, &asked).await, Ok(Decision::Grant(_))) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        while load.granted.load(Ordering::SeqCst) <= UNDER_LOAD {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        load
    }

    /// Goes on for a while after the change is effective everywhere, and fails if any request that
    /// began after that was granted.
    async fn end(mut self, how_long: Duration) {
        self.revoked.store(true, Ordering::SeqCst);
        tokio::time::sleep(how_long).await;
        self.stopped.store(true, Ordering::SeqCst);
        let mut too_late = 0;
        while let Some(granted) = self.clients.join_next().await {
            too_late += granted.unwrap();
        }
        let all = self.granted.load(Ordering::SeqCst);
        assert_eq!(too_late, 0, "of {all} grants so many began after the call had returned");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_anywhere_after_a_key_was_revoked() {
    let cluster = Cluster::start().await;
    let load = Load::on(&cluster).await;
    let begun = Instant::now();
    cluster.revoke().await;
    let took = begun.elapsed();
    load.end(Duration::from_millis(500)).await;
    eprintln!("revoked on three healthy servers in {took:?}");
    assert!(took < HEALTHY, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_anywhere_after_an_account_was_suspended() {
    let cluster = Cluster::start().await;
    let load = Load::on(&cluster).await;
    let begun = Instant::now();
    let suspend =
        SuspendAccountRequest { account: "acme".to_owned(), ..SuspendAccountRequest::default() };
    cluster.world.client.accounts().suspend_account(suspend).await.unwrap();
    let took = begun.elapsed();
    load.end(Duration::from_millis(500)).await;
    assert!(took < HEALTHY, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_connection_is_ended_holds_up_a_revocation_for_a_beat() {
    let cluster = Cluster::start().await;
    let load = Load::on(&cluster).await;
    let ended: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = $1 AND datname = current_database()",
    )
    .bind(LISTENER)
    .fetch_all(&cluster.world.server.pool())
    .await
    .unwrap();
    assert_eq!(ended, [true, true, true]);
    let begun = Instant::now();
    cluster.revoke().await;
    let took = begun.elapsed();
    load.end(Duration::from_secs(1)).await;
    eprintln!("revoked without listeners in {took:?}");
    assert!(took < LISTENER_GONE, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_has_fallen_silent_holds_up_a_revocation_for_a_beat() {
    let cluster = Cluster::start().await;
    let load = Load::on(&cluster).await;
    cluster.wire.silence_listeners();
    let begun = Instant::now();
    cluster.revoke().await;
    let took = begun.elapsed();
    load.end(Duration::from_secs(1)).await;
    eprintln!("revoked with a silent listener in {took:?}");
    assert!(took < LISTENER_GONE, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_cut_off_is_waited_for_until_its_deadline_and_comes_back_knowing() {
    let cluster = Cluster::start().await;
    let load = Load::on(&cluster).await;
    cluster.wire.cut();
    let begun = Instant::now();
    cluster.revoke().await;
    let took = begun.elapsed();
    eprintln!("revoked with a server cut off in {took:?}");
    assert!(took > Duration::from_secs(4), "it was not waited for: {took:?}");
    assert!(took < CUT_OFF, "it took {took:?}");

    // It may authorize again before its listener does: then it has forgotten the key.
    let client = all_roles(&cluster.others[1]).await;
    cluster.wire.silence_listeners();
    cluster.wire.mend();
    let deadline = Instant::now() + Duration::from_secs(20);
    let denial = loop {
        assert!(Instant::now() < deadline, "the server never came back");
        match authorize(&client, &request(&cluster.key, 10)).await {
            Ok(Decision::Denial(denial)) => break denial,
            Ok(Decision::Grant(_)) => panic!("granted after it was revoked"),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    assert_eq!(denial.reason(), DenialReason::KeyRevoked);
    load.end(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_cannot_be_confirmed_says_so_and_is_confirmed_by_a_repetition() {
    let cluster = Cluster::start().await;
    // The database can make the change and cannot announce a barrier.
    let pool = cluster.world.server.pool();
    sqlx::raw_sql("ALTER SEQUENCE barriers RENAME TO away").execute(&pool).await.unwrap();
    let revocation =
        RevokeKeyRequest { idempotency_key: "once".to_owned(), ..cluster.revocation() };
    let keys = cluster.world.client.keys();
    let refused = keys.clone().revoke_key(revocation.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("the key is revoked"), "{}", refused.message());
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "NOT_CONFIRMED_EVERYWHERE");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    sqlx::raw_sql("ALTER SEQUENCE away RENAME TO barriers").execute(&pool).await.unwrap();

    // At another server, which did not make the change, too.
    let other = all_roles(&cluster.others[0]).await;
    let first = other.keys().revoke_key(revocation.clone()).await.unwrap().into_inner();
    let again = keys.clone().revoke_key(revocation).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert!(first.key.unwrap().revoked_at.is_some());
    for client in cluster.clients().await {
        match authorize(&client, &request(&cluster.key, 10)).await.unwrap() {
            Decision::Denial(denial) => assert_eq!(denial.reason(), DenialReason::KeyRevoked),
            Decision::Grant(_) => panic!("granted after it was revoked"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_a_lease_is_not_granted_once_its_key_is_revoked() {
    let cluster = Cluster::start().await;
    // The other server reads key and account, and then waits: there is no lease yet.
    let client = all_roles(&cluster.others[0]).await;
    let pool = cluster.world.server.pool();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM account_funds FOR UPDATE").execute(&mut *holder).await.unwrap();
    let asked = request(&cluster.key, 10);
    let waiting = tokio::spawn(async move { authorize(&client, &asked).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "it should wait for a lease");
    cluster.revoke().await;
    holder.rollback().await.unwrap();
    match waiting.await.unwrap().unwrap() {
        Decision::Denial(denial) => assert_eq!(denial.reason(), DenialReason::KeyRevoked),
        Decision::Grant(grant) => panic!("granted: {grant:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_without_overlap_is_dead_everywhere_and_its_successor_works() {
    let cluster = Cluster::start().await;
    let load = Load::on(&cluster).await;
    let rotation = RotateKeyRequest {
        key_id: cluster.key_id.clone(),
        overlap: Some(prost_types::Duration::default()),
        ..RotateKeyRequest::default()
    };
    let rotated = cluster.world.client.keys().rotate_key(rotation).await.unwrap().into_inner();
    load.end(Duration::from_millis(500)).await;
    for client in cluster.clients().await {
        let decision = authorize(&client, &request(&rotated.api_key, 10)).await.unwrap();
        assert!(matches!(decision, Decision::Grant(_)), "{decision:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_a_revoked_key_is_not_extended() {
    let cluster = Cluster::start().await;
    let grant = cluster.world.granted(&request(&cluster.key, 10)).await;
    let extend = |client: Client, output| {
        let request = ExtendAuthorizationRequest {
            token: grant.token.clone(),
            max_output_tokens: output,
            allow_reduced_output: false,
        };
        async move {
            let answer = client.authorization().extend_authorization(request).await.unwrap();
            answer.into_inner().decision.unwrap()
        }
    };
    let clients = cluster.clients().await;
    for client in &clients {
        let raised = extend(client.clone(), 20).await;
        assert!(matches!(raised, Extension::Grant(_)), "{raised:?}");
    }
    cluster.revoke().await;
    for client in clients {
        match extend(client, 30).await {
            Extension::Denial(denial) => assert_eq!(denial.reason(), DenialReason::KeyRevoked),
            Extension::Grant(grant) => panic!("extended: {grant:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_a_server_goes_on_within_its_leases_until_its_deadline() {
    let cluster = Cluster::start().await;
    let server = &cluster.others[1];
    let client = all_roles(server).await;
    let asked = request(&cluster.key, 10);
    let mut tokens = Vec::new();
    for _ in 0..20 {
        match authorize(&client, &asked).await.unwrap() {
            Decision::Grant(grant) => tokens.push(grant.token),
            Decision::Denial(denial) => panic!("denied: {denial:?}"),
        }
    }
    // Half of them are given back, so that something is free when the wire is cut.
    for token in tokens.drain(..10) {
        let cancel = CancelAuthorizationRequest { token };
        client.authorization().cancel_authorization(cancel).await.unwrap();
    }
    // Renewals under way end first: what the database granted and nobody heard of cannot be used.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.wire.cut();
    let cut = Instant::now();
    let leased = leased_elsewhere(&cluster).await;
    let (mut promised, mut granted) = (rust_decimal::Decimal::ZERO, 0);
    let refused = loop {
        match authorize(&client, &asked).await {
            Ok(Decision::Grant(grant)) => {
                granted += 1;
                promised += decimal(grant.reserved.as_ref());
            }
            Ok(Decision::Denial(denial)) => panic!("denied: {denial:?}"),
            Err(refused) if cut.elapsed() > Duration::from_secs(5) => break refused,
            // More than its lease has: it cannot have it now, and says so.
            Err(refused) => assert_eq!(refused.code(), Code::Unavailable),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    eprintln!("{granted} grants, {promised} of {leased} leased, without the database");
    assert!(granted > 0 && promised <= leased, "{granted} grants of {promised}, {leased} leased");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_error_details().retry_info().unwrap().retry_delay.is_some());

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let metrics = server.metrics().await;
    for line in [
        "tollgate_authorizing 0",
        "tollgate_leased_amount{currency=\"USD\"} ",
        "tollgate_reserved_amount{currency=\"USD\"} ",
        "tollgate_heartbeat_age_seconds ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for nothing in
        ["leased_amount{currency=\"USD\"} 0.0\n", "reserved_amount{currency=\"USD\"} 0.0\n"]
    {
        assert!(!metrics.contains(nothing), "{nothing} in\n{metrics}");
    }
}

/// What is leased of the only account, all of it by the server on the wire.
async fn leased_elsewhere(cluster: &Cluster) -> rust_decimal::Decimal {
    let pool = sqlx::PgPool::connect_lazy_with(cluster.database.clone());
    sqlx::query_scalar("SELECT sum(amount) FROM leases").fetch_one(&pool).await.unwrap()
}
