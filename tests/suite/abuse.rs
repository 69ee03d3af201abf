//! What costs nothing to send must not cost much to answer.

use std::{net::SocketAddr, time::Duration};

use sqlx::Executor as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tollgate::{
    accounts::key::{ApiKey, Tier},
    proto::DenialReason,
};

use crate::harness::{
    server::TestServer,
    world::{World, request},
};

/// How long a server may keep a connection of somebody who says nothing.
const SILENCE: Duration = Duration::from_secs(20);
/// Far longer than an answer from memory takes, and shorter than a lock is waited for.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_stranger_who_says_nothing_or_half_a_hello_is_hung_up_on() {
    let server = TestServer::start().await;
    let address = server.address();
    tokio::join!(is_hung_up_on(address, b""), is_hung_up_on(address, b"PRI * HTTP/2.0\r\n"));
    server.drain().await.unwrap();
}

async fn is_hung_up_on(address: SocketAddr, said: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(SILENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the server holds on to a silent connection");
}

#[tokio::test]
async fn a_text_that_is_no_key_costs_no_read_and_an_unknown_key_one() {
    let world = World::start().await;
    let unknown = ApiKey::generate(Tier::Standard).unwrap();
    world.denied(&request(unknown.reveal(), 1), DenialReason::UnknownKey).await;

    // From here on nobody can read a key.
    let pool = world.server.pool();
    let mut lock = pool.begin().await.unwrap();
    lock.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let mistyped = unknown.reveal().replace("ga_sk_", "ga_pro_");
    for (text, reason) in [
        (mistyped.as_str(), DenialReason::MalformedKey),
        ("sk-proj-something-else", DenialReason::MalformedKey),
        ("", DenialReason::MalformedKey),
        (unknown.reveal(), DenialReason::UnknownKey),
    ] {
        let asked = request(text, 1);
        let answer = tokio::time::timeout(AT_ONCE, world.denied(&asked, reason)).await;
        assert!(answer.is_ok(), "{text:?} was looked up");
    }
    // And the lock holds whoever does read.
    let another = ApiKey::generate(Tier::Standard).unwrap();
    let asked = request(another.reveal(), 1);
    let denied = world.denied(&asked, DenialReason::UnknownKey);
    assert!(tokio::time::timeout(AT_ONCE, denied).await.is_err(), "it was not looked up");
    lock.rollback().await.unwrap();
}
