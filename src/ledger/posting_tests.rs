use std::str::FromStr as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ledger::{chart::Side, split::parts_of};

fn amount(text: &str) -> Amount {
    Amount::from_str(text).unwrap()
}

/// "2000→1000.VISA 70" for each transfer.
fn written(posting: &Posting) -> Vec<String> {
    let line =
        |transfer: &Transfer| format!("{}→{} {}", transfer.debit, transfer.credit, transfer.amount);
    posting.transfers().iter().map(line).collect()
}

#[test]
fn every_flow_posts_as_the_chart_says() {
    let balances = Balances {
        promotional: amount("5"),
        credits: amount("70"),
        unbilled: amount("9"),
        ..Balances::default()
    };
    let overdrawn = Balances { overdrawn: amount("30"), ..Balances::default() };
    let disputed = DisputedParts::of(amount("100"), Amount::ZERO, &balances);
    let germany = LedgerCode::tax("DE".parse().ok());
    let back = |tax| TaxBack { amount: amount(tax), code: germany };
    let burnt = |charge, net_30| Sources::burning(amount(charge), &balances, net_30);
    let (visa, wire) = (PaymentMethod::Visa, PaymentMethod::Wire);
    let spent = Balances::default();

    for (flow, posting, on, expected) in [
        ("top-up", Posting::top_up(amount("8"), visa), balances, vec!["1000.VISA→2000 8"]),
        (
            "top-up of an overdraft",
            Posting::top_up(amount("50"), wire),
            overdrawn,
            vec!["1000.WIRE→2000 50", "2000→1150 30"],
        ),
        (
            "top-up smaller than the overdraft",
            Posting::top_up(amount("20"), wire),
            overdrawn,
            vec!["1000.WIRE→2000 20", "2000→1150 20"],
        ),
        ("grant", Posting::grant(amount("3")), overdrawn, vec!["1910→2010 3"]),
        ("withdrawal", Posting::withdrawal(amount("3")), balances, vec!["2010→1910 3"]),
        (
            "usage of all prepaid sources",
            Posting::usage(&burnt("80", false)),
            balances,
            vec!["2010→4000 5", "2000→4000 70", "1150→4000 5"],
        ),
        (
            "usage under Net-30",
            Posting::usage(&burnt("80", true)),
            balances,
            vec!["2010→4000 5", "2000→4000 70", "1100→4000 5"],
        ),
        (
            "a taxed top-up",
            Posting::taxed_top_up(amount("100"), amount("19"), "DE".parse().ok(), wire),
            balances,
            vec!["1000.WIRE→2000 100", "1000.WIRE→2100.DE 19"],
        ),
        (
            "a closing that asks for less than was used",
            Posting::closing(&ClosingParts {
                unbilled: amount("9"),
                invoiced: amount("8.99"),
                tax: amount("1.71"),
                promotional_used: amount("2"),
                ..ClosingParts::default()
            }),
            balances,
            vec!["4910→1910 2", "1200→1100 8.99", "5900→1100 0.01", "1200→2100 1.71"],
        ),
        (
            "a closing that asks for more than was used, after an SLA credit",
            Posting::closing(&ClosingParts {
                unbilled: amount("9"),
                invoiced: amount("7.01"),
                promotional_returned: amount("1"),
                sla_unbilled: amount("2"),
                sla_credits: amount("3"),
                ..ClosingParts::default()
            }),
            balances,
            vec!["1910→4910 1", "4900→1100 2", "4900→2000 3", "1100→5900 0.01", "1200→1100 7.01"],
        ),
        ("usage of nothing", Posting::usage(&burnt("0", true)), balances, vec![]),
        ("refund", Posting::refund(amount("70"), visa), balances, vec!["2000→1000.VISA 70"]),
        (
            "chargeback opened",
            Posting::chargeback_opened(disputed, visa),
            balances,
            vec!["2000→1000.VISA 70", "1250→1000.VISA 30"],
        ),
        (
            "chargeback won",
            Posting::chargeback_won(disputed, visa),
            spent,
            vec!["1000.VISA→2000 70", "1000.VISA→1250 30"],
        ),
        ("chargeback lost", Posting::chargeback_lost(disputed, None), spent, vec!["5100→1250 30"]),
        (
            "chargeback lost of a taxed payment",
            Posting::chargeback_lost(disputed, Some(back("13.30"))),
            spent,
            vec!["2100.DE→1250 13.3", "5100→1250 16.7"],
        ),
        (
            "refund of taxed credits",
            Posting::taxed_refund(amount("70"), &[back("13.30"), back("0")], visa),
            balances,
            vec!["2000→1000.VISA 70", "2100.DE→1000.VISA 13.3"],
        ),
        (
            "reversal",
            Posting::reversal(&burnt("80", true)),
            Balances { unbilled: amount("5"), ..Balances::default() },
            vec!["4000→2010 5", "4000→2000 70", "4000→1100 5"],
        ),
        (
            "reversal while overdrawn",
            Posting::reversal(&burnt("70", false)),
            overdrawn,
            vec!["4000→2010 5", "4000→2000 65", "2000→1150 30"],
        ),
    ] {
        let (posting, _) = posting.on(on).unwrap();
        assert_eq!(written(&posting), expected, "{flow}");
    }
}

#[test]
fn taking_more_than_there_is_names_the_balance() {
    let balances = Balances { credits: amount("1"), ..Balances::default() };
    let refused = Posting::refund(amount("1.01"), PaymentMethod::Visa).on(balances).unwrap_err();
    assert_eq!(
        refused,
        BalanceError::Insufficient {
            line: Line::Credits,
            balance: amount("1"),
            amount: amount("1.01")
        }
    );
}

#[test]
fn a_balance_beyond_the_largest_amount_is_refused() {
    let balances = Balances { credits: Amount::largest(), ..Balances::default() };
    let refused = Posting::top_up(amount("1"), PaymentMethod::Visa).on(balances).unwrap_err();
    assert!(matches!(refused, BalanceError::TooLarge { line: Line::Credits, .. }), "{refused}");
}

#[test]
fn the_migration_knows_every_kind_of_transfer() {
    let migration = include_str!("../../migrations/0017_cost_of_revenue.sql");
    for kind in TransferKind::ALL {
        assert!(migration.contains(&format!("'{}'", kind.name())), "{kind:?} is missing");
    }
}

#[test]
fn what_was_overdrawn_and_cured_returns_to_credits() {
    let parts = Sources { overdrawn: amount("10"), ..Sources::default() };
    let balances = Balances { overdrawn: amount("4"), ..Balances::default() };
    let expected = Sources { overdrawn: amount("4"), credits: amount("6"), ..Sources::default() };
    assert_eq!(parts.returning_to(&balances), expected);
}

#[test]
fn a_posting_that_does_not_sum_to_its_events_is_not_split() {
    let event = Uuid::now_v7();
    let posting = Sources { credits: amount("2"), ..Sources::default() };
    assert!(parts_of(event, &posting, &[(event, amount("1"))]).is_err());
}

fn any_amount() -> impl Strategy<Value = Amount> {
    (0_u64..2_000, 0_u32..13).prop_map(|(mantissa, scale)| {
        Amount::new(rust_decimal::Decimal::new(i64::try_from(mantissa).unwrap(), scale)).unwrap()
    })
}

/// One flow with numbers that may or may not be possible.
fn any_flow() -> impl Strategy<Value = (u8, Amount, bool)> {
    (0_u8..8, any_amount(), any::<bool>())
}

fn posting_of(flow: u8, amount: Amount, net_30: bool, balances: &Balances) -> Posting {
    let method = PaymentMethod::Paypal;
    let parts = DisputedParts::of(amount, Amount::ZERO, balances);
    match flow {
        0 => Posting::top_up(amount, method),
        1 => Posting::grant(amount),
        2 => Posting::withdrawal(amount),
        3 => Posting::refund(amount, method),
        4 => Posting::chargeback_opened(parts, method),
        5 => Posting::chargeback_won(parts, method),
        6 => {
            let taken = Sources::burning(amount, balances, net_30);
            Posting::reversal(&taken.returning_to(balances))
        }
        _ => Posting::usage(&Sources::burning(amount, balances, net_30)),
    }
}

proptest! {
    #[test]
    fn balances_are_the_fold_of_their_transfers_and_never_negative(
        flows in prop::collection::vec(any_flow(), 1..60),
    ) {
        let mut balances = Balances::default();
        let mut all = Vec::new();
        for (flow, amount, net_30) in flows {
            let posting = posting_of(flow, amount, net_30, &balances);
            // A refused posting changes nothing.
            let Ok((posting, after)) = posting.on(balances) else { continue };
            for transfer in posting.transfers() {
                prop_assert!(transfer.amount.is_positive());
                let route = (transfer.debit.line(), transfer.credit.line());
                prop_assert!(transfer.kind.routes().contains(&route), "{transfer:?}");
            }
            all.extend_from_slice(posting.transfers());
            balances = after;
            prop_assert!(balances.overdrawn.is_zero() || balances.credits.is_zero());
        }
        for line in Balances::LINES {
            let folded = all.iter().fold(rust_decimal::Decimal::ZERO, |sum, transfer| {
                let amount = transfer.amount.decimal();
                let grows = line.kind().normal_side() == Side::Debit;
                let debit = if transfer.debit.line() == line { amount } else { 0.into() };
                let credit = if transfer.credit.line() == line { amount } else { 0.into() };
                if grows { sum + debit - credit } else { sum + credit - debit }
            });
            let balance = balances.of(line).unwrap();
            prop_assert!(!balance.is_negative());
            prop_assert_eq!(balance.decimal(), folded, "{:?}", line);
        }
    }

    #[test]
    fn the_parts_of_a_postings_events_sum_to_its_sources(
        charges in prop::collection::vec(any_amount(), 1..20),
        promotional in any_amount(),
        credits in any_amount(),
        net_30 in any::<bool>(),
    ) {
        let balances = Balances { promotional, credits, ..Balances::default() };
        let events: Vec<_> = charges.iter().map(|charge| (Uuid::now_v7(), *charge)).collect();
        let total = charges.iter().fold(Amount::ZERO, |sum, charge| sum.saturating_add(*charge));
        let posting = Sources::burning(total, &balances, net_30);

        // Event by event, as if each had been posted alone.
        let mut one_by_one = balances;
        let mut sum = Sources::default();
        for (event, charge) in &events {
            let alone = Sources::burning(*charge, &one_by_one, net_30);
            let parts = parts_of(*event, &posting, &events).unwrap().unwrap();
            prop_assert_eq!(parts, alone);
            prop_assert_eq!(parts.total(), *charge);
            (_, one_by_one) = Posting::usage(&alone).on(one_by_one).unwrap();
            sum = Sources {
                promotional: sum.promotional.saturating_add(parts.promotional),
                credits: sum.credits.saturating_add(parts.credits),
                unbilled: sum.unbilled.saturating_add(parts.unbilled),
                overdrawn: sum.overdrawn.saturating_add(parts.overdrawn),
            };
        }
        prop_assert_eq!(sum, posting);
    }
}

#[test]
fn what_a_month_cost_and_what_a_closing_account_leaves_have_lines_of_their_own() {
    assert_eq!(written(&Posting::provider_cost(amount("3"))).len(), 1);
    let closing = Posting::account_closing(amount("0.001"));
    assert_eq!(closing.transfers()[0].debit.line(), Line::Credits);
    assert_eq!(closing.transfers()[0].credit.line(), Line::Rounding);
    let allocation = Posting::allocation(amount("5"));
    assert_eq!(allocation.transfers()[0].debit.line(), Line::Unapplied);
    assert_eq!(allocation.transfers()[0].credit.line(), Line::Receivable);
    assert!(!allocation.is_empty());
    assert!(Posting::allocation(Amount::ZERO).is_empty());
}
