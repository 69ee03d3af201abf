//! The daily sums: totals are the same with and without them, and nothing is ever left out of both.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::{PgPool, Row as _};
use tollgate::{
    ids::AccountId,
    ledger::verify::Verifier,
    metering::{
        quantities::Quantities,
        report::{Grouping, Span, SummaryCursor, UsageReports, UsageSummary},
        rollups::{self, Bounds, Step},
    },
    proto,
};
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{
    books::{Books, Terms, roll_up},
    server::{TestServer, refusal},
    world::{World, all_roles},
};

/// No margin, and a few events at once.
const SMALL: Bounds = Bounds { margin: Duration::ZERO, events: 40 };

/// Numbers that follow from a seed, which a failure prints.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

async fn step(pool: &PgPool) -> Step {
    rollups::step(pool, SMALL).await.unwrap()
}

async fn recorded_since(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM usage_events, usage_rollup_watermark
         WHERE recorded_at >= recorded_before",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn rolled_up(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT coalesce(sum(requests), 0)::bigint FROM usage_rollups")
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn findings(books: &Books) -> Vec<String> {
    let verification = Verifier::new(books.reports.clone()).verify(None).await.unwrap();
    let check = verification.checks.into_iter().find(|check| check.name == "rollups_equal_events");
    check.unwrap().findings
}

/// Three customers, one of whom pays in euros, with two keys each and three models between them.
struct Customers {
    books: Books,
    accounts: Vec<AccountId>,
    opens: DateTime<Utc>,
    now: DateTime<Utc>,
    dice: Dice,
}

impl Customers {
    async fn open(seed: u64) -> Self {
        let books = Books::open().await;
        books.run("INSERT INTO models (name) VALUES ('acme/owl'), ('umbrella/raven')").await;
        let mut accounts = Vec::new();
        for handle in ["acme", "umbrella", "tyrell"] {
            accounts.push(books.account(handle, Terms::Invoiced(1_000)).await);
        }
        books.run("UPDATE accounts SET currency = 'EUR' WHERE handle = 'tyrell'").await;
        let row = sqlx::query("SELECT opens, clock_timestamp() AS now FROM usage_window()")
            .fetch_one(&books.pool)
            .await
            .unwrap();
        let (opens, now) = (row.get("opens"), row.get("now"));
        Self { books, accounts, opens, now, dice: Dice(seed) }
    }

    /// A moment of the months that usage can have occurred in, often on the hour or at midnight.
    fn moment(&mut self) -> DateTime<Utc> {
        let seconds = u64::try_from((self.now - self.opens).num_seconds()).unwrap();
        let unit = [1, 3_600, 86_400][usize::try_from(self.dice.below(3)).unwrap()];
        let seconds = self.dice.below(seconds) / unit * unit;
        self.opens + TimeDelta::seconds(i64::try_from(seconds).unwrap())
    }

    fn account(&mut self) -> AccountId {
        self.accounts[usize::try_from(self.dice.below(3)).unwrap()]
    }

    /// Usage that occurred at any time: most ids are of that moment, some of another.
    async fn record(&mut self, events: usize) {
        for _ in 0..events {
            let occurred_at = self.moment();
            let named_at = if self.dice.below(4) == 0 { self.moment() } else { occurred_at };
            let seconds = u64::try_from(named_at.timestamp()).unwrap();
            let timestamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0);
            let account = self.account();
            let key = if self.dice.below(2) == 0 { account.0 } else { Uuid::nil() };
            let charge = Decimal::new(i64::try_from(self.dice.below(5)).unwrap(), 6);
            sqlx::query(
                "INSERT INTO usage_events (
                     account_id, event_id, key_id, occurred_at, posting, price_version, input,
                     output, cache_read, cache_write, reasoning, audio_input, audio_output, images,
                     model_id, period, outcome, cache_hit, charge, saving, authorized, overrun)
                 VALUES ($1, $2, $3, $4, CASE WHEN $5 > 0 THEN 1 ELSE 0 END, 1, $6, 2, 3, 4, 5, 6,
                         7, 8, $7, '2026-01-01', 1, false, $5, 0.5, 0, $5)",
            )
            .bind(account)
            .bind(Uuid::new_v7(timestamp))
            .bind(key)
            .bind(occurred_at)
            .bind(charge)
            .bind(i64::try_from(self.dice.below(1_000)).unwrap())
            .bind(i32::try_from(1 + self.dice.below(3)).unwrap())
            .execute(&self.books.pool)
            .await
            .unwrap();
        }
    }

    /// A question, asked page by page and answered by the events alone.
    async fn compare(&mut self, seed: u64) {
        let account = (self.dice.below(3) > 0).then(|| self.account());
        let mut ends = [self.moment(), self.moment()];
        ends.sort();
        let from = (self.dice.below(4) > 0).then_some(ends[0]);
        let until = (self.dice.below(4) > 0).then_some(ends[1]);
        let Ok(span) = Span::new(from, until) else { return };
        let limit = 1 + i64::try_from(self.dice.below(9)).unwrap();
        for grouping in [Grouping::Model, Grouping::Key, Grouping::Day, Grouping::Account] {
            let expected = from_events(&self.books.pool, account, span, grouping).await;
            let found = self.pages(account, span, grouping, limit).await;
            assert_eq!(found, expected, "seed {seed}: {account:?} {span:?} {grouping:?}");
        }
    }

    async fn pages(
        &self,
        account: Option<AccountId>,
        span: Span,
        grouping: Grouping,
        limit: i64,
    ) -> Vec<UsageSummary> {
        let reports = UsageReports::new(self.books.reports.clone());
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = reports.summarize(account, span, grouping, after, limit).await.unwrap();
            after = page.last().map(SummaryCursor::of);
            let is_last = i64::try_from(page.len()).unwrap() < limit;
            all.extend(page);
            if is_last {
                return all;
            }
        }
    }
}

/// What a summary must say, without any of its shortcuts.
async fn from_events(
    pool: &PgPool,
    account: Option<AccountId>,
    span: Span,
    grouping: Grouping,
) -> Vec<UsageSummary> {
    let rows = sqlx::query(
        "SELECT CASE $4 WHEN 'Model' THEN name WHEN 'Key' THEN key_id::text
                        WHEN 'Day' THEN to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                        ELSE account_id::text END AS place,
                currency, count(*) AS requests, sum(charge) AS charged, sum(overrun) AS overrun,
                sum(saving) AS saved,
                ARRAY[sum(input), sum(output), sum(cache_read), sum(cache_write), sum(reasoning),
                      sum(audio_input), sum(audio_output), sum(images)]::bigint[] AS counts
         FROM usage_events JOIN accounts USING (account_id) JOIN models USING (model_id)
         WHERE account_id = coalesce($1, account_id)
           AND occurred_at >= coalesce($2, '-infinity') AND occurred_at < coalesce($3, 'infinity')
         GROUP BY 1, 2 ORDER BY charged DESC, place, currency",
    )
    .bind(account)
    .bind(span.from)
    .bind(span.until)
    .bind(format!("{grouping:?}"))
    .fetch_all(pool)
    .await
    .unwrap();
    let summary = |row: &sqlx::postgres::PgRow| {
        let counts: Vec<i64> = row.get("counts");
        let count = |at: usize| u64::try_from(counts[at]).unwrap();
        UsageSummary {
            group: row.get("place"),
            currency: row.get::<String, _>("currency").parse().unwrap(),
            requests: u64::try_from(row.get::<i64, _>("requests")).unwrap(),
            quantities: Quantities {
                input: count(0),
                output: count(1),
                cache_read: count(2),
                cache_write: count(3),
                reasoning: count(4),
                audio_input: count(5),
                audio_output: count(6),
                images: count(7),
            },
            charged: row.get("charged"),
            overrun: row.get("overrun"),
            saved: row.get("saved"),
        }
    };
    rows.iter().map(summary).collect()
}

#[tokio::test]
async fn totals_are_the_same_however_much_of_them_is_rolled_up() {
    let seed = u64::from(Uuid::now_v7().as_fields().0);
    let mut customers = Customers::open(seed).await;
    for round in 0..6 {
        customers.record(60).await;
        // Nothing of it in the first round, some of it in most, all of it in the last.
        match round {
            0 => {}
            5 => customers.books.roll_up().await,
            _ => {
                for _ in 0..30 + customers.dice.below(20) {
                    step(&customers.books.pool).await;
                }
            }
        }
        for _ in 0..12 {
            customers.compare(seed).await;
        }
    }
    assert_eq!(recorded_since(&customers.books.pool).await, 0, "seed {seed}");
    assert_eq!(rolled_up(&customers.books.pool).await, 6 * 60, "seed {seed}");
    assert_eq!(findings(&customers.books).await, [""; 0], "seed {seed}");
}

#[tokio::test]
async fn the_watermark_waits_for_an_event_that_is_not_committed_yet() {
    let books = Books::open().await;
    let account = books.funded("acme", "100").await;
    roll_up(&books.pool).await;
    let mut late = books.pool.begin().await.unwrap();
    // The row lock and the clock of a posting, and then a server that is slow.
    sqlx::query("SELECT FROM account_funds WHERE account_id = $1 FOR UPDATE")
        .bind(account)
        .execute(&mut *late)
        .await
        .unwrap();
    let recorded_at: DateTime<Utc> =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *late).await.unwrap();
    let other = books.funded("umbrella", "100").await;
    books.record(other, &["1"]).await;
    for _ in 0..20 {
        assert_eq!(step(&books.pool).await.taken, Some(0));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waits: bool =
        sqlx::query_scalar("SELECT recorded_before <= $1 FROM usage_rollup_watermark")
            .bind(recorded_at)
            .fetch_one(&books.pool)
            .await
            .unwrap();
    assert!(waits, "the watermark passed {recorded_at}");
    // Both are counted meanwhile, or not, as they are committed or not.
    let reports = UsageReports::new(books.reports.clone());
    let total = async || {
        let groups = reports.summarize(None, Span::default(), Grouping::Model, None, 10).await;
        groups.unwrap().remove(0).requests
    };
    assert_eq!(total().await, 1);
    late.commit().await.unwrap();
    books.record(account, &["2", "3"]).await;
    roll_up(&books.pool).await;
    assert_eq!(total().await, 3);
    assert_eq!(findings(&books).await, [""; 0]);
}

#[tokio::test]
async fn a_step_that_is_killed_changes_nothing_and_is_taken_again() {
    let books = Books::open().await;
    let account = books.funded("acme", "100").await;
    roll_up(&books.pool).await;
    books.record(account, &["1", "2"]).await;
    // Until the next step is the one that takes them.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut victim = books.pool.begin().await.unwrap();
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *victim).await.unwrap();
    let mut taken = 0_i64;
    while taken == 0 {
        // Its own id is the oldest, so that the second one settles what the first one found.
        taken = sqlx::query_scalar("SELECT coalesce(taken, 0)::bigint FROM roll_up_usage('0', 40)")
            .fetch_one(&mut *victim)
            .await
            .unwrap();
    }
    // Another server meanwhile does not wait.
    assert_eq!(step(&books.pool).await.taken, None);
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&books.pool).await.unwrap();
    let lost = sqlx::query("SELECT 1").execute(&mut *victim).await;
    assert!(lost.is_err());
    drop(victim);
    assert_eq!(rolled_up(&books.pool).await, 0);
    roll_up(&books.pool).await;
    assert_eq!(rolled_up(&books.pool).await, 2);
    assert_eq!(findings(&books).await, [""; 0]);
}

#[tokio::test]
async fn rollups_can_be_made_anew_and_outlive_a_move_to_another_cluster() {
    let books = Books::open().await;
    let account = books.funded("acme", "100").await;
    books.record(account, &["1", "2"]).await;
    roll_up(&books.pool).await;
    books.run("UPDATE usage_rollups SET requests = 7").await;
    assert_eq!(findings(&books).await.len(), 1);
    // As docs/operations.md says.
    books
        .run(
            "BEGIN;
             TRUNCATE usage_rollups;
             UPDATE usage_rollup_watermark SET recorded_before = '-infinity';
             COMMIT",
        )
        .await;
    roll_up(&books.pool).await;
    assert_eq!(findings(&books).await, [""; 0]);
    // Transaction ids of the cluster that a dump came from.
    books.run("UPDATE usage_rollup_watermark SET candidate_xid = '9000000000000'").await;
    books.record(account, &["3"]).await;
    roll_up(&books.pool).await;
    assert_eq!(rolled_up(&books.pool).await, 3);
    assert_eq!(findings(&books).await, [""; 0]);
}

#[tokio::test]
async fn the_newest_ranges_are_noted_unless_a_vacuum_is_at_work() {
    let books = Books::open().await;
    let noted = async || -> i32 {
        let ask = "SELECT summarize_newest_ranges('moments')";
        sqlx::query_scalar(ask).fetch_one(&books.pool).await.unwrap()
    };
    let blocks = async || -> i64 {
        let ask = "SELECT pg_relation_size('moments_old') / current_setting('block_size')::int";
        sqlx::query_scalar(ask).fetch_one(&books.pool).await.unwrap()
    };
    books
        .run(
            "CREATE TABLE moments (id integer, at timestamptz, rest text) PARTITION BY RANGE (id);
             CREATE TABLE moments_old PARTITION OF moments FOR VALUES FROM (0) TO (100000);
             CREATE TABLE moments_new PARTITION OF moments FOR VALUES FROM (100000) TO (200000);
             ALTER TABLE moments_old ALTER rest SET STORAGE PLAIN, SET (autovacuum_enabled = off);
             CREATE INDEX ON moments USING brin (at) WITH (pages_per_range = 16);",
        )
        .await;
    assert_eq!(noted().await, 0);
    let grow =
        "INSERT INTO moments SELECT id, now(), repeat('x', 4000) FROM generate_series(1, 256) id";
    books.run(grow).await;
    assert_eq!(blocks().await, 128);
    let mut vacuum = books.pool.begin().await.unwrap();
    let lock = "LOCK TABLE moments_old IN SHARE UPDATE EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *vacuum).await.unwrap();
    assert_eq!(noted().await, 0);
    vacuum.rollback().await.unwrap();
    // Four ranges, without the 64 blocks that may still be written to and the first range, which the empty
    // index had already.
    assert_eq!(noted().await, 3);
    assert_eq!(noted().await, 0);
    books.run(grow).await;
    assert_eq!(noted().await, 8);
    // What the background tasks name has such an index.
    for table in ["usage_events", "transfers", "billing_documents"] {
        let ask = "SELECT count(*) FROM pg_index JOIN pg_class ON oid = indexrelid
                   JOIN pg_am ON pg_am.oid = relam
                   WHERE indrelid = $1::regclass AND amname = 'brin'";
        let query = sqlx::query_scalar::<_, i64>(ask).bind(table);
        assert_eq!(query.fetch_one(&books.pool).await.unwrap(), 1, "{table}");
    }
}

#[tokio::test]
async fn several_servers_keep_the_rollups_and_say_how_far_they_are() {
    let first = World::start().await;
    let second = TestServer::start_on(first.server.database.clone()).await;
    first.startup("acme", "10").await;
    let key = first.key("acme").await;
    for _ in 0..3 {
        let grant = first.granted(&crate::harness::world::request(&key, 100)).await;
        first.record(&grant.token, 1_000, 50).await.unwrap();
    }
    let pool = first.server.pool();
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while rolled_up(&pool).await < 3 {
        assert!(tokio::time::Instant::now() < deadline, "nobody rolled usage up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for server in [&first.server, &second] {
        let metrics = server.metrics().await;
        let lag =
            metrics.lines().find(|line| line.starts_with("tollgate_usage_rollup_lag_seconds"));
        let lag: f64 = lag.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        assert!(lag < 60.0, "{lag}");
    }
    let request = proto::SummarizeUsageRequest::default();
    let client = all_roles(&second).await;
    let totals = client.usage().summarize_usage(request).await.unwrap().into_inner();
    assert_eq!(totals.summaries[0].requests, 3);
    first.verify().await;
    second.drain().await.unwrap();
}

#[tokio::test]
async fn a_burst_of_reports_is_refused_and_takes_nobodys_connection() {
    let world = World::start().await;
    world.startup("acme", "10").await;
    let key = world.key("acme").await;
    let pool = world.server.pool();
    let mut lock = pool.begin().await.unwrap();
    // Every summary waits for this.
    sqlx::raw_sql("LOCK TABLE usage_rollups IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut usage = world.client.usage();
        burst.spawn(
            async move { usage.summarize_usage(proto::SummarizeUsageRequest::default()).await },
        );
    }
    // The first answer is a refusal: of those that found no connection.
    let begun = tokio::time::Instant::now();
    let refused = burst.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let expected = (Code::ResourceExhausted, "REPORTS_BUSY".to_owned(), String::new());
    assert_eq!(refusal(&refused), expected);
    assert!(refused.get_error_details().retry_info().unwrap().retry_delay.is_some());
    // The key is cold, and the funds are not leased yet.
    let grant = world.granted(&crate::harness::world::request(&key, 100)).await;
    world.record(&grant.token, 1_000, 50).await.unwrap();
    assert!(world.balance("acme").await.credits.is_some());
    lock.rollback().await.unwrap();
    let answers = burst.join_all().await;
    assert!(answers.iter().any(Result::is_err));
    let totals = proto::SummarizeUsageRequest::default();
    let totals = world.client.usage().summarize_usage(totals).await.unwrap().into_inner();
    assert_eq!(totals.summaries[0].requests, 1);
}
