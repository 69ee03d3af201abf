//! Repeats one run, or looks for a seed that breaks a promise. See `scripts/simulate --help`.

use std::{process::ExitCode, time::Instant};

use simulation::{Verdict, mutation::Mutation, options::Options, report::Faults, run};

fn main() -> ExitCode {
    let (mut seed, mut seeds) = (None, None);
    let mut options = Options::of(0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            words.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(|| {
                eprintln!("{word} wants a number");
                std::process::exit(64);
            })
        };
        match word.as_str() {
            "--seed" => seed = Some(number()),
            "--seeds" => seeds = Some(number()),
            "--steps" => options.steps = number(),
            "--trace" => options.trace = true,
            "--without" => {
                let name = words.next().unwrap_or_default();
                let named = |one: &&Mutation| format!("{one:?}") == name;
                options.mutation = Mutation::ALL.iter().find(named).copied();
                if options.mutation.is_none() {
                    eprintln!("there is no rule {name}; there are {:?}", Mutation::ALL);
                    return ExitCode::from(64);
                }
            }
            _ => {
                eprintln!("{word} is not understood; see scripts/simulate --help");
                return ExitCode::from(64);
            }
        }
    }
    let count = seeds.unwrap_or(if seed.is_some() { 1 } else { 100 });
    let first = seed.unwrap_or_else(random);
    let (mut faults, mut events, mut seconds) = (Faults::default(), 0, 0);
    let begun = Instant::now();
    for seed in (0..count).map(|place| first.wrapping_add(place)) {
        let verdict = run(Options { seed, ..options });
        faults.add(&verdict.faults);
        events += verdict.events;
        seconds += verdict.seconds;
        if let Some(violation) = &verdict.violation {
            return broken(violation, &verdict, Options { seed, ..options });
        }
        if count == 1 {
            println!("hash of the run: {:016x}", verdict.hash);
        }
    }
    for (what, times) in &faults.0 {
        println!("{times:>10}  {what}");
    }
    println!(
        "{count} seeds from {first}, {events} events in {} hours of virtual time and {:.1} s: no \
         promise was broken",
        seconds / 3_600,
        begun.elapsed().as_secs_f32()
    );
    ExitCode::SUCCESS
}

fn broken(violation: &str, verdict: &Verdict, options: Options) -> ExitCode {
    for line in &verdict.last {
        println!("{line}");
    }
    println!("\nA promise was broken: {violation}");
    println!("seed {}; to repeat it: {}", options.seed, command(options));
    ExitCode::FAILURE
}

/// What repeats a run.
fn command(options: Options) -> String {
    let mut command = format!("scripts/simulate --seed {}", options.seed);
    if options.steps != Options::STEPS {
        command += &format!(" --steps {}", options.steps);
    }
    if let Some(rule) = options.mutation {
        command += &format!(" --without {rule:?}");
    }
    command + " --trace"
}

/// A seed that nobody chose: a moment is random enough.
fn random() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64) % 1_000_000_000_000
}
