//! A restore to a moment, for real: a base backup in the middle of traffic, the write-ahead log archived
//! beside it, an accident, and a server on what was restored to the moment before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tollgate::{
    cli::client::Client,
    proto::{KeyLimits, ListUsageRequest, Tier, authorize_response::Decision},
};

use crate::{
    billing::{a_seller, documents},
    cli::Shell,
    harness::{
        books::seal,
        own_postgres::{
            ADMINISTRATOR, OwnPostgres, as_its_user, can_copy_clusters, make_private, program, run,
        },
        process::{ServerProcess, reachable_directory},
        server::TestServer,
        world::{all_roles, authorize, issue, publish, record, request, startup, top_up, verify},
    },
};

/// Gateways that send at the same time.
const GATEWAYS: usize = 4;
const OUTPUT: u64 = 100;

/// A usage that was answered with OK.
#[derive(Clone)]
struct Acknowledged {
    token: String,
    sent: DateTime<Utc>,
    answered: DateTime<Utc>,
}

type Told = Arc<Mutex<BTreeMap<String, Acknowledged>>>;

/// Gateways at work until they are stopped.
struct Traffic {
    told: Told,
    stop: Arc<AtomicBool>,
    gateways: tokio::task::JoinSet<()>,
}

impl Traffic {
    fn start(client: &Client, key: &str) -> Self {
        let (told, stop) = (Told::default(), Arc::new(AtomicBool::new(false)));
        let mut gateways = tokio::task::JoinSet::new();
        for _ in 0..GATEWAYS {
            let (client, key) = (client.clone(), key.to_owned());
            let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
            gateways.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let granted = authorize(&client, &request(&key, OUTPUT)).await.unwrap();
                    let Decision::Grant(grant) = granted else { panic!("denied: {granted:?}") };
                    let sent = Utc::now();
                    let recorded = record(&client, &grant.token, 1_000, OUTPUT).await.unwrap();
                    let one = Acknowledged { token: grant.token, sent, answered: Utc::now() };
                    told.lock().unwrap().insert(recorded.event_id, one);
                }
            });
        }
        Self { told, stop, gateways }
    }

    /// Waits until so many more are acknowledged.
    async fn more(&self, events: usize) {
        let wanted = self.told.lock().unwrap().len() + events;
        while self.told.lock().unwrap().len() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) -> BTreeMap<String, Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.gateways.join_next().await {
            ended.unwrap();
        }
        self.told.lock().unwrap().clone()
    }
}

/// The ids of an account's events.
async fn events(client: &Client, account: &str) -> BTreeSet<String> {
    let (mut events, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = ListUsageRequest {
            account: account.to_owned(),
            page_size: 1_000,
            page_token,
            ..ListUsageRequest::default()
        };
        let page = client.usage().list_usage(request).await.unwrap().into_inner();
        events.extend(page.events.into_iter().map(|event| event.event_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}

async fn text(connection: &mut PgConnection, statement: &'static str) -> String {
    sqlx::query_scalar(statement).fetch_one(connection).await.unwrap()
}

/// Closes the segment of the write-ahead log that is being written, and waits until it is archived.
async fn archived(administrator: &mut PgConnection) {
    let last = text(administrator, "SELECT pg_walfile_name(pg_current_wal_lsn())").await;
    text(administrator, "SELECT pg_switch_wal()::text").await;
    for _ in 0..400 {
        let archived = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver";
        if text(administrator, archived).await >= last {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{last} is not archived");
}

/// As docs/operations.md says, word for word but for the directories.
fn archiving_into(archive: &Path) -> String {
    let archive = archive.display();
    format!(
        "archive_mode = on\n\
         archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f.part && \
         sync {archive}/%f.part && mv {archive}/%f.part {archive}/%f'\n\
         archive_timeout = 60\n"
    )
}

fn restoring_from(archive: &Path, moment: &str) -> String {
    format!(
        "restore_command = 'cp {}/%f %p'\n\
         recovery_target_time = '{moment}'\n\
         recovery_target_action = 'promote'\n\
         hot_standby = off\n",
        archive.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_to_a_moment_has_what_was_acknowledged_before_it_and_nothing_after() {
    if !can_copy_clusters() {
        return;
    }
    let directory = reachable_directory();
    let (archive, base) = (directory.path().join("archive"), directory.path().join("restored"));
    make_private(&archive);
    make_private(&base);
    let mut postgres = OwnPostgres::make(directory.path(), &archiving_into(&archive)).await;
    let mut administrator = postgres.administrator("postgres").await;
    sqlx::raw_sql("CREATE DATABASE tollgate").execute(&mut administrator).await.unwrap();
    let server = TestServer::start_on(postgres.options(ADMINISTRATOR, "tollgate")).await;
    let client = all_roles(&server).await;
    publish(&client).await;
    let seller = tollgate::proto::SetSellerRequest {
        seller: Some(a_seller()),
        idempotency_key: String::new(),
    };
    client.seller().set_seller(seller).await.unwrap();
    startup(&client, "acme", "1000").await;
    let (_, key) = issue(&client, "acme", Tier::Standard, KeyLimits::default()).await;

    let traffic = Traffic::start(&client, &key);
    traffic.more(100).await;
    let backup = tokio::task::spawn_blocking({
        let (source, base) = (postgres.cluster().to_owned(), base.clone());
        move || {
            let mut command = as_its_user(program("pg_basebackup"));
            command.arg("--host").arg(source).args(["--username", ADMINISTRATOR]);
            run(command
                .arg("--pgdata")
                .arg(base)
                .args(["--wal-method=stream", "--checkpoint=fast"]));
        }
    });
    backup.await.unwrap();
    traffic.more(100).await;
    seal(&server.pool()).await;
    let heads = directory.path().join("heads.txt");
    fs::write(&heads, Shell::of(&server).run(&["ledger", "heads"]).await.out).unwrap();
    traffic.more(100).await;
    let moment = text(&mut administrator, "SELECT clock_timestamp()::text").await;
    let numbers_then = numbers(&client).await;

    // The accident: what comes now is lost.
    traffic.more(100).await;
    top_up(&client, "acme", "7").await;
    let lost_receipt = numbers(&client).await.pop().unwrap();
    let (_, lost_key) = issue(&client, "acme", Tier::Standard, KeyLimits::default()).await;
    let Decision::Grant(open_grant) = authorize(&client, &request(&key, OUTPUT)).await.unwrap()
    else {
        panic!("denied");
    };
    let told = traffic.end().await;
    archived(&mut administrator).await;
    server.drain().await.unwrap();
    drop(administrator);
    postgres.stop();

    let restored = OwnPostgres::of(&base);
    restored.configure(&restoring_from(&archive, &moment));
    run(as_its_user("touch").arg(base.join("recovery.signal")));
    let restored = restored.started().await;
    let server = TestServer::start_on(restored.options(ADMINISTRATOR, "tollgate")).await;
    let client = all_roles(&server).await;

    let moment: DateTime<Utc> = DateTime::parse_from_str(&moment, "%F %T%.f%#z").unwrap().into();
    let there = events(&client, "acme").await;
    let (mut kept, mut lost) = (0, Vec::new());
    for (event, one) in &told {
        if one.answered < moment {
            assert!(there.contains(event), "{event} was acknowledged before the moment");
            kept += 1;
        }
        if one.sent > moment {
            assert!(!there.contains(event), "{event} was sent after the moment");
        }
        if !there.contains(event) {
            lost.push(one.clone());
        }
    }
    assert!(kept >= 300 && lost.len() >= 90, "{kept} kept, {} lost", lost.len());
    assert!(there.iter().all(|event| told.contains_key(event)));
    assert_eq!(numbers(&client).await, numbers_then);
    verify(&client).await;
    let shell = Shell::of(&server);
    let checked = shell.run(&["ledger", "verify", "--heads", heads.to_str().unwrap()]).await;
    assert_eq!(checked.code, 0, "{checked:#?}");

    // What gateways still have counts once, whether it was lost or not; so does what they were granted
    // after the moment and had not reported.
    for one in &lost {
        assert!(!record(&client, &one.token, 1_000, OUTPUT).await.unwrap().duplicate);
    }
    for one in told.values().filter(|one| one.answered < moment).take(20) {
        assert!(record(&client, &one.token, 1_000, OUTPUT).await.unwrap().duplicate);
    }
    record(&client, &open_grant.token, 1_000, OUTPUT).await.unwrap();
    assert_eq!(events(&client, "acme").await.len(), told.len() + 1);
    // A key that was issued after it is unknown, and a number that was given then is given again.
    let refused = authorize(&client, &request(&lost_key, OUTPUT)).await.unwrap();
    assert!(matches!(refused, Decision::Denial(_)), "{refused:?}");
    top_up(&client, "acme", "9").await;
    assert_eq!(numbers(&client).await.pop().unwrap(), lost_receipt);
    let traffic = Traffic::start(&client, &key);
    traffic.more(50).await;
    traffic.end().await;
    seal(&server.pool()).await;
    verify(&client).await;
    let checked = shell.run(&["ledger", "verify", "--heads", heads.to_str().unwrap()]).await;
    assert_eq!(checked.code, 0, "{checked:#?}");
    server.drain().await.unwrap();
    let mut session = restored.options(ADMINISTRATOR, "tollgate").connect().await.unwrap();
    let timeline = "SELECT timeline_id::text FROM pg_control_checkpoint()";
    let timeline = text(&mut session, timeline).await;
    assert_ne!(timeline, "1", "what was restored would overwrite the archive of what was before");
}

/// The numbers of an account's documents, oldest first.
async fn numbers(client: &Client) -> Vec<String> {
    documents(client, "acme").await.into_iter().map(|document| document.number).collect()
}

/// The commands of docs/operations.md under "Backups": what is indented, block by block.
fn documented(places: &[(&str, &str)]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, section) = document.split_once("\n## Backups\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match (line.strip_prefix("    "), blocks.last_mut().unwrap()) {
            (Some(command), block) => {
                block.push_str(command);
                block.push('\n');
            }
            (None, block) if !block.is_empty() => blocks.push(String::new()),
            (None, _) => {}
        }
    }
    let commands = blocks
        .into_iter()
        .map(|block| places.iter().fold(block, |block, (name, place)| block.replace(name, place)));
    commands.collect()
}

/// Runs a block as a shell does, with Postgres's programs at hand, but for lines with this in them.
fn shell(block: &str, without: &str) {
    let lines: Vec<&str> = block.lines().filter(|line| !line.contains(without)).collect();
    let mut path = program("pg_verifybackup").parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let script = lines.join("\n");
    run(std::process::Command::new("sh").args(["-e", "-c", &script]).env("PATH", path));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_cluster_is_restored_by_the_commands_of_the_manual() {
    if !can_copy_clusters() {
        return;
    }
    let directory = reachable_directory();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (data_dir, new) = (directory.path().join("old"), directory.path().join("restored"));
    fs::create_dir(at("backup")).unwrap();
    fs::set_permissions(at("backup"), fs::Permissions::from_mode(0o711)).unwrap();
    make_private(Path::new(&at("backup/wal")));
    let (backup, old, restored) = (at("backup"), at("old"), at("restored"));
    let places = [("/backup", backup.as_str()), ("DIR", &old), ("NEW", &restored)];
    let blocks = documented(&places);
    let [settings, base_backup, restore, ..] = blocks.as_slice() else { panic!("{blocks:?}") };
    assert!(settings.contains("archive_command") && base_backup.contains("pg_basebackup"));

    // Once, so that there is a cluster to configure.
    assert!(ServerProcess::start(&data_dir).stop().await.success());
    let configuration = data_dir.join("postgres/postgresql.conf");
    let mut configuration = fs::OpenOptions::new().append(true).open(configuration).unwrap();
    configuration.write_all(settings.as_bytes()).unwrap();
    let server = ServerProcess::start(&data_dir);
    let client = server.operator().await;
    publish(&client).await;
    startup(&client, "acme", "10").await;
    let (_, key) = issue(&client, "acme", Tier::Standard, KeyLimits::default()).await;
    tokio::task::block_in_place(|| shell(base_backup, "nothing"));
    let traffic = Traffic::start(&client, &key);
    traffic.more(10).await;
    let options = PgConnectOptions::new_without_pgpass().socket(data_dir.join("run"));
    let options = options.username("tollgate").database("tollgate");
    let mut session = options.connect().await.unwrap();
    let moment = text(&mut session, "SELECT clock_timestamp()::text").await;
    traffic.more(10).await;
    let told = traffic.end().await;
    archived(&mut session).await;
    drop(session);
    assert!(server.stop().await.success());

    let restore = restore.replace("2026-11-27 03:00:00+00", &moment);
    let is_root = rustix::process::geteuid().is_root();
    let restore = restore.replace("tollgate serve", "true");
    let without = if is_root { "nothing" } else { "# as root" };
    tokio::task::block_in_place(|| shell(&restore, without));
    let server = ServerProcess::start(&new);
    let client = server.operator().await;
    let there = events(&client, "acme").await;
    let moment: DateTime<Utc> = DateTime::parse_from_str(&moment, "%F %T%.f%#z").unwrap().into();
    for (event, one) in &told {
        assert!(one.answered > moment || there.contains(event), "{event} is lost");
        assert!(one.sent < moment || !there.contains(event), "{event} was sent afterwards");
    }
    assert!(!there.is_empty() && there.len() < told.len());
    verify(&client).await;
    assert!(server.stop().await.success());
}
