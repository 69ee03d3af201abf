//! A short run of each target: its seeds, and as many changed ones as fit into some seconds.

use std::{fs, path::Path};

use proptest::{prelude::*, test_runner::TestRunner};
use tollgate_fuzz::TARGETS;

/// Changed seeds per target.
const CASES: u32 = 4_000;

/// One thing that is done to a seed. Positions are parts of its length, so that they fit any.
#[derive(Debug, Clone)]
enum Change {
    Set(u16, u8),
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    Repeat(u16, u8),
    Number(u16, u64),
    Splice(u16, u16, u16),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        Just(0),
        Just(1_000_000_000),
        Just(u64::from(u32::MAX)),
        Just(i64::MAX as u64 + 1),
        any::<u64>(),
    ];
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<u16>(), prop::collection::vec(any::<u8>(), 1..6))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, count)| Change::Repeat(at, count)),
        (any::<u16>(), number).prop_map(|(at, number)| Change::Number(at, number)),
        (any::<u16>(), any::<u16>(), any::<u16>())
            .prop_map(|(at, seed, from)| Change::Splice(at, seed, from)),
    ]
}

fn place(part: u16, length: usize) -> usize {
    usize::from(part) * length / usize::from(u16::MAX)
}

fn apply(input: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let length = input.len();
    match change {
        Change::Set(at, byte) => {
            if let Some(found) = input.get_mut(place(*at, length)) {
                *found = *byte;
            }
        }
        Change::Insert(at, bytes) => {
            let at = place(*at, length);
            input.splice(at..at, bytes.iter().copied());
        }
        Change::Remove(at, count) => {
            let at = place(*at, length);
            input.drain(at..(at + usize::from(*count)).min(length));
        }
        Change::Repeat(at, count) => {
            let at = place(*at, length);
            let again = input[at..(at + usize::from(*count)).min(length)].to_vec();
            input.splice(at..at, again);
        }
        // The next number of the text becomes another.
        Change::Number(at, number) => {
            let at = place(*at, length);
            let Some(start) = input[at..].iter().position(u8::is_ascii_digit) else { return };
            let start = at + start;
            let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            input.splice(start..start + digits, number.to_string().into_bytes());
        }
        // The rest is that of another seed.
        Change::Splice(at, seed, from) => {
            let other = &seeds[usize::from(*seed) % seeds.len()];
            input.truncate(place(*at, length));
            input.extend_from_slice(&other[place(*from, other.len())..]);
        }
    }
}

#[test]
fn every_target_holds_for_its_seeds_and_for_what_becomes_of_them() {
    for (name, holds) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut files: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no seed");
        let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        // Where nothing is accepted, only refusals would be tried.
        let accepted = seeds.iter().filter(|seed| holds(seed)).count();
        assert!(accepted > 0 && accepted < seeds.len(), "{name}: {accepted} seeds are accepted");
        let changed =
            (0..seeds.len(), prop::collection::vec(change(), 1..8)).prop_map(|(seed, changes)| {
                let mut input = seeds[seed].clone();
                changes.iter().for_each(|change| apply(&mut input, change, &seeds));
                input
            });
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
        let outcome = TestRunner::new(config).run(&changed, |input| {
            let _ = holds(&input);
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{name}: {failure}");
        }
    }
}
