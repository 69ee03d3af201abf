//! New seeds each time, and proof that broken rules are noticed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use simulation::{mutation::Mutation, options::Options, run};

/// For so long new seeds are tried.
const BUDGET: Duration = Duration::from_secs(10);
/// Within so many seeds a broken rule must be noticed. `docs/reliability.md` has how many it takes.
const SEEDS_TO_NOTICE: u64 = 1_000;

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let (first, second, other) = (run(Options::of(7)), run(Options::of(7)), run(Options::of(8)));
    assert!(first.events > 1_000, "{} events", first.events);
    assert_eq!((first.hash, first.events), (second.hash, second.events));
    assert_ne!(first.hash, other.hash);
}

#[test]
fn new_seeds_break_no_promise() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = u64::try_from(since.as_nanos() % 1_000_000_000_000).unwrap();
    let (begun, mut seeds) = (Instant::now(), 0);
    while begun.elapsed() < BUDGET {
        let seed = first + seeds;
        let verdict = run(Options::of(seed));
        if let Some(violation) = verdict.violation {
            let last = verdict.last.join("\n");
            panic!(
                "{last}\n\na promise was broken: {violation}\nto repeat it: scripts/simulate \
                 --seed {seed} --trace"
            );
        }
        seeds += 1;
    }
    eprintln!("{seeds} new seeds from {first}");
    assert!(seeds > 5, "only {seeds} seeds in {BUDGET:?}");
}

#[test]
fn without_any_one_of_the_rules_a_promise_is_broken() {
    for rule in Mutation::ALL {
        let options = Options { mutation: Some(*rule), ..Options::of(0) };
        let found = (1..=SEEDS_TO_NOTICE)
            .find_map(|seed| run(Options { seed, ..options }).violation.map(|what| (seed, what)));
        let Some((seed, what)) = found else {
            panic!("nobody notices in {SEEDS_TO_NOTICE} seeds that {}", rule.what());
        };
        eprintln!("{rule:?}, {}: seed {seed}: {what}", rule.what());
    }
}
