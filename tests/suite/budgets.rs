//! Budgets over gRPC: hard and soft, of accounts, projects and keys, on one server and on several.

use std::{sync::Arc, time::Duration, time::Instant};

use rust_decimal::Decimal;
use tokio::task::JoinSet;
use tollgate::{
    cli::client::Client,
    identity::Role,
    proto::{
        Budget, BudgetEnforcement, BudgetPeriod, DeleteBudgetRequest, DenialReason,
        GetBalanceRequest, IssueKeyRequest, KeyLimits, ListBudgetsRequest, ReverseUsageRequest,
        RotateKeyRequest, SetBudgetRequest, Tier, WarningReason, authorize_response::Decision,
    },
};
use tonic::Code;

use crate::harness::{
    postgres::fresh_database,
    server::{TestServer, refusal},
    world::{World, all_roles, authorize, decimal, record, request, usd, verify},
};

/// What a request of 1,000 prompt tokens and 400 output tokens holds, and costs when it uses 1,100
/// and 400: 0.011 + 0.004.
const REQUEST: &str = "0.015";

fn a_budget(account: &str, period: BudgetPeriod, limit: &str) -> SetBudgetRequest {
    SetBudgetRequest {
        account: account.to_owned(),
        period: period.into(),
        enforcement: BudgetEnforcement::Hard.into(),
        limit: usd(limit),
        ..SetBudgetRequest::default()
    }
}

async fn set(client: &Client, request: SetBudgetRequest) -> Budget {
    client.budgets().set_budget(request).await.unwrap().into_inner().budget.unwrap()
}

async fn list(client: &Client, account: &str) -> Vec<Budget> {
    let request = ListBudgetsRequest { account: account.to_owned(), ..Default::default() };
    client.budgets().list_budgets(request).await.unwrap().into_inner().budgets
}

/// Serves requests that settle in full until one is denied; how many were served, and the denial.
async fn serve_until_denied(client: &Client, key: &str) -> (u32, tollgate::proto::Denial) {
    let mut served = 0;
    loop {
        match authorize(client, &request(key, 400)).await.unwrap() {
            Decision::Grant(grant) => {
                record(client, &grant.token, 1_100, 400).await.unwrap();
                served += 1;
            }
            Decision::Denial(denial) => return (served, denial),
        }
    }
}

#[tokio::test]
async fn a_hard_budget_denies_what_would_pass_it_and_says_when_it_starts_anew() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    set(&world.client, a_budget("acme", BudgetPeriod::Day, "0.05")).await;
    let (served, denial) = serve_until_denied(&world.client, &key).await;
    assert_eq!((served, denial.reason()), (3, DenialReason::BudgetExceeded), "{denial:?}");
    assert_eq!((denial.http_status, denial.error_code.as_str()), (402, "budget_exceeded"));
    assert_eq!((denial.limit.as_str(), denial.used.as_str()), ("0.05", "0.045"));
    assert_eq!(denial.scope, "account acme");
    let resets_at = denial.resets_at.unwrap().seconds;
    assert!(resets_at % 86_400 == 0 && denial.retryable && denial.retry_after.is_some());
    assert!(denial.message.contains("daily budget of account acme"), "{}", denial.message);

    let budget = list(&world.client, "acme").await.pop().unwrap();
    assert_eq!(decimal(budget.spent.as_ref()).to_string(), "0.045");
    assert_eq!(budget.resets_at.unwrap().seconds, resets_at);
    let request = GetBalanceRequest { account: "acme".to_owned() };
    let balance = world.client.credits().get_balance(request).await.unwrap().into_inner();
    assert_eq!(balance.budgets.len(), 1);
    assert_eq!(decimal(balance.budgets[0].spent.as_ref()).to_string(), "0.045");
    world.verify().await;
}

#[tokio::test]
async fn of_several_budgets_the_tightest_decides_and_each_is_charged() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let issue = IssueKeyRequest {
        account: "acme".to_owned(),
        name: "chat".to_owned(),
        tier: Tier::Standard.into(),
        project: "chat".to_owned(),
        ..IssueKeyRequest::default()
    };
    let issued = world.client.keys().issue_key(issue).await.unwrap().into_inner();
    let (key, other) = (issued.api_key, world.key("acme").await);
    let key_id = issued.key.unwrap().key_id;
    let of_key = SetBudgetRequest { key_id, ..a_budget("acme", BudgetPeriod::Total, "0.04") };
    let of_project = SetBudgetRequest {
        project: "chat".to_owned(),
        ..a_budget("acme", BudgetPeriod::Week, "0.06")
    };
    set(&world.client, a_budget("acme", BudgetPeriod::Month, "0.08")).await;
    set(&world.client, of_project).await;
    let of_key = set(&world.client, of_key).await;

    let (served, denial) = serve_until_denied(&world.client, &key).await;
    assert_eq!((served, denial.scope.as_str()), (2, "key"));
    assert!(denial.resets_at.is_none(), "a total never starts anew");
    assert!(denial.message.starts_with("the total budget of this key has 0.01 of 0.04 USD left"));
    let delete = DeleteBudgetRequest {
        account: "acme".to_owned(),
        budget_id: of_key.budget_id,
        ..DeleteBudgetRequest::default()
    };
    world.client.budgets().delete_budget(delete).await.unwrap();
    let (served, denial) = serve_until_denied(&world.client, &key).await;
    assert_eq!((served, denial.scope.as_str()), (2, "project chat"));
    let (served, denial) = serve_until_denied(&world.client, &other).await;
    assert_eq!((served, denial.scope.as_str()), (1, "account acme"));
    let spent = list(&world.client, "acme").await;
    let spent: Vec<_> = spent.iter().map(|one| decimal(one.spent.as_ref()).to_string()).collect();
    assert_eq!(spent, ["0.075", "0.06"]);
    world.verify().await;
}

#[tokio::test]
async fn a_soft_budget_warns_in_the_grant_and_denies_nothing() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    let soft = SetBudgetRequest {
        enforcement: BudgetEnforcement::Soft.into(),
        ..a_budget("acme", BudgetPeriod::Month, "0.04")
    };
    set(&world.client, soft).await;
    let mut warned = Vec::new();
    for _ in 0..4 {
        let grant = world.granted(&request(&key, 400)).await;
        warned.push(grant.warnings.len());
        if let Some(warning) = grant.warnings.first() {
            assert_eq!(warning.reason(), WarningReason::SoftBudget);
            assert_eq!((warning.scope.as_str(), warning.limit.as_str()), ("account acme", "0.04"));
        }
        world.record(&grant.token, 1_100, 400).await.unwrap();
    }
    assert_eq!(warned, [0, 0, 1, 1]);
    // It is announced once a server tells the database what was spent.
    let deadline = Instant::now() + Duration::from_secs(20);
    while list(&world.client, "acme").await[0].reached_at.is_none() {
        assert!(Instant::now() < deadline, "the end of the budget was never announced");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let metrics = world.server.metrics().await;
    assert!(metrics.contains("tollgate_budgets_reached_total{kind=\"soft\"} 1"), "{metrics}");
}

#[tokio::test]
async fn another_limit_keeps_what_was_spent_and_holds_on_every_server_at_once() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    let there = TestServer::start_on(database).await;
    let other = all_roles(&there).await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    set(&world.client, a_budget("acme", BudgetPeriod::Day, "0.05")).await;
    let (served, _) = serve_until_denied(&world.client, &key).await;
    assert_eq!(served, 3);
    let (served, denial) = serve_until_denied(&other, &key).await;
    assert_eq!((served, denial.reason()), (0, DenialReason::BudgetExceeded));

    set(&world.client, a_budget("acme", BudgetPeriod::Day, "0.08")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (served, _) = serve_until_denied(&other, &key).await;
    assert_eq!(served, 2, "0.08 less the 0.045 that were spent");
    set(&world.client, a_budget("acme", BudgetPeriod::Day, "0.01")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for client in [&world.client, &other] {
        assert_eq!(serve_until_denied(client, &key).await.0, 0);
    }
    let budget = list(&other, "acme").await.pop().unwrap();
    assert_eq!(decimal(budget.spent.as_ref()).to_string(), "0.075");
    assert_eq!(decimal(budget.remaining.as_ref()), Decimal::ZERO);
    world.verify().await;
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_have_one_budget() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let (old, key) = world.issue("acme", Tier::Standard, KeyLimits::default()).await;
    let of_key = SetBudgetRequest {
        key_id: old.key_id.clone(),
        ..a_budget("acme", BudgetPeriod::Day, "0.05")
    };
    set(&world.client, of_key).await;
    let grant = world.granted(&request(&key, 400)).await;
    world.record(&grant.token, 1_100, 400).await.unwrap();
    let rotate = RotateKeyRequest { key_id: old.key_id.clone(), ..RotateKeyRequest::default() };
    let rotated = world.client.keys().rotate_key(rotate).await.unwrap().into_inner();
    let (served, denial) = serve_until_denied(&world.client, &rotated.api_key).await;
    assert_eq!((served, denial.reason()), (2, DenialReason::BudgetExceeded));
    world.denied(&request(&key, 400), DenialReason::BudgetExceeded).await;
    // Setting it by the successor's id changes the same budget.
    let by_successor = SetBudgetRequest {
        key_id: rotated.key.unwrap().key_id,
        ..a_budget("acme", BudgetPeriod::Day, "0.06")
    };
    let budget = set(&world.client, by_successor).await;
    assert_eq!(
        (budget.key_id, decimal(budget.spent.as_ref()).to_string().as_str()),
        (old.key_id, "0.045")
    );
    assert_eq!(list(&world.client, "acme").await.len(), 1);
}

#[tokio::test]
async fn a_reversal_gives_the_charge_back_to_its_budgets() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    set(&world.client, a_budget("acme", BudgetPeriod::Day, "0.02")).await;
    let grant = world.granted(&request(&key, 400)).await;
    world.record(&grant.token, 1_100, 400).await.unwrap();
    world.denied(&request(&key, 400), DenialReason::BudgetExceeded).await;
    let reverse = ReverseUsageRequest {
        account: "acme".to_owned(),
        event_id: grant.authorization_id,
        reason: "a mistake".to_owned(),
        ..ReverseUsageRequest::default()
    };
    world.client.usage().reverse_usage(reverse).await.unwrap();
    let budget = list(&world.client, "acme").await.pop().unwrap();
    assert_eq!(decimal(budget.spent.as_ref()), Decimal::ZERO);
    world.verify().await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    world.granted(&request(&key, 400)).await;
}

/// Clients that ask until they are denied for good; how many were served in all.
async fn crowd(clients: &[Client], key: &str, size: usize) -> u32 {
    let key: Arc<str> = key.into();
    let mut crowd = JoinSet::new();
    for number in 0..size {
        let (client, key) = (clients[number % clients.len()].clone(), Arc::clone(&key));
        crowd.spawn(async move {
            let mut served = 0;
            let mut denied_since: Option<Instant> = None;
            // Denied again and again for so long, it is for good.
            while denied_since.is_none_or(|since| since.elapsed() < Duration::from_secs(3)) {
                match authorize(&client, &request(&key, 400)).await.unwrap() {
                    Decision::Grant(grant) => {
                        denied_since = None;
                        record(&client, &grant.token, 1_100, 400).await.unwrap();
                        served += 1;
                    }
                    Decision::Denial(_) => {
                        denied_since.get_or_insert_with(Instant::now);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            served
        });
    }
    crowd.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_two_servers_spends_a_budget_to_the_last_request_and_not_one_more() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    let second = TestServer::start_on(database).await;
    let clients = [world.client.clone(), all_roles(&second).await];
    world.startup("acme", "100").await;
    let key = world.key("acme").await;
    let limit = REQUEST.parse::<Decimal>().unwrap() * Decimal::from(200);
    set(&world.client, a_budget("acme", BudgetPeriod::Month, &limit.to_string())).await;
    assert_eq!(crowd(&clients, &key, 64).await, 200);
    let budget = list(&world.client, "acme").await.pop().unwrap();
    assert_eq!(decimal(budget.spent.as_ref()), limit);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_two_servers_spends_an_account_to_the_last_request_and_not_one_more() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    let second = TestServer::start_on(database).await;
    let clients = [world.client.clone(), all_roles(&second).await];
    let funds = REQUEST.parse::<Decimal>().unwrap() * Decimal::from(200);
    world.startup("acme", &funds.to_string()).await;
    let key = world.key("acme").await;
    assert_eq!(crowd(&clients, &key, 64).await, 200);
    assert_eq!(decimal(world.balance("acme").await.credits.as_ref()), Decimal::ZERO);
    world.verify().await;
}

#[tokio::test]
async fn what_another_server_holds_idle_is_recalled_before_anything_is_denied() {
    let database = fresh_database().await;
    let world = World::on(TestServer::start_on(database.clone()).await).await;
    let there = TestServer::start_on(database).await;
    let other = all_roles(&there).await;
    world.startup("acme", "0.1").await;
    let key = world.key("acme").await;
    // The first server leases ahead for a few seconds of this, and then nobody asks it any more.
    for _ in 0..3 {
        let grant = world.granted(&request(&key, 400)).await;
        world.record(&grant.token, 1_100, 400).await.unwrap();
    }
    let most = request(&key, 4_096);
    let needed = Decimal::new(11, 3) + Decimal::from(4_096) * Decimal::new(1, 5);
    let balance = world.balance("acme").await;
    let (credits, available) =
        (decimal(balance.credits.as_ref()), decimal(balance.available.as_ref()));
    assert!(available < needed && needed < credits, "{needed} of {credits}, {available} available");
    let begun = Instant::now();
    let Decision::Grant(_) = authorize(&other, &most).await.unwrap() else {
        panic!("denied with {credits} there, of which {available} are available");
    };
    let took = begun.elapsed();
    eprintln!("{needed} of {credits} were recalled in {took:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    let metrics = world.server.metrics().await;
    assert!(metrics.contains("tollgate_lease_recalls_total 1"), "{metrics}");
}

#[tokio::test]
async fn what_cannot_be_a_budget_is_refused_by_its_field() {
    let world = World::start().await;
    world.startup("acme", "1").await;
    let good = || a_budget("acme", BudgetPeriod::Day, "1");
    let key_id = "0196f1c2-0000-7000-8000-000000000000".to_owned();
    let table = [
        (SetBudgetRequest { account: String::new(), ..good() }, Code::InvalidArgument, "account"),
        (SetBudgetRequest { account: "nobody".to_owned(), ..good() }, Code::NotFound, "account"),
        (SetBudgetRequest { period: 0, ..good() }, Code::InvalidArgument, "period"),
        (SetBudgetRequest { period: 99, ..good() }, Code::InvalidArgument, "period"),
        (SetBudgetRequest { enforcement: 0, ..good() }, Code::InvalidArgument, "enforcement"),
        (SetBudgetRequest { limit: None, ..good() }, Code::InvalidArgument, "limit"),
        (SetBudgetRequest { limit: usd("-1"), ..good() }, Code::InvalidArgument, "limit.amount"),
        (SetBudgetRequest { project: "No".to_owned(), ..good() }, Code::InvalidArgument, "project"),
        (SetBudgetRequest { key_id: "x".to_owned(), ..good() }, Code::InvalidArgument, "key_id"),
        (SetBudgetRequest { key_id: key_id.clone(), ..good() }, Code::NotFound, "key_id"),
        (
            SetBudgetRequest { key_id, project: "a-b".to_owned(), ..good() },
            Code::InvalidArgument,
            "key_id",
        ),
    ];
    for (request, code, field) in table {
        let refused = world.client.budgets().set_budget(request.clone()).await.unwrap_err();
        let (found, _, named) = refusal(&refused);
        assert_eq!((found, named.as_str()), (code, field), "{request:?}: {refused:?}");
    }
    let delete = DeleteBudgetRequest {
        account: "acme".to_owned(),
        budget_id: "0196f1c2-0000-7000-8000-000000000000".to_owned(),
        ..DeleteBudgetRequest::default()
    };
    let refused = world.client.budgets().delete_budget(delete).await.unwrap_err();
    assert_eq!(refusal(&refused).2, "budget_id");
    let tenant = world.server.with_roles(&[Role::Gateway]).await;
    let refused = tenant.budgets().set_budget(good()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    verify(&world.client).await;
}
