//! What was acknowledged is in the books, once, whatever is killed: the server, or its Postgres, in
//! the middle of traffic.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rust_decimal::Decimal;
use rustix::process::{Pid, Signal};
use tollgate::{
    cli::client::Client,
    proto::{
        AuthorizeRequest, GetBalanceRequest, KeyLimits, ListUsageRequest, Tier,
        authorize_response::Decision,
    },
};
use tonic::Code;

use crate::harness::{
    process::{ServerProcess, reachable_directory},
    world::{authorize, decimal, issue, publish, record, request, startup, verify},
};

/// Gateways that send at the same time.
const GATEWAYS: usize = 16;
/// Requests that each of them makes.
const REQUESTS: usize = 60;
/// How often a gateway sends one thing again before the test gives up; each wait is 50 ms.
const ATTEMPTS: usize = 600;

/// What was acknowledged: event id to charge.
type Acknowledged = Arc<Mutex<BTreeMap<String, Decimal>>>;
/// Where the server is now; a killed one comes back elsewhere.
type Current = Arc<Mutex<Client>>;

/// One gateway: authorizes and records, and sends again whatever it has no answer to.
async fn gateway(number: usize, key: String, current: Current, acknowledged: Acknowledged) {
    for index in 0..REQUESTS {
        let asked =
            AuthorizeRequest { request_id: format!("{number}-{index}"), ..request(&key, 100) };
        let grant = retried(&current, |client| {
            let asked = asked.clone();
            async move {
                match authorize(&client, &asked).await? {
                    Decision::Grant(grant) => Ok(grant),
                    Decision::Denial(denial) => panic!("denied: {denial:?}"),
                }
            }
        })
        .await;
        let output = u64::try_from(index).unwrap();
        let recorded = retried(&current, |client| {
            let token = grant.token.clone();
            async move { record(&client, &token, 1_000, output).await }
        })
        .await;
        let charge = decimal(recorded.charged.as_ref());
        assert_eq!(charge, Decimal::new(i64::try_from(1_000 + output).unwrap(), 5));
        acknowledged.lock().unwrap().insert(recorded.event_id, charge);
    }
}

async fn retried<T, F>(current: &Current, call: impl Fn(Client) -> F) -> T
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let client = current.lock().unwrap().clone();
        match call(client).await {
            Ok(answer) => return answer,
            Err(status) => {
                let passing =
                    [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::ResourceExhausted];
                assert!(passing.contains(&status.code()), "{status:?}");
                last = Some(status);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no answer for half a minute, at last {last:?}");
}

/// A server on a data directory, an account with funds, and gateways at work on it.
struct Traffic {
    current: Current,
    acknowledged: Acknowledged,
    gateways: tokio::task::JoinSet<()>,
}

impl Traffic {
    async fn start(server: &ServerProcess) -> Self {
        let client = server.operator().await;
        publish(&client).await;
        startup(&client, "acme", "1000").await;
        let (_, key) = issue(&client, "acme", Tier::Standard, KeyLimits::default()).await;
        let current = Arc::new(Mutex::new(client));
        let acknowledged = Acknowledged::default();
        let mut gateways = tokio::task::JoinSet::new();
        for number in 0..GATEWAYS {
            gateways.spawn(gateway(
                number,
                key.clone(),
                Arc::clone(&current),
                Arc::clone(&acknowledged),
            ));
        }
        Self { current, acknowledged, gateways }
    }

    /// Waits until so many events are acknowledged.
    async fn reach(&mut self, events: usize) {
        while self.acknowledged.lock().unwrap().len() < events {
            if let Some(ended) = self.gateways.try_join_next() {
                ended.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets the gateways finish, then compares what they were told with the books.
    async fn settle(mut self) {
        while let Some(ended) = self.gateways.join_next().await {
            ended.unwrap();
        }
        let client = self.current.lock().unwrap().clone();
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        assert_eq!(acknowledged.len(), GATEWAYS * REQUESTS);
        let recorded = events(&client, "acme").await;
        for (event, charge) in &acknowledged {
            assert_eq!(recorded.get(event), Some(charge), "event {event} was acknowledged");
        }
        // What was recorded and not acknowledged was sent again under the same id, or its
        // authorization's answer was lost with the server.
        let spent: Decimal = recorded.values().sum();
        let request = GetBalanceRequest { account: "acme".to_owned() };
        let balance = client.credits().get_balance(request).await.unwrap().into_inner();
        let credits = decimal(balance.balance.unwrap().credits.as_ref());
        assert_eq!(credits, Decimal::from(1_000) - spent);
        verify(&client).await;
    }
}

async fn events(client: &Client, account: &str) -> BTreeMap<String, Decimal> {
    let mut events = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsageRequest {
            account: account.to_owned(),
            page_size: 1_000,
            page_token,
            ..ListUsageRequest::default()
        };
        let page = client.usage().list_usage(request).await.unwrap().into_inner();
        for event in page.events {
            let twice = events.insert(event.event_id, decimal(event.charged.as_ref()));
            assert_eq!(twice, None, "an event is there twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_traffic_loses_nothing_it_acknowledged() {
    let directory = reachable_directory();
    let data_dir = directory.path().join("data");
    let mut server = ServerProcess::start(&data_dir);
    let mut traffic = Traffic::start(&server).await;
    for share in [4, 2] {
        traffic.reach(GATEWAYS * REQUESTS / share).await;
        server.kill();
        // Dropping it waits for its Postgres, which the new one would bring back to life.
        drop(server);
        server = ServerProcess::start(&data_dir);
        *traffic.current.lock().unwrap() = server.operator().await;
    }
    traffic.settle().await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_killed_in_the_middle_of_traffic_loses_nothing_that_was_acknowledged() {
    let directory = reachable_directory();
    let data_dir = directory.path().join("data");
    let server = ServerProcess::start(&data_dir);
    let mut traffic = Traffic::start(&server).await;
    for share in [4, 2] {
        traffic.reach(GATEWAYS * REQUESTS / share).await;
        rustix::process::kill_process(postmaster(&data_dir), Signal::KILL).unwrap();
    }
    traffic.settle().await;
    assert!(server.stop().await.success());
}

fn postmaster(data_dir: &Path) -> Pid {
    let file = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).unwrap();
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap()
}
