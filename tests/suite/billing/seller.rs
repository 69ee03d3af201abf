//! Ourselves on documents, and the taxes of jurisdictions.

use tollgate::proto::{
    GetSellerRequest, ListTaxRatesRequest, Seller, SetSellerRequest, SetTaxRateRequest, TaxRate,
};
use tonic::Code;

use super::{a_seller, set_seller, set_tax_rate};
use crate::harness::server::{TestServer, refusal};

#[tokio::test]
async fn the_newest_seller_counts_and_a_bad_one_is_told_its_field() {
    let server = TestServer::start().await;
    let finance = server.finance().await;
    let missing = finance.seller().get_seller(GetSellerRequest {}).await.unwrap_err();
    assert_eq!(refusal(&missing).1, "SELLER_NOT_SET");
    assert_eq!(missing.code(), Code::NotFound);

    set_seller(&finance).await;
    let renamed = Seller { legal_name: "Gateway SE".to_owned(), ..a_seller() };
    let request = SetSellerRequest { seller: Some(renamed), idempotency_key: "once".to_owned() };
    for _ in 0..2 {
        finance.seller().set_seller(request.clone()).await.unwrap();
    }
    let now = finance.seller().get_seller(GetSellerRequest {}).await.unwrap().into_inner();
    assert_eq!(now.seller.unwrap().legal_name, "Gateway SE");

    for (seller, field) in [
        (Seller { legal_name: String::new(), ..a_seller() }, "seller.legal_name"),
        (Seller { address: None, ..a_seller() }, "seller.address.line_1"),
        (Seller { email: "nobody".to_owned(), ..a_seller() }, "seller.email"),
    ] {
        let request = SetSellerRequest { seller: Some(seller), idempotency_key: String::new() };
        let refused = finance.seller().set_seller(request).await.unwrap_err();
        assert_eq!((refused.code(), refusal(&refused).2.as_str()), (Code::InvalidArgument, field));
    }
    let operator = server.operator().await;
    let request = SetSellerRequest { seller: Some(a_seller()), idempotency_key: String::new() };
    let refused = operator.seller().set_seller(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn tax_rates_are_listed_page_by_page_and_a_bad_one_is_told_its_field() {
    let server = TestServer::start().await;
    let finance = server.finance().await;
    set_tax_rate(&finance, "DE", "19", true).await;
    set_tax_rate(&finance, "US-CA", "7.25", false).await;
    set_tax_rate(&finance, "DE", "16", true).await;
    let good = TaxRate {
        jurisdiction: "DE".to_owned(),
        effective_from: "2027-01-01".to_owned(),
        rate_percent: "20".to_owned(),
        label: "VAT".to_owned(),
        due_on_payment: true,
    };
    let set = async |rate: TaxRate| {
        let request = SetTaxRateRequest { tax_rate: Some(rate), idempotency_key: String::new() };
        finance.seller().set_tax_rate(request).await
    };
    set(good.clone()).await.unwrap();
    let (mut seen, mut request) =
        (Vec::new(), ListTaxRatesRequest { page_size: 1, ..ListTaxRatesRequest::default() });
    loop {
        let page = finance.seller().list_tax_rates(request.clone()).await.unwrap().into_inner();
        seen.extend(page.tax_rates.into_iter().map(|rate| (rate.jurisdiction, rate.rate_percent)));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let expected = [("DE", "20"), ("DE", "16"), ("US-CA", "7.25")];
    let expected = expected.map(|(place, rate)| (place.to_owned(), rate.to_owned()));
    assert_eq!(seen, expected, "an entry for the same day replaces the one before");

    for (rate, field) in [
        (TaxRate { jurisdiction: "Germany".to_owned(), ..good.clone() }, "tax_rate.jurisdiction"),
        (TaxRate { effective_from: "soon".to_owned(), ..good.clone() }, "tax_rate.effective_from"),
        (TaxRate { rate_percent: "101".to_owned(), ..good.clone() }, "tax_rate.rate_percent"),
        (TaxRate { label: String::new(), ..good }, "tax_rate.label"),
    ] {
        let refused = set(rate).await.unwrap_err();
        assert_eq!((refused.code(), refusal(&refused).2.as_str()), (Code::InvalidArgument, field));
    }
}
