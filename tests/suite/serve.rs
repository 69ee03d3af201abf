//! `tollgate serve`: it starts or says why not, follows its database, answers until it is told to
//! stop, loses nothing then, and tells no secret.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tokio_stream::StreamExt as _;
use tollgate::{
    cli::client::Client,
    database::{
        migrate::{self, MigrationError, newest_known},
        pool::DatabaseError,
    },
    ids::CauseId,
    proto::{
        AuthorizeRequest, CreateAccountRequest, GetAccountRequest, IssueKeyRequest,
        ListAccountsRequest, Tier,
    },
    server::{self, ServerError},
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{
    postgres::{fresh_database, shared_cluster, url_of},
    process::{ServerProcess, is_used, reachable_directory},
    server::{SECRET, TestServer, config, connect, page, token},
};

/// How long anything here may take before a test calls it failed.
const PATIENCE: Duration = Duration::from_secs(30);

type Flags = &'static [&'static str];
type Variables = &'static [(&'static str, &'static str)];

fn data_dir(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("data")
}

async fn create_account(client: &Client, handle: &str) -> Result<(), Status> {
    let request = CreateAccountRequest {
        handle: handle.to_owned(),
        display_name: handle.to_owned(),
        idempotency_key: CauseId::generate().to_string(),
        ..Default::default()
    };
    client.accounts().create_account(request).await.map(|_| ())
}

async fn health(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
    answer.into_inner().status()
}

async fn until_health(channel: &Channel, wanted: ServingStatus) {
    let deadline = Instant::now() + PATIENCE;
    while health(channel, "").await != wanted {
        assert!(Instant::now() < deadline, "health does not turn {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_embedded_default_serves_drains_on_sigterm_and_leaves_nothing_running() {
    let directory = reachable_directory();
    let mut server = ServerProcess::start(&data_dir(&directory));
    create_account(&server.operator().await, "acme").await.unwrap();
    for (file, mode) in [("secret", 0o600), ("operator.jwt", 0o600)] {
        let facts = std::fs::metadata(data_dir(&directory).join(file)).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, mode, "{file}");
    }
    // One who watches health must not hold the drain up.
    let channel = Channel::from_shared(server.endpoint()).unwrap().connect().await.unwrap();
    let mut watch =
        HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let told = Instant::now();
    server.terminate();
    let status = server.wait().await;
    assert!(status.success(), "{status}:\n{}", server.log());
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
    assert!(server.log().contains("drained"));
    assert!(!is_used(&data_dir(&directory)), "Postgres was left behind");
}

#[tokio::test]
async fn a_client_that_does_not_answer_cannot_hold_up_a_drain() {
    let server = TestServer::start().await;
    let address = server.endpoint().replace("http://", "");
    let _mute = tokio::net::TcpStream::connect(&address).await.unwrap();
    let mut frozen = tokio::net::TcpStream::connect(&address).await.unwrap();
    // The preface and empty settings of HTTP/2, and then nothing, not even to a ping.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    tokio::io::AsyncWriteExt::write_all(&mut frozen, hello).await.unwrap();
    create_account(&server.operator().await, "acme").await.unwrap();
    let told = Instant::now();
    server.drain().await.unwrap();
    assert!(told.elapsed() < Duration::from_secs(8), "it took {:?}", told.elapsed());
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let directory = reachable_directory();
    let first = ServerProcess::start(&data_dir(&directory));
    let path = data_dir(&directory);
    let mut second = ServerProcess::spawn(&path, &["--data-dir", path.to_str().unwrap()], &[]);
    assert_eq!(second.wait().await.code(), Some(1), "{}", second.log());
    let last_words = second.log();
    assert!(last_words.contains(&format!("in use by pid {}", first.pid())), "{last_words}");
    create_account(&first.operator().await, "acme").await.unwrap();
    assert!(first.stop().await.success());
}

#[tokio::test]
async fn what_was_answered_during_a_drain_is_there_after_the_next_start() {
    let directory = reachable_directory();
    let mut server = ServerProcess::start(&data_dir(&directory));
    let client = server.operator().await;
    let callers: Vec<_> = (0..40)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let handle = format!("account-{number}");
                create_account(&client, &handle).await.map(|()| handle)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    server.terminate();
    let mut answered = Vec::new();
    for caller in callers {
        match caller.await.unwrap() {
            Ok(handle) => answered.push(handle),
            Err(status) => assert_ne!(status.code(), Code::Internal, "{status}"),
        }
    }
    assert!(server.wait().await.success(), "{}", server.log());

    let again = ServerProcess::start(&data_dir(&directory));
    let client = again.operator().await;
    for account in answered {
        client.accounts().get_account(GetAccountRequest { account }).await.unwrap();
    }
    assert!(again.stop().await.success());
}

#[tokio::test]
async fn what_was_answered_before_kill_9_is_there_after_the_next_start() {
    let directory = reachable_directory();
    let mut server = ServerProcess::start(&data_dir(&directory));
    create_account(&server.operator().await, "acme").await.unwrap();
    server.kill();
    let again = ServerProcess::start(&data_dir(&directory));
    let asked = GetAccountRequest { account: "acme".to_owned() };
    again.operator().await.accounts().get_account(asked).await.unwrap();
    assert!(again.stop().await.success());
}

#[tokio::test]
async fn health_follows_the_database_away_and_back_and_calls_say_when_to_try_again() {
    let directory = reachable_directory();
    let server = ServerProcess::start(&data_dir(&directory));
    let client = server.operator().await;
    create_account(&client, "acme").await.unwrap();
    let channel = Channel::from_shared(server.endpoint()).unwrap().connect().await.unwrap();
    for service in ["", "tollgate.v1.AccountService", "tollgate.v1.UsageService"] {
        assert_eq!(health(&channel, service).await, ServingStatus::Serving, "{service}");
    }

    // Without this file a postmaster cannot start, so the killed one stays away.
    let control = data_dir(&directory).join("postgres/global/pg_control");
    let aside = control.with_extension("aside");
    std::fs::rename(&control, &aside).unwrap();
    kill_postmaster(&data_dir(&directory));
    until_health(&channel, ServingStatus::NotServing).await;
    let service = "tollgate.v1.AccountService";
    assert_eq!(health(&channel, service).await, ServingStatus::NotServing);
    let metrics = page(&server.metrics_address(), "/metrics").await;
    assert!(metrics.contains("tollgate_database_up 0"), "{metrics}");

    let refusal =
        client.accounts().list_accounts(ListAccountsRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    assert!(refusal.get_details_retry_info().is_some());

    std::fs::rename(&aside, &control).unwrap();
    until_health(&channel, ServingStatus::Serving).await;
    create_account(&client, "after").await.unwrap();
    assert!(server.stop().await.success());
}

fn kill_postmaster(data_dir: &Path) {
    let pid_file = data_dir.join("postgres/postmaster.pid");
    let text = std::fs::read_to_string(pid_file).unwrap();
    let pid = text.lines().next().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let database = fresh_database().await;
    let mut connection = database.connect().await.unwrap();
    let newer = newest_known() + 1;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ($1, 'from the future', true, '', 0)",
    )
    .bind(newer)
    .execute(&mut connection)
    .await
    .unwrap();

    let refusal = server::start(config(database)).await.unwrap_err();
    assert!(
        matches!(
            &refusal,
            ServerError::Database(DatabaseError::Migration(MigrationError::Newer { found, .. }))
                if *found == newer
        ),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("run the newer program"), "{refusal}");
    let instances: i64 = sqlx::query_scalar("SELECT count(*) FROM instances")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(instances, 0, "it went on");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_migration_with_another_text_is_refused() {
    let database = fresh_database().await;
    let mut connection = database.connect().await.unwrap();
    connection
        .execute("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 1")
        .await
        .unwrap();
    let refusal = migrate::run(&database).await.unwrap_err();
    assert!(matches!(refusal, DatabaseError::Migration(MigrationError::Changed(1))), "{refusal}");
}

#[tokio::test]
async fn servers_that_start_at_once_on_an_empty_database_migrate_it_once() {
    let cluster = shared_cluster();
    let name = format!("empty_{}", CauseId::generate().0.simple());
    let mut connection = cluster.connect_options("postgres").connect().await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let database = cluster.connect_options(&name);
    let starts = [(); 3].map(|()| server::start(config(database.clone())));
    let [first, second, third] = starts;
    let (first, second, third) = tokio::join!(first, second, third);
    for server in [first, second, third] {
        server.unwrap().drain().await.unwrap();
    }
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations")
        .fetch_one(&mut database.connect().await.unwrap())
        .await
        .unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let known = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(usize::try_from(applied), Ok(known));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_remedy() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(fresh_database().await);
    config.listen = taken.local_addr().unwrap();
    let refusal = server::start(config).await.unwrap_err().to_string();
    assert!(refusal.contains(&taken.local_addr().unwrap().to_string()), "{refusal}");
    assert!(refusal.contains("--listen"), "{refusal}");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_ends_with_64_and_a_sentence() {
    let directory = reachable_directory();
    let cases: [(Flags, Variables, &str); 6] = [
        (&["--listen", "everywhere"], &[], "--listen"),
        (&["--metrics-listen", "everywhere"], &[], "or off"),
        (&["--log", "tollgate=noise"], &[], "log filter"),
        (&[], &[("DATABASE_URL", "postgres://books:hunter2@db/books")], "TOLLGATE_JWT_SECRET_FILE"),
        (&[], &[("DATABASE_URL", "mysql://x"), ("TOLLGATE_JWT_SECRET", SECRET)], "postgres://"),
        (&[], &[("TOLLGATE_JWT_SECRET", "short")], "at least 32"),
    ];
    for (flags, variables, expected) in cases {
        let mut server = ServerProcess::spawn(&data_dir(&directory), flags, variables);
        let status = server.wait().await;
        let last_words = server.log();
        assert_eq!(status.code(), Some(64), "{flags:?}: {last_words}");
        assert!(last_words.contains(expected), "{flags:?}: {last_words}");
        assert!(!last_words.contains("hunter2"), "{last_words}");
    }
    assert!(!data_dir(&directory).exists(), "something was begun");
}

#[tokio::test]
async fn metrics_count_calls_by_rpc_and_code() {
    let server = TestServer::start().await;
    create_account(&server.operator().await, "acme").await.unwrap();
    create_account(&server.finance().await, "denied").await.unwrap_err();
    let page = server.metrics().await;
    for line in [
        "HTTP/1.1 200 OK",
        "tollgate_calls_total{rpc=\"/tollgate.v1.AccountService/CreateAccount\",code=\"OK\"} 1",
        "tollgate_calls_total{rpc=\"/tollgate.v1.AccountService/CreateAccount\",\
         code=\"PERMISSION_DENIED\"} 1",
        "tollgate_call_duration_seconds_count{rpc=\"/tollgate.v1.AccountService/CreateAccount\"} 2",
        "tollgate_database_up 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    server.drain().await.unwrap();
}

#[tokio::test]
async fn reflection_lists_the_contract_in_both_versions() {
    let server = TestServer::start().await;
    let v1 = {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(server.channel().await);
        let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let answer = stream.into_inner().next().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("no list") };
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    };
    let v1alpha = {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(server.channel().await);
        let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let answer = stream.into_inner().next().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("no list") };
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    };
    for names in [v1, v1alpha] {
        for name in ["tollgate.v1.AuthorizationService", "tollgate.v1.UsageService"] {
            assert!(names.iter().any(|listed| listed == name), "{name} is not in {names:?}");
        }
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_however_much_is_logged() {
    let directory = reachable_directory();
    let password = "hunter2-and-more";
    let url = url_of(&fresh_database().await).replacen('@', &format!(":{password}@"), 1);
    let server = ServerProcess::spawn(
        &data_dir(&directory),
        &["--log", "trace"],
        &[("DATABASE_URL", &url), ("TOLLGATE_JWT_SECRET", SECRET)],
    )
    .wait_until_serving();
    let operator_token = token(&[tollgate::identity::Role::Operator], None);
    let gateway_token = token(&[tollgate::identity::Role::Gateway], None);
    let operator = connect(&server.endpoint(), &operator_token).await;
    create_account(&operator, "acme").await.unwrap();
    let issued = IssueKeyRequest {
        account: "acme".to_owned(),
        name: "production".to_owned(),
        tier: Tier::Standard.into(),
        idempotency_key: CauseId::generate().to_string(),
        ..Default::default()
    };
    let key = operator.keys().issue_key(issued).await.unwrap().into_inner().api_key;
    assert!(key.starts_with("ga_sk_"));
    let gateway = connect(&server.endpoint(), &gateway_token).await;
    let unknown = format!("{}x", key.get(..key.len() - 1).unwrap());
    for api_key in [&key, &unknown] {
        let request = AuthorizeRequest {
            api_key: api_key.clone(),
            model: "no-such-model".to_owned(),
            request_id: CauseId::generate().to_string(),
            ..Default::default()
        };
        let _ = gateway.authorization().authorize(request).await;
    }
    let broken = format!("{gateway_token}x");
    let refused = connect(&server.endpoint(), &broken).await;
    refused.accounts().list_accounts(ListAccountsRequest::default()).await.unwrap_err();

    let log = server.stop_and_read_log().await;
    assert!(log.contains("AccountService/CreateAccount"), "nothing was logged");
    let body = |key: &str| key.get("ga_sk_".len()..).unwrap().to_owned();
    for secret in [
        body(&key),
        body(&unknown),
        operator_token,
        gateway_token,
        broken,
        SECRET.to_owned(),
        password.to_owned(),
    ] {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}

#[tokio::test]
async fn every_line_about_a_call_has_its_request_id() {
    let directory = reachable_directory();
    let server = ServerProcess::start(&data_dir(&directory));
    let mut accounts = server.operator().await.accounts();
    let mut request = tonic::Request::new(ListAccountsRequest::default());
    request.metadata_mut().insert("x-request-id", "order-66".parse().unwrap());
    let answer = accounts.list_accounts(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "order-66");
    let log = server.stop_and_read_log().await;
    let line =
        log.lines().find(|line| line.contains("the call ended") && line.contains("order-66"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["span"]["request_id"], "order-66");
    assert_eq!(line["span"]["rpc"], "/tollgate.v1.AccountService/ListAccounts");
}
