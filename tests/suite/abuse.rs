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
/// Calls that are given up in one breath.
const HUNG_UP: u32 = 500;
/// Types of frames, and a code.
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CANCEL: u8 = 8;

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

/// Calls that are given up before a busy server has looked at them must not cost a gateway its connection,
/// with everybody else's calls on it.
#[tokio::test]
async fn a_gateway_whose_callers_hang_up_keeps_its_connection() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    said.extend(frame(SETTINGS, 0, &[]));
    for call in 0..HUNG_UP {
        // `POST`, `http` and `/`, as they stand in the static table of HPACK (RFC 7541).
        said.extend(frame(HEADERS, 2 * call + 1, &[0x83, 0x86, 0x84]));
        said.extend(frame(RESET, 2 * call + 1, &[0, 0, 0, CANCEL]));
    }
    // In one piece, so that the server has not looked at the first when it reads of the last.
    said.extend(frame(PING, 0, &[7; 8]));
    stream.write_all(&said).await.unwrap();
    let answered = tokio::time::timeout(SILENCE, async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], GO_AWAY, "{}", String::from_utf8_lossy(&payload));
            if head[3] == PING {
                return payload;
            }
        }
    });
    assert_eq!(answered.await.unwrap(), [7; 8]);
    server.drain().await.unwrap();
}

/// A frame of HTTP/2 (RFC 9113), with the end of its headers where it is of that type.
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let flags = if kind == HEADERS { 4 } else { 0 };
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head[..], payload].concat()
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
