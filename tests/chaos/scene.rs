//! Servers on a database, customers, and gateways and operators at work on them, until all is compared.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fastrand::Rng;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinSet;
use tollgate::{
    identity::{
        Role,
        token::{TokenAuthority, TokenRequest},
    },
    proto::{AuthorizeRequest, VerifyLedgerRequest, authorize_response::Decision},
};
use uuid::Uuid;

use crate::{
    auditor::{Books, Verdict, Witness, judge, overlooked},
    fleet::{Database, Fleet},
    gateways::{World, gateway},
    harness::{server::secret, shared_data, world::authorize},
    operators::{operators, set_up},
};

const GATEWAYS: usize = 24;
/// Requests of the trace that are replayed.
const TRACE: usize = 2_000;
/// Its largest prompts and answers, so that no request costs more than a customer has.
const LARGEST: (u64, u64) = (6_000, 800);
/// Once everything works again, service must be back within so long.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A run: what is there, and who is at work.
pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    pub(crate) world: Arc<World>,
    witness: Arc<Witness>,
    traffic: JoinSet<()>,
}

impl Scene {
    /// Starts so many servers, and everybody's work. The last month is closed at that moment.
    pub(crate) async fn start(
        servers: usize,
        database: &Database,
        directory: &Path,
        rng: &mut Rng,
        close_at: Instant,
    ) -> Self {
        let witness = Arc::new(Witness::default());
        let fleet = Fleet::start(servers, database, directory, &witness).await;
        let clients = fleet.connect(&token()).await;
        let world = Arc::new(set_up(clients, Arc::clone(&witness), trace(), rng).await);
        let mut traffic = JoinSet::new();
        for _ in 0..GATEWAYS {
            traffic.spawn(gateway(Arc::clone(&world), rng.fork()));
        }
        traffic.spawn(operators(Arc::clone(&world), rng.fork(), close_at));
        Self { fleet, world, witness, traffic }
    }

    /// How many recordings were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.witness.receipts()
    }

    /// Waits until all servers serve, lets everybody finish, and compares what they were told with
    /// the books of this database.
    pub(crate) async fn judge(mut self, books: PgConnectOptions) -> Verdict {
        let healed = Instant::now();
        let mut found = is_back(&self.world, &self.fleet).await;
        println!("  {:>9} ms until every server served again", healed.elapsed().as_millis());
        self.world.closing.store(true, Ordering::Release);
        while let Some(ended) = self.traffic.join_next().await {
            ended.unwrap();
        }
        found.extend(verify(&self.world).await);
        println!("  {:>9} starts of servers", self.fleet.stop().await);

        let pool = PgPoolOptions::new().connect_with(books).await.unwrap();
        let books = Books::read(&pool).await.unwrap();
        pool.close().await;
        drop(self.world);
        let testimony = Arc::into_inner(self.witness).unwrap().into_testimony();
        let mut verdict = judge(&testimony, &books);
        verdict.add("service not back, or `ledger verify` not clean", found);
        verdict.add("tampering that the auditor overlooked", overlooked(&testimony, &books));
        verdict
    }
}

/// A token of everybody at once, for longer than any run.
fn token() -> String {
    let request = TokenRequest {
        subject: "a run under fire".to_owned(),
        roles: vec![Role::Gateway, Role::Operator, Role::Finance, Role::Auditor],
        account: None,
        lifetime: Duration::from_hours(24),
    };
    TokenAuthority::new(&secret()).mint(&request).unwrap()
}

/// Every server grants what is paid for.
async fn is_back(world: &World, fleet: &Fleet) -> Vec<String> {
    let mut found = Vec::new();
    let by = Instant::now() + BACK_WITHIN;
    let customer = &world.customers[2];
    for (number, server) in world.servers.iter().enumerate() {
        let _ = tokio::time::timeout(BACK_WITHIN, fleet.seats[number].wait_until_serving()).await;
        loop {
            let (_, key) = customer.key.lock().unwrap().clone();
            let request = AuthorizeRequest {
                api_key: key,
                model: world.models[0].clone(),
                request_id: Uuid::now_v7().to_string(),
                input_tokens: 1,
                max_output_tokens: Some(1),
                ..AuthorizeRequest::default()
            };
            let answer = authorize(server, &request).await;
            if matches!(answer, Ok(Decision::Grant(_))) {
                break;
            }
            if by < Instant::now() {
                found.push(format!("server {number} answers {answer:?}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    found
}

/// What the product finds in its own books.
async fn verify(world: &World) -> Vec<String> {
    let request = VerifyLedgerRequest::default();
    let answer = world.servers[0].ledger().verify_ledger(request).await.unwrap().into_inner();
    let broken = answer.checks.into_iter().filter(|check| check.violations > 0);
    broken.map(|check| format!("{check:?}")).collect()
}

/// Prompt and answer sizes of a production trace, or, where it is not at hand, of none.
fn trace() -> Vec<(u64, u64)> {
    let (input, output) = LARGEST;
    let Some(text) = shared_data::read("azure-llm-2023-conversation.csv") else {
        return (1..=input).step_by(97).map(|tokens| (tokens, tokens % output)).collect();
    };
    let sizes = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(',').skip(1);
        let mut next = || fields.next()?.trim().parse::<u64>().ok();
        Some((next()?.min(input), next()?.min(output)))
    });
    sizes.take(TRACE).collect()
}
