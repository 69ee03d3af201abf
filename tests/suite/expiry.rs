//! What becomes of a grant that is not used in time: its funds, its usage that comes late, and the
//! list of what leaked. The servers of these tests give their grants a second.

use std::time::Duration;

use rust_decimal::Decimal;
use tollgate::{
    authorization::lifetime::Lifetime,
    proto::{
        CancelAuthorizationRequest, DenialReason, ExtendAuthorizationRequest, Grant,
        ListUnsettledRequest, UnsettledAuthorization,
        extend_authorization_response::Decision as Extended,
    },
};
use tonic::Code;

use crate::harness::{
    postgres::fresh_database,
    server::{TestServer, refusal},
    world::{World, decimal, request},
};

const SHORT: Lifetime =
    Lifetime { authorization: Duration::from_secs(1), grace: Duration::from_secs(1) };

async fn short_lived() -> World {
    let server = TestServer::start_with(fresh_database().await, SHORT).await;
    World::on(server).await
}

/// The grant has expired, and its grace is over as well where `grace_too`.
async fn is_over(grant: &Grant, grace_too: bool) {
    let expiry = grant.expires_at.as_ref().unwrap();
    let expiry =
        Duration::new(u64::try_from(expiry.seconds).unwrap(), u32::try_from(expiry.nanos).unwrap());
    let end = if grace_too { expiry + SHORT.grace } else { expiry };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    tokio::time::sleep((end + Duration::from_millis(50)).saturating_sub(now)).await;
}

async fn unsettled(world: &World) -> Vec<UnsettledAuthorization> {
    let request = ListUnsettledRequest { account: "acme".to_owned(), ..Default::default() };
    world.client.usage().list_unsettled(request).await.unwrap().into_inner().authorizations
}

/// Waits until the look at the leases that follows an expiry has listed so many.
async fn until_unsettled(world: &World, count: usize) -> Vec<UnsettledAuthorization> {
    for _ in 0..200 {
        let listed = unsettled(world).await;
        if listed.len() == count {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("after ten seconds: {:?}", unsettled(world).await);
}

fn extension(token: &str, max_output_tokens: u64) -> ExtendAuthorizationRequest {
    ExtendAuthorizationRequest {
        token: token.to_owned(),
        max_output_tokens,
        allow_reduced_output: false,
    }
}

#[tokio::test]
async fn an_expired_authorization_can_neither_be_extended_nor_cancelled() {
    let world = short_lived().await;
    world.startup("acme", "1").await;
    let grant = world.granted(&request(&world.key("acme").await, 100)).await;
    is_over(&grant, false).await;
    let expected = (Code::FailedPrecondition, "AUTHORIZATION_EXPIRED".into(), "token".into());
    let mut gate = world.client.authorization();
    let extended = gate.extend_authorization(extension(&grant.token, 200)).await.unwrap_err();
    assert_eq!(refusal(&extended), expected);
    let cancel = CancelAuthorizationRequest { token: grant.token.clone() };
    let cancelled = gate.cancel_authorization(cancel).await.unwrap_err();
    assert_eq!(refusal(&cancelled), expected);
    assert!(cancelled.message().contains(&grant.authorization_id), "{cancelled}");
    // What was done all the same is charged.
    let recorded = world.record(&grant.token, 1_000, 100).await.unwrap();
    assert_eq!(decimal(recorded.charged.as_ref()), Decimal::new(11, 3));
}

#[tokio::test]
async fn an_extension_gives_an_authorization_another_lifetime() {
    let world = short_lived().await;
    world.startup("acme", "1").await;
    let grant = world.granted(&request(&world.key("acme").await, 100)).await;
    let mut gate = world.client.authorization();
    let extended = gate.extend_authorization(extension(&grant.token, 200)).await.unwrap();
    let Some(Extended::Grant(extended)) = extended.into_inner().decision else { panic!("denied") };
    let seconds = |grant: &Grant| {
        let expiry = grant.expires_at.as_ref().unwrap();
        (expiry.seconds, expiry.nanos)
    };
    assert!(seconds(&extended) >= seconds(&grant));
    // The token that was given first has expired; the one of the extension goes on a little.
    is_over(&grant, false).await;
    let recorded = world.record(&extended.token, 1_000, 200).await.unwrap();
    assert_eq!(decimal(recorded.overrun.as_ref()), Decimal::ZERO);
}

#[tokio::test]
async fn usage_within_the_grace_is_covered_and_after_it_wholly_an_overrun() {
    let world = short_lived().await;
    world.startup("acme", "1").await;
    let key = world.key("acme").await;
    let (first, second) =
        (world.granted(&request(&key, 100)).await, world.granted(&request(&key, 100)).await);
    is_over(&first, false).await;
    let in_time = world.record(&first.token, 1_000, 100).await.unwrap();
    assert_eq!(decimal(in_time.overrun.as_ref()), Decimal::ZERO);
    is_over(&second, true).await;
    let late = world.record(&second.token, 1_000, 100).await.unwrap();
    assert_eq!(decimal(late.charged.as_ref()), Decimal::new(11, 3));
    assert_eq!(late.overrun, late.charged);
    world.verify().await;
}

#[tokio::test]
async fn what_expires_unused_gives_its_funds_back_and_is_listed_until_its_usage_comes() {
    let world = short_lived().await;
    let account = world.startup("acme", "0.02").await;
    let key = world.key("acme").await;
    let mut asked = request(&key, 900);
    asked.request_id = "request 7".to_owned();
    let grant = world.granted(&asked).await;
    world.denied(&request(&key, 900), DenialReason::InsufficientCredits).await;
    assert!(unsettled(&world).await.is_empty());

    let listed = until_unsettled(&world, 1).await.remove(0);
    assert_eq!(listed.authorization_id, grant.authorization_id);
    assert_eq!((listed.account_id, listed.key_id), (account, grant.key_id));
    assert_eq!((listed.request_id.as_str(), &listed.reserved), ("request 7", &grant.reserved));
    assert_eq!(listed.expired_at, grant.expires_at);

    // Its funds are there again, for the whole of the same request.
    let mut gate = world.client.authorization();
    let mut again = None;
    for _ in 0..100 {
        let answer = gate.authorize(request(&key, 900)).await.unwrap().into_inner();
        if let Some(tollgate::proto::authorize_response::Decision::Grant(grant)) = answer.decision {
            again = Some(grant);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let again = again.expect("the funds came back");
    world.record(&again.token, 0, 0).await.unwrap();

    let late = world.record(&grant.token, 1_000, 900).await.unwrap();
    assert_eq!(late.overrun, late.charged);
    assert!(unsettled(&world).await.is_empty());
    assert!(world.record(&grant.token, 1_000, 900).await.unwrap().duplicate);
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), Decimal::new(1, 3));
    world.verify().await;
}

#[tokio::test]
async fn a_dead_servers_promises_are_kept_for_its_own_lifetime_and_not_for_the_survivors() {
    let world = short_lived().await;
    let pool = world.server.pool();
    // Two servers of which nothing was heard for a minute: one gave its grants a second, one an hour.
    let died = "INSERT INTO instances (instance_id, heartbeat_at, promises_for)
                VALUES ($1, clock_timestamp() - interval '1 minute', $2::text::interval)";
    let (brief, long) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    for (instance, promise) in [(brief, "2 seconds"), (long, "1 hour")] {
        sqlx::query(died).bind(instance).bind(promise).execute(&pool).await.unwrap();
    }
    sqlx::query("SELECT remove_dead_instances('6 seconds', 100)").execute(&pool).await.unwrap();
    let left: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT instance_id FROM instances WHERE instance_id = ANY ($1)")
            .bind([brief, long])
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(left, [long]);
    let own: bool = sqlx::query_scalar(
        "SELECT bool_and(promises_for = '2 seconds') FROM instances WHERE instance_id <> $1",
    )
    .bind(long)
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(own, "a server says for how long its promises outlive it");
}
