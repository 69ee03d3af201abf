//! Several servers as processes of their own on one database, with an account whose funds are for
//! exactly so many requests: none is served too many, whatever becomes of a server.

use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::{
    cli::client::Client,
    identity::Role,
    proto::{
        Budget, BudgetEnforcement, BudgetPeriod, ExtendAuthorizationRequest, GetBalanceRequest,
        Grant, KeyLimits, SetBudgetRequest, Tier, authorize_response::Decision,
        extend_authorization_response::Decision as Extended,
    },
};
use tonic::{Code, Status};

use crate::harness::{
    postgres::{fresh_database, url_of},
    process::{ServerProcess, reachable_directory},
    server::{SECRET, connect, token},
    world::{authorize, decimal, issue, publish, record, request, startup, usd, verify},
};

const CLIENTS: usize = 64;
/// What each request generates: with its prompt it costs [`cents`] 2, all of what is reserved.
const OUTPUT: u64 = 900;
/// The prompt that was used, which is the one asked for with its margin.
const USED_INPUT: u64 = 1_100;
/// A client that is given nothing for so long asks no more.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two questions of a client that was denied for the moment.
const PAUSE: Duration = Duration::from_millis(50);

/// Servers on one database, and an account with funds for a number of requests.
struct Fleet {
    servers: Vec<ServerProcess>,
    gateways: Vec<Client>,
    /// At the first server, with every role.
    client: Client,
    database: PgPool,
    key: String,
    _directory: TempDir,
}

fn cents(number: usize) -> Decimal {
    Decimal::new(i64::try_from(number).unwrap(), 2)
}

impl Fleet {
    async fn start(servers: usize, requests: usize) -> Self {
        Self::limited(servers, requests, Limit::Funds).await
    }

    async fn limited(servers: usize, requests: usize, limit: Limit) -> Self {
        let options = fresh_database().await;
        let url = url_of(&options);
        let directory = reachable_directory();
        let variables = [("DATABASE_URL", url.as_str()), ("TOLLGATE_JWT_SECRET", SECRET)];
        let start = |number: usize| {
            let logs = directory.path().join(number.to_string());
            ServerProcess::spawn(&logs, &["--log", "info"], &variables).wait_until_serving()
        };
        let servers: Vec<_> = (0..servers).map(start).collect();
        let roles = token(&[Role::Gateway, Role::Operator, Role::Finance, Role::Auditor], None);
        let mut gateways = Vec::new();
        for server in &servers {
            gateways.push(connect(&server.endpoint(), &roles).await);
        }
        let client = gateways[0].clone();
        publish(&client).await;
        let key = fund(&client, requests, limit).await;
        let database = PgPoolOptions::new().max_connections(2).connect_lazy_with(options);
        Self { servers, gateways, client, database, key, _directory: directory }
    }

    /// Lets so many clients ask, each at a server of its own and at the next when that is gone,
    /// until nobody is granted anything. How many requests were served.
    async fn serve(&self, clients: usize) -> usize {
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let customer = Customer {
                gateways: self.gateways.clone(),
                at: number % self.gateways.len(),
                key: self.key.clone(),
            };
            tasks.spawn(customer.spend());
        }
        tasks.join_all().await.into_iter().sum()
    }

    /// What was charged under cover, and what was charged at all.
    async fn charged(&self) -> (Decimal, Decimal) {
        let sums = "SELECT coalesce(sum(charge - overrun), 0), coalesce(sum(charge), 0)
                    FROM usage_events";
        sqlx::query_as(sums).fetch_one(&self.database).await.unwrap()
    }

    async fn leases(&self) -> i64 {
        let leases = "SELECT count(*) FROM leases WHERE amount > 0";
        sqlx::query_scalar(leases).fetch_one(&self.database).await.unwrap()
    }

    /// What is left of what limits the account: its budget, if it has one, or its credits.
    async fn credits(&self) -> Decimal {
        let asked = GetBalanceRequest { account: "acme".to_owned() };
        let found = self.client.credits().get_balance(asked).await.unwrap().into_inner();
        let left =
            |budget: &Budget| decimal(budget.limit.as_ref()) - decimal(budget.spent.as_ref());
        let credits = decimal(found.balance.unwrap().credits.as_ref());
        found.budgets.first().map_or(credits, left)
    }

    /// Nothing was charged beyond the funds or what was authorized, and the books agree.
    async fn never_one_too_many(&self, served: usize, requests: usize) {
        assert!(served <= requests, "{served} served of {requests}");
        let (covered, charged) = self.charged().await;
        assert_eq!(covered, charged, "there is an overrun");
        assert_eq!(charged, cents(2 * served));
        assert_eq!(self.credits().await, cents(2 * (requests - served)));
        verify(&self.client).await;
    }

    async fn rename_heartbeat(&self, from: &str, to: &str) {
        let rename = format!("ALTER FUNCTION {from} RENAME TO {to}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(rename)).execute(&self.database).await.unwrap();
    }
}

/// What ends an account's requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Funds,
    /// A budget of the month, below funds for twice as many.
    Budget,
}

/// An account that may make so many requests, and a key of it.
async fn fund(client: &Client, requests: usize, limit: Limit) -> String {
    let all = cents(2 * requests);
    let funds = if limit == Limit::Budget { all * Decimal::TWO } else { all };
    startup(client, "acme", &funds.to_string()).await;
    if limit == Limit::Budget {
        let budget = SetBudgetRequest {
            account: "acme".to_owned(),
            period: BudgetPeriod::Month.into(),
            enforcement: BudgetEnforcement::Hard.into(),
            limit: usd(&all.to_string()),
            ..SetBudgetRequest::default()
        };
        client.budgets().set_budget(budget).await.unwrap();
    }
    issue(client, "acme", Tier::Standard, KeyLimits::default()).await.1
}

/// One task of the gateway.
struct Customer {
    gateways: Vec<Client>,
    at: usize,
    key: String,
}

impl Customer {
    fn gateway(&self) -> &Client {
        &self.gateways[self.at]
    }

    /// After a server that is gone, the next one.
    async fn moves_on(&mut self, status: &Status) {
        // A connection that broke under a call is told as unknown, or as cancelled where the call was
        // not sent yet.
        let broke = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
        assert!(broke, "{status}");
        self.at = (self.at + 1) % self.gateways.len();
        tokio::time::sleep(PAUSE).await;
    }

    /// Asks until denied for good, or for [`PATIENCE`]; settles each grant in full.
    async fn spend(mut self) -> usize {
        let mut served = 0;
        let mut granted_at = Instant::now();
        while granted_at.elapsed() < PATIENCE {
            match authorize(self.gateway(), &request(&self.key, OUTPUT)).await {
                Ok(Decision::Grant(grant)) => {
                    self.settle(&grant.token, OUTPUT).await;
                    served += 1;
                    granted_at = Instant::now();
                }
                Ok(Decision::Denial(denial)) if denial.retryable => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Decision::Denial(_)) => break,
                Err(status) => self.moves_on(&status).await,
            }
        }
        served
    }

    async fn settle(&mut self, token: &str, output: u64) {
        let begun = Instant::now();
        while let Err(status) = record(self.gateway(), token, USED_INPUT, output).await {
            assert!(begun.elapsed() < Duration::from_secs(20), "never recorded: {status}");
            self.moves_on(&status).await;
        }
    }
}

async fn so_many_may_be_served_and_exactly_so_many_are(servers: usize, limit: Limit) {
    let requests = 600;
    let fleet = Fleet::limited(servers, requests, limit).await;
    let served = fleet.serve(CLIENTS).await;
    fleet.never_one_too_many(served, requests).await;
    assert_eq!(served, requests, "funds were left that nobody could spend");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_serve_exactly_as_many_as_there_are_funds_for() {
    so_many_may_be_served_and_exactly_so_many_are(2, Limit::Funds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_serve_exactly_as_many_as_there_are_funds_for() {
    so_many_may_be_served_and_exactly_so_many_are(3, Limit::Funds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_serve_exactly_as_many_as_a_budget_allows() {
    so_many_may_be_served_and_exactly_so_many_are(3, Limit::Budget).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_leads_to_none_too_many() {
    let requests = 2_000;
    let mut fleet = Fleet::start(3, requests).await;
    let mut killed = fleet.servers.pop().unwrap();
    let database = fleet.database.clone();
    let killing = tokio::spawn(async move {
        let count = "SELECT count(*) FROM usage_events";
        while sqlx::query_scalar::<_, i64>(count).fetch_one(&database).await.unwrap() < 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        killed.kill();
    });
    let served = fleet.serve(CLIENTS).await;
    killing.await.unwrap();
    assert!(served > 200, "the others went on: {served}");
    fleet.never_one_too_many(served, requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wakes_after_its_deadline_grants_nothing_before_it_has_beaten() {
    let requests = 300;
    let fleet = Fleet::start(2, requests).await;
    let (awake, frozen) = (&fleet.gateways[0], &fleet.gateways[1]);
    for gateway in [awake, frozen] {
        let grant = granted(gateway, &fleet.key).await;
        record(gateway, &grant.token, USED_INPUT, OUTPUT).await.unwrap();
    }
    let promised = granted(frozen, &fleet.key).await;
    fleet.servers[1].freeze();
    let asked = ask_often(frozen, &fleet.key, 16);
    tokio::time::sleep(Duration::from_secs(6)).await;

    // Its grants are settled by others meanwhile; and when it wakes it cannot beat.
    record(awake, &promised.token, USED_INPUT, OUTPUT).await.unwrap();
    assert!(fleet.leases().await >= 2, "the frozen server has a lease to grant from");
    fleet.rename_heartbeat("heartbeat", "silent").await;
    fleet.servers[1].thaw();
    let again = ask_often(frozen, &fleet.key, 16);
    for refused in asked.join_all().await.into_iter().chain(again.join_all().await) {
        assert_eq!(refused.expect_err("granted past its deadline").code(), Code::Unavailable);
    }
    fleet.rename_heartbeat("silent", "heartbeat").await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(status) = authorize(frozen, &request(&fleet.key, 1)).await {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(Instant::now() < deadline, "it never granted again");
        tokio::time::sleep(PAUSE).await;
    }
    let served = 3 + fleet.serve(CLIENTS).await;
    fleet.never_one_too_many(served, requests).await;
}

async fn granted(gateway: &Client, key: &str) -> Grant {
    match authorize(gateway, &request(key, OUTPUT)).await.unwrap() {
        Decision::Grant(grant) => grant,
        Decision::Denial(denial) => panic!("denied: {denial:?}"),
    }
}

fn ask_often(gateway: &Client, key: &str, times: usize) -> JoinSet<Result<Decision, Status>> {
    let mut tasks = JoinSet::new();
    for _ in 0..times {
        let (gateway, asked) = (gateway.clone(), request(key, OUTPUT));
        tasks.spawn(async move { authorize(&gateway, &asked).await });
    }
    tasks
}

/// Raises a grant at a server; the token of the extension, unless funds were lacking.
async fn extended(gateway: &Client, token: &str) -> Option<String> {
    let asked = ExtendAuthorizationRequest {
        token: token.to_owned(),
        max_output_tokens: OUTPUT,
        allow_reduced_output: false,
    };
    let answer = gateway.authorization().extend_authorization(asked).await.unwrap().into_inner();
    match answer.decision.unwrap() {
        Extended::Grant(grant) => Some(grant.token),
        Extended::Denial(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_at_two_servers_under_load_lead_to_no_overspend() {
    const SHORT: u64 = 100;
    let requests = 1_000;
    let fleet = Fleet::start(2, requests).await;
    let mut tasks = JoinSet::new();
    for number in 0..CLIENTS {
        let mut customer =
            Customer { gateways: fleet.gateways.clone(), at: number % 2, key: fleet.key.clone() };
        // Half of them raise at the issuer, half at the other server; and settle there.
        let raise_at = (number / 2) % 2;
        tasks.spawn(async move {
            let (mut raised, mut cost) = (0, Decimal::ZERO);
            loop {
                let asked = request(&customer.key, SHORT);
                let decision = authorize(customer.gateway(), &asked).await.unwrap();
                let Decision::Grant(grant) = decision else { break };
                let longer = extended(&customer.gateways[raise_at], &grant.token).await;
                // Whoever was not granted more ends where it was told to.
                let (token, output) = longer.map_or((grant.token, SHORT), |token| (token, OUTPUT));
                raised += usize::from(output == OUTPUT);
                customer.settle(&token, output).await;
                cost += Decimal::new(i64::try_from(USED_INPUT + output).unwrap(), 5);
            }
            (raised, cost)
        });
    }
    let outcomes = tasks.join_all().await;
    let raised: usize = outcomes.iter().map(|(raised, _)| raised).sum();
    assert!(raised >= CLIENTS, "{raised} were raised");
    let (covered, charged) = fleet.charged().await;
    assert_eq!(covered, charged, "there is an overrun");
    assert_eq!(charged, outcomes.iter().map(|(_, cost)| cost).sum());
    assert!(charged <= cents(2 * requests), "{charged} was spent");
    assert_eq!(fleet.credits().await, cents(2 * requests) - charged);
    verify(&fleet.client).await;
}
