//! The shape of the code, read from its own text: dependencies point one way, SQL is in files
//! named `store.rs`, and what can be pure has no input or output.
//!
//! `docs/architecture.md` is the map; this keeps it true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The business, which may not see the contract's messages either.
const DOMAIN: [&str; 9] = [
    "accounts",
    "audit",
    "authorization",
    "billing",
    "catalog",
    "installation",
    "ledger",
    "metering",
    "personal_data",
];

/// What is above may use what is below. The parts of one layer may use each other only in the two
/// layers that say so.
const LAYERS: [Layer; 6] = [
    Layer { parts: &["cli"], mutual: false },
    Layer { parts: &["server"], mutual: false },
    Layer { parts: &["api", "config"], mutual: false },
    Layer { parts: &DOMAIN, mutual: true },
    Layer { parts: &["database", "identity", "telemetry"], mutual: false },
    Layer { parts: &["clock", "ids", "money", "problem", "proto", "tasks"], mutual: true },
];

/// Crates that only these parts may know: the rules of the business outlive a transport.
const EDGES: [(&str, &[&str]); 5] = [
    ("tonic", &["api", "cli", "proto", "server"]),
    ("axum", &["server"]),
    ("clap", &["cli", "config", "telemetry"]),
    ("comfy_table", &["cli"]),
    ("jsonwebtoken", &["authorization", "identity"]),
];

/// Functions and state machines that tests and simulations drive directly.
const PURE: [&str; 30] = [
    "accounts/key.rs",
    "authorization/checks.rs",
    "authorization/decision.rs",
    "authorization/guard/rate.rs",
    "authorization/guard/spike.rs",
    "authorization/holdings.rs",
    "authorization/lease.rs",
    "authorization/pool.rs",
    "authorization/slot_state.rs",
    "billing/assembly.rs",
    "billing/document.rs",
    "billing/export/csv.rs",
    "billing/export/einvoice.rs",
    "billing/export/mod.rs",
    "billing/export/pdf/metadata.rs",
    "billing/prepayments/plan.rs",
    "billing/settlement/credit.rs",
    "billing/settlement/plan.rs",
    "billing/sla/availability.rs",
    "billing/tax.rs",
    "catalog/price.rs",
    "catalog/rating.rs",
    "ledger/balances.rs",
    "ledger/chart.rs",
    "ledger/posting.rs",
    "ledger/settling.rs",
    "ledger/split.rs",
    "metering/dialect.rs",
    "metering/quantities.rs",
    "money.rs",
];

struct Layer {
    parts: &'static [&'static str],
    mutual: bool,
}

/// A file of `src`, without its comments.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    code: String,
}

impl Source {
    /// The folder under `src`, or the file that stands for one.
    fn part(&self) -> &str {
        let first = self.path.components().next().unwrap().as_os_str().to_str().unwrap();
        let name = first.strip_suffix(".rs").unwrap_or(first);
        name.strip_suffix("_tests").unwrap_or(name)
    }

    /// The parts of this crate that it names, in `use` lines and in paths.
    fn uses(&self) -> BTreeSet<&str> {
        let mut parts = BTreeSet::new();
        for (at, prefix) in self.code.match_indices("crate::") {
            let rest = &self.code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => parts.extend(heads_of_group(group)),
                None => parts.extend(head(rest)),
            }
        }
        parts
    }

    fn names_crate(&self, name: &str) -> bool {
        let path = format!("{name}::");
        self.code.match_indices(&path).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    }
}

/// The first names of `a::b, c::{d, e}, f}`.
fn heads_of_group(group: &str) -> Vec<&str> {
    let (mut depth, mut begins, mut heads) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                heads.extend(head(&group[begins..at]));
                begins = at + 1;
            }
            '}' if depth == 0 => {
                heads.extend(head(&group[begins..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> Option<&str> {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    // A capital begins an item of the crate's root, not a part.
    path.get(..end).filter(|name| name.starts_with(|c: char| c.is_lowercase()))
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
                let code = lines.collect::<Vec<_>>().join("\n");
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), code });
            }
        }
    }
    assert!(found.len() > 50, "only {} files of source were found", found.len());
    found
}

fn layer_of(part: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.parts.contains(&part))
}

/// One line per offence.
fn none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    let mut offences = Vec::new();
    for source in sources() {
        let part = source.part();
        if ["lib", "main"].contains(&part) {
            continue;
        }
        let Some(own) = layer_of(part) else {
            offences.push(format!("src/{part} has no place in LAYERS: give it one"));
            continue;
        };
        for used in source.uses().into_iter().filter(|used| *used != part) {
            let allowed = layer_of(used)
                .is_none_or(|layer| layer > own || (layer == own && LAYERS[own].mutual));
            if !allowed {
                offences.push(format!("{} uses crate::{used}", source.path.display()));
            }
        }
    }
    none(&offences);
}

#[test]
fn a_transport_is_known_at_the_edges_only() {
    let mut offences = Vec::new();
    for source in sources() {
        let part = source.part();
        for (name, parts) in EDGES {
            if source.names_crate(name) && !parts.contains(&part) && part != "main" {
                offences.push(format!("{} uses {name}", source.path.display()));
            }
        }
        if DOMAIN.contains(&part) && source.uses().contains("proto") {
            offences.push(format!("{} uses crate::proto", source.path.display()));
        }
    }
    none(&offences);
}

#[test]
fn sql_is_in_files_named_store() {
    let offences: Vec<String> = sources()
        .iter()
        .filter(|source| !source.path.ends_with("store.rs"))
        .filter(|source| {
            ["sqlx::query", "query_as(", "query_scalar("].iter().any(|q| source.code.contains(q))
        })
        .map(|source| format!("{} has SQL", source.path.display()))
        .collect();
    none(&offences);
}

#[test]
fn what_is_pure_has_no_input_or_output() {
    let sources = sources();
    let mut offences = Vec::new();
    for path in PURE {
        let source = sources.iter().find(|source| source.path == Path::new(path));
        let source = source.unwrap_or_else(|| panic!("src/{path} is gone: take it off the list"));
        for impure in ["async ", ".await", "tokio::", "clock::now", "std::fs", "std::env", "PgPool"]
        {
            if source.code.contains(impure) {
                offences.push(format!("src/{path} has {impure:?}"));
            }
        }
    }
    none(&offences);
}

#[test]
fn the_reader_of_use_lines_reads_every_form() {
    let code = "use crate::{accounts::{key::Key, Other}, money::Amount,\n    ids};\n\
                fn f() { crate::clock::now(); crate::Root; nocrate::no(); }"
        .replace("nocrate::", "other::");
    let source = Source { path: "catalog/x.rs".into(), code };
    let uses: Vec<&str> = source.uses().into_iter().collect();
    assert_eq!(uses, ["accounts", "clock", "ids", "money"]);
    assert_eq!(source.part(), "catalog");
    assert!(source.names_crate("other") && !source.names_crate("ther"));
}
