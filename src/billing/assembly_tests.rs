use proptest::prelude::*;

use super::*;
use crate::{
    accounts::{account::AccountStatus, contract::Contract},
    catalog::{
        price::{Price, PriceParts, Rate, RateCard, Rates, Tier},
        version::Derivation,
    },
    ids::AccountId,
    ledger::{balances::Balances, posting::Posting},
    money::Currency,
};

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// A price per million tokens of either side, with a tier at twice of it.
fn priced(version: i64, rate: &str, derivation: Option<Derivation>) -> PricedModel {
    let rate: Rate = rate.parse().unwrap();
    let double = Rate::new(rate.decimal() * Decimal::TWO).unwrap();
    let tier = Tier { above: 200_000, rates: Rates::new(double, double) };
    let price = Price::new(PriceParts {
        currency: Currency::USD,
        card: RateCard::new(Rates::new(rate, rate), vec![tier]).unwrap(),
        withdrawn: false,
        image: amount("0.04"),
        request: Amount::ZERO,
        cached_response: amount("0.001"),
    });
    PricedModel {
        version: PriceVersionId(version),
        model_id: ModelId(1),
        account_id: None,
        effective_from: chrono::DateTime::UNIX_EPOCH,
        price: price.unwrap(),
        cost: None,
        source: String::new(),
        source_date: String::new(),
        derivation,
    }
}

fn used(version: i64, input: u64, charge: &str) -> UsageSum {
    let mut tokens = TokenClass::ALL.map(|class| (class, Decimal::ZERO));
    tokens[0].1 = Decimal::from(input);
    UsageSum {
        model_id: ModelId(1),
        model: "acme/parrot".to_owned(),
        price_version: PriceVersionId(version),
        tier_above: 0,
        cache_hit: false,
        month: day("2026-10-01"),
        days: Days { first: day("2026-10-02"), last: day("2026-10-30") },
        requests: Decimal::ONE,
        tokens,
        images: Decimal::ZERO,
        charge: amount(charge),
    }
}

/// A customer's month, to be changed by a test.
struct Scene {
    account: Account,
    seller: Seller,
    usage: Vec<UsageSum>,
    prices: HashMap<PriceVersionId, PricedModel>,
    funding: Funding,
    taxed_credits: Amount,
    sla: Option<SlaCredit>,
}

impl Scene {
    fn new(terms: PaymentTerms, tax_percent: &str) -> Self {
        let contract = Contract {
            payment_terms: terms,
            tax_rate_percent: tax_percent.parse().unwrap(),
            ..Contract::default()
        };
        let account = Account {
            account_id: AccountId::generate(),
            handle: "acme".to_owned(),
            display_name: "Acme Inc.".to_owned(),
            currency: Currency::USD,
            status: AccountStatus::Active,
            status_reason: String::new(),
            contract,
            created_at: chrono::DateTime::UNIX_EPOCH,
            updated_at: chrono::DateTime::UNIX_EPOCH,
            version: 1,
        };
        let prices = [(1, "1", None), (2, "10", None)];
        let derivation = Derivation { from: PriceVersionId(2), percent: Decimal::from(20) };
        let prices = prices.into_iter().chain([(3, "8", Some(derivation))]);
        let prices = prices
            .map(|(version, rate, from)| (PriceVersionId(version), priced(version, rate, from)));
        Self {
            account,
            seller: Seller { party: Party::default(), remittance: Remittance::default() },
            usage: Vec::new(),
            prices: prices.collect(),
            funding: Funding::default(),
            taxed_credits: Amount::ZERO,
            sla: None,
        }
    }

    fn assemble(&self) -> Result<Assembled, BillingError> {
        let taxation = Taxation::of(&self.account.contract, None);
        assemble(&Month {
            period: day("2026-10-01"),
            issue_date: day("2026-11-01"),
            account: &self.account,
            seller: &self.seller,
            taxation: &taxation,
            usage: &self.usage,
            prices: &self.prices,
            funding: self.funding,
            taxed_credits: self.taxed_credits,
            prepayments: &["PRE-2026-000001".to_owned()],
            sla: self.sla.as_ref(),
        })
    }
}

fn missed(credit: &str) -> SlaCredit {
    let (reason, evidence) = ("Pro availability of 90%".to_owned(), "Seen twice.".to_owned());
    SlaCredit { amount: amount(credit), reason, evidence }
}

fn written(posting: &Posting) -> Vec<String> {
    let line = |one: &crate::ledger::posting::Transfer| {
        format!("{}→{} {}", one.debit, one.credit, one.amount)
    };
    posting.transfers().iter().map(line).collect()
}

#[test]
fn an_invoice_asks_for_its_rounded_lines_and_the_rest_is_rounding() {
    let mut scene = Scene::new(PaymentTerms::Net30, "19");
    scene.usage = vec![used(1, 1_234_567, "1.234567"), used(2, 1_000, "0.01")];
    scene.funding.unbilled = amount("1.244567");
    let assembled = scene.assemble().unwrap();
    let document = assembled.document.unwrap();
    assert_eq!(document.kind, DocumentKind::Invoice);
    let nets: Vec<String> = document.lines.iter().map(|line| line.net.to_string()).collect();
    assert_eq!(nets, ["1.23", "0.01"]);
    let totals = document.totals;
    assert_eq!(
        (totals.net, totals.tax, totals.due),
        (amount("1.24"), amount("0.24"), amount("1.48"))
    );
    assert_eq!(document.due_date, Some(day("2026-12-01")));
    assert_eq!(
        written(&Posting::closing(&assembled.parts)),
        ["1200→1100 1.24", "5900→1100 0.004567", "1200→2100 0.24"]
    );
}

#[test]
fn a_discount_is_shown_by_list_price_and_percent() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    scene.usage = vec![used(3, 1_000_000, "8")];
    scene.funding.unbilled = amount("8");
    let document = scene.assemble().unwrap().document.unwrap();
    let line = &document.lines[0];
    assert_eq!((line.price, line.list_price), (Decimal::from(8), Some(Decimal::TEN)));
    assert_eq!(line.discount_percent, Some(Decimal::from(20)));
}

#[test]
fn tiers_cache_hits_and_late_months_have_lines_of_their_own() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    let tiered = UsageSum { tier_above: 200_000, ..used(1, 1_000_000, "2") };
    let cached =
        UsageSum { cache_hit: true, requests: Decimal::from(5), ..used(1, 1_000_000, "0.005") };
    let late = UsageSum {
        month: day("2026-08-01"),
        days: Days { first: day("2026-08-31"), last: day("2026-08-31") },
        ..used(1, 1_000_000, "1")
    };
    scene.usage = vec![late, tiered, cached, used(1, 1_000_000, "1")];
    scene.funding.unbilled = amount("4.005");
    let document = scene.assemble().unwrap().document.unwrap();
    let lines: Vec<_> =
        document.lines.iter().map(|line| (line.class, line.tier_above, line.net)).collect();
    assert_eq!(
        lines,
        [
            (LineClass::Input, 0, amount("1")),
            (LineClass::CachedResponse, 0, amount("0.01")),
            (LineClass::Input, 200_000, amount("2")),
            (LineClass::Input, 0, amount("1")),
        ]
    );
    assert_eq!(document.lines[3].service_days.unwrap().first, day("2026-08-31"));
    assert_eq!(document.service_period.unwrap().first, day("2026-08-31"));
    assert!(document.notes.iter().any(|note| note.contains("late")));
}

#[test]
fn a_month_that_credits_paid_asks_for_nothing_however_its_lines_round() {
    // Three lines of 0.004 round to nothing while their sum rounds to a cent; three of 0.005 round to
    // three cents while their sum rounds to two.
    for (input, charge, prepaid, lines) in
        [(4_000, "0.004", "0.012", "0"), (5_000, "0.005", "0.015", "0.03")]
    {
        let mut scene = Scene::new(PaymentTerms::Prepaid, "0");
        let month = |month: &str| UsageSum { month: day(month), ..used(1, input, charge) };
        scene.usage = vec![month("2026-10-01"), month("2026-09-01"), month("2026-08-01")];
        scene.funding.prepaid = amount(prepaid);
        let assembled = scene.assemble().unwrap();
        let document = assembled.document.unwrap();
        assert_eq!(document.kind, DocumentKind::UsageStatement);
        assert_eq!(document.totals.lines, amount(lines));
        assert_eq!(document.totals.allowances, amount(lines));
        assert_eq!(document.totals.due, Amount::ZERO);
        assert_eq!(document.due_date, None);
        assert!(Posting::closing(&assembled.parts).is_empty());
    }
}

#[test]
fn credits_that_were_taxed_come_off_before_tax_and_others_are_paid_in_advance() {
    let mut scene = Scene::new(PaymentTerms::Prepaid, "19");
    scene.usage = vec![used(1, 100_000_000, "100")];
    scene.funding.prepaid = amount("100");
    scene.taxed_credits = amount("60");
    let assembled = scene.assemble().unwrap();
    let document = assembled.document.unwrap();
    // Tax is left to ask for.
    assert_eq!(document.kind, DocumentKind::Invoice);
    assert_eq!(document.allowances[0].amount, amount("60"));
    assert!(document.allowances[0].reason.contains("PRE-2026-000001"));
    let totals = document.totals;
    assert_eq!((totals.net, totals.tax), (amount("40"), amount("7.6")));
    assert_eq!((totals.paid, totals.due), (amount("40"), amount("7.6")));
    assert_eq!(assembled.taxed_credits_used, amount("60"));
    assert_eq!(written(&Posting::closing(&assembled.parts)), ["1200→2100 7.6"]);
}

#[test]
fn an_sla_credit_beyond_what_is_unbilled_becomes_credits() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    scene.usage = vec![used(1, 10_004_000, "10.004")];
    scene.funding =
        Funding { unbilled: amount("4.004"), prepaid: amount("6"), ..Funding::default() };
    scene.sla = Some(missed("5"));
    let assembled = scene.assemble().unwrap();
    let document = assembled.document.unwrap();
    assert_eq!(document.totals.due, Amount::ZERO);
    let off: Vec<_> = document.allowances.iter().map(|one| (one.kind, one.amount)).collect();
    let (credits, missed) = (AllowanceKind::PrepaidCredits, AllowanceKind::ServiceLevelCredit);
    assert_eq!(off, [(credits, amount("5")), (missed, amount("5"))]);
    assert_eq!(
        written(&Posting::closing(&assembled.parts)),
        ["4900→1100 4.004", "4900→2000 0.996"]
    );
}

#[test]
fn a_month_that_is_credited_whole_asks_for_nothing() {
    let mut scene = Scene::new(PaymentTerms::Net30, "19");
    scene.usage = vec![used(1, 10_006_000, "10.006")];
    scene.funding.unbilled = amount("10.006");
    scene.sla = Some(missed("10.01"));
    let assembled = scene.assemble().unwrap();
    let totals = assembled.document.unwrap().totals;
    assert_eq!(
        (totals.allowances, totals.tax, totals.due),
        (amount("10.01"), Amount::ZERO, Amount::ZERO)
    );
    assert_eq!(
        written(&Posting::closing(&assembled.parts)),
        ["4900→1100 10.006", "4900→2000 0.004"]
    );
}

#[test]
fn taxed_credits_that_an_sla_credit_gives_back_stay_taxed() {
    let mut scene = Scene::new(PaymentTerms::Prepaid, "19");
    scene.usage = vec![used(1, 40_000_000, "40")];
    scene.funding.prepaid = amount("40");
    scene.taxed_credits = amount("100");
    scene.sla = Some(missed("10"));
    let assembled = scene.assemble().unwrap();
    assert_eq!(assembled.taxed_credits_used, amount("30"));
    let document = assembled.document.unwrap();
    assert_eq!((document.totals.tax, document.totals.due), (Amount::ZERO, Amount::ZERO));
    assert!(document.notes.iter().any(|note| note.contains("10 USD")), "{:?}", document.notes);
    assert_eq!(written(&Posting::closing(&assembled.parts)), ["4900→2000 10"]);
}

#[test]
fn usage_that_does_not_follow_from_price_or_funding_is_refused() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    scene.usage = vec![used(1, 1_000_000, "1")];
    scene.funding.unbilled = amount("0.99");
    assert!(matches!(scene.assemble(), Err(BillingError::Inconsistent(_))));
    scene.funding.unbilled = amount("1");
    assert!(scene.assemble().is_ok());
    for broken in [
        UsageSum { charge: amount("1.01"), ..used(1, 1_000_000, "1") },
        UsageSum { tier_above: 7, ..used(1, 1_000_000, "1") },
        used(9, 1_000_000, "1"),
    ] {
        scene.funding.unbilled = broken.charge;
        scene.usage = vec![broken];
        assert!(matches!(scene.assemble(), Err(BillingError::Inconsistent(_))));
    }
}

proptest! {
    #[test]
    fn every_month_adds_up_and_clears(
        counts in prop::collection::vec((1_i64..4, 0_u64..3_000_000), 0..8),
        prepaid_share in 0_u32..101, promotional_share in 0_u32..101,
        taxed in 0_u64..20_000_000, sla_cents in 0_i64..2_000,
        net_30 in any::<bool>(), tax in 0_i64..300_000,
    ) {
        let terms = if net_30 { PaymentTerms::Net30 } else { PaymentTerms::Prepaid };
        let mut scene = Scene::new(terms, &Decimal::new(tax, 4).to_string());
        let mut total = Decimal::ZERO;
        for (version, count) in counts {
            let rate = [1, 10, 8][usize::try_from(version - 1).unwrap()];
            let charge = Decimal::new(i64::try_from(count).unwrap() * rate, 6);
            total += charge;
            scene.usage.push(used(version, count, &charge.to_string()));
        }
        let part = |whole: Decimal, share: u32| {
            (whole * Decimal::from(share) / Decimal::ONE_HUNDRED).round_dp(12)
        };
        let prepaid = part(total, prepaid_share);
        let promotional = part(total - prepaid, promotional_share);
        scene.funding = Funding {
            unbilled: Amount::new(total - prepaid - promotional).unwrap(),
            prepaid: Amount::new(prepaid).unwrap(),
            promotional: Amount::new(promotional).unwrap(),
            promotional_moved: promotional,
        };
        scene.taxed_credits = Amount::new(Decimal::new(i64::try_from(taxed).unwrap(), 6)).unwrap();
        let amount = Amount::new(Decimal::new(sla_cents, 2)).unwrap();
        scene.sla = Some(missed(&amount.to_string()));

        let assembled = scene.assemble().unwrap();
        let before = Balances { unbilled: scene.funding.unbilled, ..Balances::default() };
        let (posting, after) = Posting::closing(&assembled.parts).on(before).unwrap();
        prop_assert!(after.unbilled.is_zero(), "{:?}", after);
        for transfer in posting.transfers() {
            let route = (transfer.debit.line(), transfer.credit.line());
            prop_assert!(transfer.kind.routes().contains(&route));
        }
        let given = [assembled.parts.sla_unbilled, assembled.parts.sla_credits];
        prop_assert_eq!(given[0].checked_add(given[1]).unwrap(), amount);
        prop_assert!(assembled.taxed_credits_used <= scene.taxed_credits);
        prop_assert!(assembled.taxed_credits_used <= scene.funding.prepaid);
        let Some(document) = assembled.document else {
            prop_assert!(after.receivable.is_zero());
            return Ok(());
        };
        let totals = document.totals;
        let sum = |amounts: Vec<Amount>| amounts.into_iter().fold(Amount::ZERO, Amount::saturating_add);
        prop_assert_eq!(after.receivable, totals.due);
        prop_assert_eq!(totals.lines, sum(document.lines.iter().map(|line| line.net).collect()));
        let off = document.allowances.iter().map(|allowance| allowance.amount).collect();
        prop_assert_eq!(totals.allowances, sum(off));
        prop_assert_eq!(totals.net.checked_add(totals.allowances).unwrap(), totals.lines);
        prop_assert_eq!(totals.due.checked_add(totals.paid).unwrap(), totals.gross);
        let all = [totals.net, totals.tax, totals.paid, totals.due];
        for shown in all.into_iter().chain(document.lines.iter().map(|line| line.net)) {
            prop_assert!(!shown.is_negative());
            prop_assert_eq!(shown, shown.rounded(2));
        }
        // What rounding changed is below a minor unit for each line and allowance, and one for the SLA.
        let rounded = Decimal::new(i64::try_from(document.lines.len()).unwrap() + 4, 2);
        let asked = totals.net.decimal() - totals.paid.decimal();
        let exact = scene.funding.unbilled.decimal() - assembled.parts.sla_unbilled.decimal();
        prop_assert!((asked - exact).abs() <= rounded, "{asked} {exact}");
    }
}

#[path = "assembly_document_tests.rs"]
mod document;
