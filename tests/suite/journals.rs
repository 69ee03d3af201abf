//! The books as journals for other programs, over gRPC.

use std::{collections::BTreeMap, io::ErrorKind, io::Write as _, process::Command};

use rust_decimal::Decimal;
use tollgate::proto::{
    ExportJournalRequest, GetTrialBalanceRequest, GrantCreditRequest, JournalFormat,
};
use tonic::{Code, Status};

use crate::harness::world::{World, decimal, request, startup, usd};

async fn export(world: &World, request: ExportJournalRequest) -> Result<String, Status> {
    let mut pieces = world.client.ledger().export_journal(request).await?.into_inner();
    let mut text = Vec::new();
    while let Some(piece) = pieces.message().await? {
        text.extend(piece.data);
    }
    Ok(String::from_utf8(text).unwrap())
}

fn of(format: JournalFormat) -> ExportJournalRequest {
    ExportJournalRequest { format: format.into(), ..ExportJournalRequest::default() }
}

/// Customers of both kinds, usage from every source, and charges far below a cent.
async fn business() -> World {
    let world = World::start().await;
    startup(&world.client, "acme", "0.05").await;
    let grant = GrantCreditRequest {
        account: "acme".to_owned(),
        amount: usd("0.02"),
        reason: "welcome; really".to_owned(),
        idempotency_key: String::new(),
    };
    world.client.credits().grant_credit(grant).await.unwrap();
    world.enterprise("umbrella", "1000").await;
    for account in ["acme", "umbrella"] {
        let key = world.key(account).await;
        for used in [1, 337, 999] {
            let grant = world.granted(&request(&key, 1_000)).await;
            world.record(&grant.token, used, used).await.unwrap();
        }
    }
    world
}

/// The balance of each line, debits above zero.
async fn books(world: &World) -> BTreeMap<String, Decimal> {
    let trial = world.client.ledger().get_trial_balance(GetTrialBalanceRequest::default()).await;
    let lines = trial.unwrap().into_inner().lines;
    let net = |line: &tollgate::proto::TrialBalanceLine| {
        decimal(line.debits.as_ref()) - decimal(line.credits.as_ref())
    };
    lines.iter().map(|line| (line.code.clone(), net(line))).collect()
}

#[tokio::test]
async fn hledger_reads_the_journal_and_has_the_balances_of_the_books() {
    let world = business().await;
    let journal = export(&world, of(JournalFormat::Hledger)).await.unwrap();
    assert_eq!(journal, export(&world, of(JournalFormat::Hledger)).await.unwrap());

    assert!(books(&world).await.len() >= 6, "business has many lines");
    assert_hledger_agrees(&world).await;
}

/// Fails unless hledger reads the books' journal and comes to their balances.
pub(crate) async fn assert_hledger_agrees(world: &World) {
    let journal = export(world, of(JournalFormat::Hledger)).await.unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(journal.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let told = Command::new("hledger")
        .args(["-f", path, "balance", "--flat", "--depth", "2", "-N", "-E", "-O", "csv"])
        .env("LANG", "C.UTF-8")
        .output();
    let told = match told {
        Ok(told) => told,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "hledger is not installed");
            eprintln!("hledger is not installed, so that it has not read the journal");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let mut balances = BTreeMap::new();
    for row in csv::Reader::from_reader(told.stdout.as_slice()).records() {
        let row = row.unwrap();
        // The chart itself is declared by account directives, whose lines may have no transfers.
        let Some((_, name)) = row[0].split_once(':') else { continue };
        // Each line has one currency here: our cost's, or the customers'.
        let (amount, _) = row[1].split_once(' ').unwrap_or((&row[1], ""));
        balances.insert(name[..4].to_owned(), amount.parse::<Decimal>().unwrap());
    }
    let books = books(world).await;
    assert!(books.len() > 1, "{books:?}");
    balances.retain(|code, balance| books.contains_key(code) || !balance.is_zero());
    assert_eq!(balances, books);
}

#[tokio::test]
async fn quickbooks_and_xero_balance_and_stay_within_half_a_cent_of_each_pair() {
    let world = business().await;
    let books = books(&world).await;
    for (format, account, debits, credits) in
        [(JournalFormat::Quickbooks, 2, 3, Some(4)), (JournalFormat::Xero, 3, 5, None)]
    {
        let journal = export(&world, of(format)).await.unwrap();
        assert_eq!(journal, export(&world, of(format)).await.unwrap());
        let mut sums = BTreeMap::<String, Decimal>::new();
        let mut rows = 0;
        for row in csv::Reader::from_reader(journal.as_bytes()).records() {
            let row = row.unwrap();
            let read = |at: usize| row[at].parse::<Decimal>().unwrap_or_default();
            let net = read(debits) - credits.map(read).unwrap_or_default();
            assert_eq!(net.scale(), 2, "{row:?}");
            *sums.entry(row[account][..4].to_owned()).or_default() += net;
            rows += 1;
        }
        assert!(rows >= 8, "{journal}");
        assert_eq!(sums.values().sum::<Decimal>(), Decimal::ZERO);
        for (code, exact) in &books {
            // No line meets more than six pairs here.
            let stray = (sums.get(code).copied().unwrap_or_default() - exact).abs();
            assert!(stray <= Decimal::new(3, 2), "{code}: {stray} in {journal}");
        }
    }
}

#[tokio::test]
async fn a_journal_is_of_one_account_one_month_and_one_moment() {
    let world = business().await;
    let whole = export(&world, of(JournalFormat::Hledger)).await.unwrap();
    let heads = |journal: &str| journal.lines().filter(|line| line.contains(" * (")).count();
    let acme = ExportJournalRequest { account: "acme".to_owned(), ..of(JournalFormat::Hledger) };
    let umbrella =
        ExportJournalRequest { account: "umbrella".to_owned(), ..of(JournalFormat::Hledger) };
    let (acme, umbrella) =
        (export(&world, acme).await.unwrap(), export(&world, umbrella).await.unwrap());
    assert!(!acme.contains(" umbrella |") && !umbrella.contains(" acme |"));
    assert_eq!(heads(&acme) + heads(&umbrella), heads(&whole));

    let month = whole.lines().find(|line| line.contains(" * (")).unwrap()[..7].to_owned();
    let this = ExportJournalRequest { period: month, ..of(JournalFormat::Hledger) };
    assert_eq!(export(&world, this).await.unwrap(), whole);
    let before =
        ExportJournalRequest { period: "2020-01".to_owned(), ..of(JournalFormat::Hledger) };
    assert_eq!(heads(&export(&world, before).await.unwrap()), 0);
    let early = prost_types::Timestamp { seconds: 1_600_000_000, nanos: 0 };
    let early = ExportJournalRequest { until: Some(early), ..of(JournalFormat::Hledger) };
    assert_eq!(heads(&export(&world, early).await.unwrap()), 0);
}

#[tokio::test]
async fn a_journal_that_cannot_be_is_refused_with_the_remedy() {
    let world = World::start().await;
    for (request, field) in [
        (ExportJournalRequest::default(), "format"),
        (
            ExportJournalRequest { period: "2026-13".to_owned(), ..of(JournalFormat::Xero) },
            "period",
        ),
        (
            ExportJournalRequest { currency_code: "usd".to_owned(), ..of(JournalFormat::Xero) },
            "currency_code",
        ),
    ] {
        let status = export(&world, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(field), "{status:?}");
    }
}
