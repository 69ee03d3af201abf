//! `tollgate replay`: sends a recorded request trace through `Authorize` and `RecordUsage`,
//! as a gateway would, and proves at the end that the books say what the answers said.
//!
//! | file | what |
//! |---|---|
//! | `trace` | reads the trace |
//! | `mix` | which model a row asks for |
//! | `gateway` | one request: authorize, record, repeat what failed for a while |
//! | `journal` | what became of each row, so that a replay can be continued |
//! | `totals` | sums |
//! | `proof` | answers = events = transfers |

mod gateway;
mod journal;
mod mix;
mod proof;
mod totals;
pub mod trace;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rust_decimal::Decimal;
use tokio::task::JoinSet;

use self::{
    gateway::{Done, Gateway},
    journal::{Identity, Journal, Progress},
    mix::Mix,
    totals::Totals,
    trace::{Request, Trace},
};
use crate::cli::{
    Session,
    args::{self, new_idempotency_key},
    error::CliError,
};

const EXAMPLES: &str = "\
The trace is a CSV file of TIMESTAMP,ContextTokens,GeneratedTokens. A replay with a resume file can
be continued after the death of either side, and charges nothing twice. Exits with 1 when the books
do not say what the answers said.

Examples:
  tollgate replay trace.csv --key ga_sk_… --model gpt-4o --as-fast-as-possible
  tollgate replay trace.csv --key - --model gpt-4o=3 --model Qwen/Qwen3-32B --speed 60 < key.txt
  tollgate replay trace.csv --key ga_sk_… --model gpt-4o --resume-file replay.state";
/// The most requests that can be on their way at once; one connection carries them all.
const MAX_CONCURRENCY: u64 = 4096;
/// How often the progress bar is drawn.
const DRAWS_PER_SECOND: u8 = 5;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReplayArgs {
    /// The trace
    trace: PathBuf,
    /// The customer's API key; - reads it from the standard input
    #[arg(long, env = "TOLLGATE_API_KEY", hide_env_values = true)]
    key: String,
    /// A model, and how often it is asked for among others; repeat for a mix
    #[arg(long = "model", required = true, value_name = "NAME[=WEIGHT]")]
    models: Vec<String>,
    /// So many times the recorded pace
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_speed)]
    #[arg(conflicts_with = "as_fast_as_possible")]
    speed: Decimal,
    /// Without pauses
    #[arg(long)]
    as_fast_as_possible: bool,
    /// Requests on their way at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_CONCURRENCY))]
    concurrency: u64,
    /// Only the first rows of the trace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Take less output where funds cover only that
    #[arg(long)]
    allow_reduced: bool,
    /// How long a call is repeated while the server is away or full
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = args::parse_span)]
    patience: chrono::Duration,
    /// Write down what became of each row, and continue from there
    #[arg(long, value_name = "FILE")]
    resume_file: Option<PathBuf>,
    /// Append each acknowledged event: id, charge, currency
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
}

pub(super) async fn run(args: ReplayArgs, session: &Session) -> Result<(), CliError> {
    let mix = Mix::parse(&args.models)?;
    let trace = Trace::open(&args.trace, args.limit)?;
    for complaint in trace.complaints() {
        session.output.warn(&complaint)?;
    }
    let client = session.connect().await?;
    let (journal, identity, before) = Journal::open(
        identity(&args, &mix)?,
        args.resume_file.as_deref(),
        args.acknowledged.as_deref(),
    )?;
    let gateway = Gateway {
        client: client.clone(),
        api_key: args::read_secret(&args.key)?,
        run: identity.run,
        allow_reduced: args.allow_reduced,
        patience: args.patience.to_std().unwrap_or_default(),
        journal,
    };
    let pace = (!args.as_fast_as_possible).then_some(args.speed);
    let begun = Instant::now();
    let mut totals = send(gateway, &trace.requests, &mix, before, pace, args.concurrency).await?;
    let tables = totals.tables(begun.elapsed())?;
    let proof = proof::prove(&client, &totals).await?;
    session.output.show_all(&[tables, vec![proof.table.clone()]].concat())?;
    proof.verdict()
}

fn identity(args: &ReplayArgs, mix: &Mix) -> Result<Identity, CliError> {
    let metadata = std::fs::metadata(&args.trace);
    let metadata = metadata.map_err(|cause| CliError::file(&args.trace, cause))?;
    let name = args.trace.file_name().unwrap_or(args.trace.as_os_str());
    Ok(Identity {
        run: new_idempotency_key(),
        trace: name.to_string_lossy().into_owned(),
        bytes: metadata.len(),
        models: mix.describe(),
    })
}

/// Sends every request at its time, so many at once at most. The first failure ends the replay,
/// after the requests that are on their way.
async fn send(
    gateway: Gateway,
    requests: &[Request],
    mix: &Mix,
    mut before: HashMap<u64, Progress>,
    pace: Option<Decimal>,
    concurrency: u64,
) -> Result<Totals, CliError> {
    let gateway = Arc::new(gateway);
    let bar = progress_bar(requests.len() as u64);
    let mut totals = Totals::default();
    let mut failure = None;
    let mut on_their_way: JoinSet<Result<Done, CliError>> = JoinSet::new();
    let room = usize::try_from(concurrency).unwrap_or(usize::MAX);
    let begun = Instant::now();
    for request in requests.iter().copied() {
        let known = before.remove(&request.row);
        let is_new = !matches!(known, Some(Progress::Acknowledged(_) | Progress::Denied(_)));
        if let Some(speed) = pace.filter(|_| is_new) {
            tokio::time::sleep_until((begun + due(request.offset, speed)).into()).await;
        }
        while on_their_way.len() >= room {
            take(on_their_way.join_next().await, &mut totals, &bar).unwrap_or_else(|error| {
                failure.get_or_insert(error);
            });
        }
        if failure.is_some() {
            break;
        }
        let (gateway, model) = (Arc::clone(&gateway), mix.of(request.row).to_owned());
        on_their_way.spawn(async move { gateway.serve(request, &model, known).await });
    }
    while let Some(done) = on_their_way.join_next().await {
        take(Some(done), &mut totals, &bar).unwrap_or_else(|error| {
            failure.get_or_insert(error);
        });
    }
    bar.finish_and_clear();
    gateway.journal.finish()?;
    failure.map_or(Ok(totals), Err)
}

type Joined = Result<Result<Done, CliError>, tokio::task::JoinError>;

fn take(joined: Option<Joined>, totals: &mut Totals, bar: &ProgressBar) -> Result<(), CliError> {
    let Some(joined) = joined else { return Ok(()) };
    bar.inc(1);
    let done = joined.map_err(|error| CliError::failed(format!("a request broke off: {error}")))?;
    totals.add(done?)
}

/// When a request is due at this pace.
fn due(offset: Duration, speed: Decimal) -> Duration {
    let microseconds = Decimal::from(u64::try_from(offset.as_micros()).unwrap_or(u64::MAX));
    let due = microseconds.checked_div(speed).and_then(|due| u64::try_from(due.trunc()).ok());
    Duration::from_micros(due.unwrap_or(u64::MAX))
}

/// Drawn on terminals alone.
fn progress_bar(requests: u64) -> ProgressBar {
    let target = indicatif::ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(requests), target);
    let template = "{bar:40} {human_pos}/{human_len} requests  {per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn parse_speed(text: &str) -> Result<Decimal, String> {
    Decimal::from_str_exact(text)
        .ok()
        .filter(|speed| *speed > Decimal::ZERO && *speed <= Decimal::from(1_000_000))
        .ok_or_else(|| format!("{text:?} is not a factor; write 1, 0.5 or 60"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faster_pace_brings_a_request_sooner() {
        let hour = Duration::from_hours(1);
        assert_eq!(due(hour, Decimal::ONE), hour);
        assert_eq!(due(hour, Decimal::from(60)), Duration::from_mins(1));
        assert_eq!(due(hour, parse_speed("0.5").unwrap()), Duration::from_hours(2));
        for text in ["0", "-1", "fast", "", "1e3"] {
            assert!(parse_speed(text).is_err(), "{text:?}");
        }
    }
}
