//! What a document says beside its sums.

use super::*;

fn invoice_of(scene: &mut Scene) -> Document {
    scene.usage = vec![used(1, 10_000_000, "10")];
    scene.funding.unbilled = amount("10");
    scene.assemble().unwrap().document.unwrap()
}

#[test]
fn a_document_names_its_buyer_as_the_contract_does() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    assert_eq!(
        invoice_of(&mut scene).buyer,
        Party { legal_name: "Acme Inc.".to_owned(), ..Party::default() }
    );
    let contract = &mut scene.account.contract;
    contract.legal_name = "Acme Holding GmbH".to_owned();
    contract.address.country_code = "DE".to_owned();
    contract.registration_id = "HRB 1".to_owned();
    contract.tax_id = "DE123".to_owned();
    contract.accounts_payable_email = "bills@acme.example".to_owned();
    let address = contract.address.clone();
    let buyer = Party {
        legal_name: "Acme Holding GmbH".to_owned(),
        address,
        registration_id: "HRB 1".to_owned(),
        tax_id: "DE123".to_owned(),
        electronic_address: Some(ElectronicAddress {
            scheme: "EM".to_owned(),
            address: "bills@acme.example".to_owned(),
        }),
        email: "bills@acme.example".to_owned(),
        ..Party::default()
    };
    assert_eq!(invoice_of(&mut scene).buyer, buyer);
}

#[test]
fn only_a_document_that_asks_for_money_says_how_to_pay_it() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    scene.seller.remittance.bank_name = "First Bank".to_owned();
    let asked = invoice_of(&mut scene).remittance.unwrap();
    assert_eq!((asked.bank_name.as_str(), asked.terms.as_str()), ("First Bank", "Net 30 days"));
    scene.seller.remittance.terms = "At once".to_owned();
    assert_eq!(invoice_of(&mut scene).remittance.unwrap().terms, "At once");
    scene.funding = Funding { prepaid: amount("10"), ..Funding::default() };
    assert_eq!(scene.assemble().unwrap().document.unwrap().remittance, None);
}

#[test]
fn images_and_requests_are_lines_of_their_own() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    let rate: Rate = "1".parse().unwrap();
    let price = Price::new(PriceParts {
        currency: Currency::USD,
        card: RateCard::new(Rates::new(rate, rate), Vec::new()).unwrap(),
        withdrawn: false,
        image: amount("0.04"),
        request: amount("0.02"),
        cached_response: Amount::ZERO,
    });
    scene.prices.get_mut(&PriceVersionId(1)).unwrap().price = price.unwrap();
    scene.usage = vec![UsageSum {
        images: Decimal::from(3),
        requests: Decimal::from(5),
        ..used(1, 0, "0.22")
    }];
    scene.funding.unbilled = amount("0.22");
    let document = scene.assemble().unwrap().document.unwrap();
    let lines: Vec<_> =
        document.lines.iter().map(|line| (line.class, line.quantity, line.net)).collect();
    assert_eq!(
        lines,
        [
            (LineClass::Image, Decimal::from(3), amount("0.12")),
            (LineClass::Request, Decimal::from(5), amount("0.1")),
        ]
    );
}

#[test]
fn a_line_is_described_by_its_model_class_and_tier() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    let tiered = UsageSum { tier_above: 200_000, ..used(1, 1_000_000, "2") };
    scene.usage = vec![used(1, 1_000_000, "1"), tiered];
    scene.funding.unbilled = amount("3");
    let document = scene.assemble().unwrap().document.unwrap();
    let mut described: Vec<_> =
        document.lines.iter().map(|line| line.description.as_str()).collect();
    described.sort_unstable();
    assert_eq!(
        described,
        ["acme/parrot – input tokens", "acme/parrot – input tokens, prompts above 200000 tokens"]
    );
}

#[test]
fn the_one_tax_of_a_document_is_told_and_nothing_is_noted_that_is_not_so() {
    let document = invoice_of(&mut Scene::new(PaymentTerms::Net30, "19"));
    assert_eq!(document.notes, Vec::<String>::new());
    let taxes: Vec<_> = document.taxes.iter().map(|tax| (tax.taxable, tax.amount)).collect();
    assert_eq!(taxes, [(amount("10"), amount("1.9"))]);
}

#[test]
fn usage_beyond_credits_is_invoiced_however_little_it_is() {
    let mut scene = Scene::new(PaymentTerms::Prepaid, "0");
    scene.usage = vec![used(1, 4_000, "0.004")];
    scene.funding.unbilled = amount("0.004");
    let document = scene.assemble().unwrap().document.unwrap();
    assert_eq!((document.kind, document.totals.due), (DocumentKind::Invoice, Amount::ZERO));
}

#[test]
fn promotional_credits_that_were_used_too_often_are_given_back() {
    let mut scene = Scene::new(PaymentTerms::Net30, "0");
    scene.funding.promotional_moved = Decimal::new(-5, 1);
    let parts = scene.assemble().unwrap().parts;
    assert_eq!((parts.promotional_used, parts.promotional_returned), (Amount::ZERO, amount("0.5")));
}

#[test]
fn an_invoice_that_is_billed_again_keeps_its_lines_and_takes_the_tax_of_today() {
    let mut scene = Scene::new(PaymentTerms::Prepaid, "19");
    scene.usage = vec![used(1, 100_000_000, "100")];
    scene.funding.prepaid = amount("100");
    scene.taxed_credits = amount("60");
    let mut first = scene.assemble().unwrap().document.unwrap();
    first.number = Some("INV-2026-000001".to_owned());
    first.notes =
        vec!["Tax: old".to_owned(), "Replaces invoice INV-0.".to_owned(), "Kept.".to_owned()];
    scene.account.contract.tax_rate_percent = Decimal::TEN;
    let mut taxation = Taxation::of(&scene.account.contract, None);
    taxation.label = "VAT".to_owned();
    let issued = day("2026-12-01");
    let again = |taxation: &Taxation| {
        billed_again(&first, &scene.account, &scene.seller, taxation, issued).unwrap()
    };
    let document = again(&taxation);
    let category = TaxCategory::Standard { rate_percent: Decimal::TEN };
    let told = |document: &Document| {
        document.lines.iter().map(|line| (line.net, line.quantity)).collect::<Vec<_>>()
    };
    assert_eq!(told(&document), told(&first));
    assert!(document.lines.iter().all(|line| line.tax == category));
    assert_eq!(document.allowances[0].amount, first.allowances[0].amount);
    assert!(document.allowances.iter().all(|one| one.tax == category));
    assert_eq!(document.taxes, [subtotal(&taxation, amount("40"), amount("4"))]);
    // 40 and its tax, of which 40 was paid in advance.
    let expected =
        Totals { tax: amount("4"), gross: amount("44"), due: amount("4"), ..first.totals };
    assert_eq!(document.totals, expected);
    assert_eq!(document.preceding[0].number, "INV-2026-000001");
    assert_eq!(document.service_period, first.service_period);
    assert_eq!(document.due_date, Some(day("2026-12-31")));
    assert!(document.remittance.is_some());
    let replaces = "Replaces invoice INV-2026-000001 of 2026-11-01.";
    assert_eq!(document.notes, [replaces, "Tax: VAT", "Kept."]);
    // A tax without a name is not named.
    taxation.label = String::new();
    assert_eq!(again(&taxation).notes, [replaces, "Kept."]);
}
