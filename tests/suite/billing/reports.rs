//! Finance's reports over gRPC and on the command line.

use tollgate::{
    cli::client::Client,
    identity::Role,
    proto::{
        Contract, DeferredKind, GetDeferredRevenueRequest, GetRevenueRequest, GetSlaReportRequest,
        GetTaxSummaryRequest, GrantCreditRequest, Model, ModelRevenue, Outcome, Price,
        ProviderCost, PublishPricesRequest, Rates, ReverseUsageRequest, UnauthorizedUsage,
        record_usage_request::Source,
    },
};
use tonic::Code;

use super::{
    Customer, close, customer, dec, decimal, german, id_at, month, name, net_30, noon,
    set_tax_rate,
    sla_credit::{pro_requests, sla_report},
    work, work_as, world,
};
use crate::{
    cli::Shell,
    harness::{
        server::refusal,
        world::{MODEL, PRO_MODEL, top_up, usage, usd},
    },
};

/// A model whose price says what it costs ourselves: half of what is charged.
const COSTED_MODEL: &str = "test/costed";

async fn publish_costed(client: &Client) {
    let rates = |rate: &str| {
        Some(Rates { input: rate.to_owned(), output: rate.to_owned(), ..Rates::default() })
    };
    let price = Price {
        model: COSTED_MODEL.to_owned(),
        currency_code: "USD".to_owned(),
        effective_from: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        rates: rates("10"),
        cost: Some(ProviderCost { currency_code: "USD".to_owned(), rates: rates("5") }),
        ..Price::default()
    };
    let model = Model { name: COSTED_MODEL.to_owned(), ..Model::default() };
    let request = PublishPricesRequest {
        models: vec![model],
        prices: vec![price],
        idempotency_key: String::new(),
    };
    client.catalog().publish_prices(request).await.unwrap();
}

async fn costed_work(client: &Client, customer: &Customer, day: u32, input: u64, output: u64) {
    let done = noon(month(1), day);
    let source = UnauthorizedUsage {
        event_id: id_at(done).to_string(),
        account: customer.account.clone(),
        key_id: customer.key_id.clone(),
        model: COSTED_MODEL.to_owned(),
        occurred_at: Some(tollgate::api::convert::timestamp(done)),
    };
    let request = usage(Source::Unauthorized(source), input, output);
    client.usage().record_usage(request).await.unwrap();
}

fn of<'a>(models: &'a [ModelRevenue], name: &str) -> &'a ModelRevenue {
    models.iter().find(|model| model.model == name).unwrap()
}

#[tokio::test]
async fn revenue_is_by_model_and_its_margin_of_what_has_a_known_cost() {
    let world = world().await;
    let client = &world.client;
    publish_costed(client).await;
    let acme = customer(client, "acme", net_30()).await;
    let discounted = Contract { discount_percent: "20".to_owned(), ..net_30() };
    let umbrella = customer(client, "umbrella", discounted).await;
    costed_work(client, &acme, 3, 1_000_000, 200_000).await;
    costed_work(client, &umbrella, 4, 1_000_000, 0).await;
    let event = id_at(noon(month(1), 5));
    work_as(client, &acme, event, noon(month(1), 5), 300_000, 0).await.unwrap();
    work(client, &acme, noon(month(1), 6), 700_000, 0).await.unwrap();
    let reversal = ReverseUsageRequest {
        account: "acme".to_owned(),
        event_id: event.to_string(),
        reason: "served twice".to_owned(),
        ..ReverseUsageRequest::default()
    };
    client.usage().reverse_usage(reversal).await.unwrap();

    let request = GetRevenueRequest { period: name(month(1)) };
    let report = client.billing().get_revenue(request.clone()).await.unwrap().into_inner();
    assert_eq!(report.models.len(), 2, "{report:?}");
    let costed = of(&report.models, COSTED_MODEL);
    assert_eq!(
        (costed.requests, costed.input_tokens, costed.output_tokens),
        (2, 2_000_000, 200_000)
    );
    // 12 at list price and 8 at a fifth less, for 2.2 million tokens at a cost of 5.
    assert_eq!(decimal(costed.revenue.as_ref()), dec("20"));
    assert_eq!(decimal(costed.cost.as_ref()), dec("11"));
    assert_eq!(decimal(costed.margin.as_ref()), dec("9"));
    assert_eq!((costed.costed_requests, costed.margin_percent.as_str()), (2, "45"));
    let plain = of(&report.models, MODEL);
    assert_eq!(decimal(plain.charged.as_ref()), dec("10"));
    assert_eq!(decimal(plain.revenue.as_ref()) + decimal(plain.reversed.as_ref()), dec("10"));
    assert_eq!((plain.costed_requests, &plain.cost, &plain.margin), (0, &None, &None));

    let total = &report.totals[0];
    assert_eq!((total.costed_requests, total.margin_percent.as_str()), (2, "45"));
    assert_eq!((&total.cost, &total.margin), (&costed.cost, &costed.margin));

    // Closing the month posts the cost.
    assert_eq!(decimal(total.posted_cost.as_ref()), dec("0"));
    close(client, month(1)).await;
    let closed = client.billing().get_revenue(request).await.unwrap().into_inner();
    assert_eq!(closed.totals[0].posted_cost, total.cost);
    world.verify().await;

    // A reversal is of the month it was posted in.
    let request = GetRevenueRequest { period: name(chrono::Utc::now().date_naive()) };
    let this = client.billing().get_revenue(request).await.unwrap().into_inner();
    let reversed = |models: &[ModelRevenue]| {
        models.iter().map(|model| decimal(model.reversed.as_ref())).sum::<rust_decimal::Decimal>()
    };
    assert_eq!(reversed(&report.models) + reversed(&this.models), dec("3"));
    for total in report.totals.iter().chain(&this.totals) {
        assert!(total.agrees, "{total:?}");
    }
}

#[tokio::test]
async fn deferred_revenue_rolls_from_opening_to_closing() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", Contract::default()).await;
    top_up(client, "acme", "50").await;
    let grant = GrantCreditRequest {
        account: "acme".to_owned(),
        amount: usd("4"),
        reason: "welcome".to_owned(),
        ..GrantCreditRequest::default()
    };
    client.credits().grant_credit(grant).await.unwrap();
    work(client, &acme, chrono::Utc::now(), 1_000_000, 0).await.unwrap();

    let this = name(chrono::Utc::now().date_naive());
    let request = GetDeferredRevenueRequest { period: this.clone() };
    let report = client.billing().get_deferred_revenue(request).await.unwrap().into_inner();
    let rows: Vec<_> = report
        .credits
        .iter()
        .map(|roll| {
            let row = [&roll.opening, &roll.added, &roll.recognised, &roll.returned, &roll.closing];
            (roll.kind(), row.map(|money| decimal(money.as_ref())))
        })
        .collect();
    let amounts = |texts: [&str; 5]| texts.map(dec);
    assert_eq!(
        rows,
        [
            (DeferredKind::Paid, amounts(["0", "50", "-6", "0", "44"])),
            (DeferredKind::Promotional, amounts(["0", "4", "-4", "0", "0"])),
        ]
    );
    let later = GetDeferredRevenueRequest { period: "9999-12".to_owned() };
    let later = client.billing().get_deferred_revenue(later).await.unwrap().into_inner();
    assert_eq!(later.credits[0].opening, report.credits[0].closing);
    assert_eq!(later.credits[0].closing, report.credits[0].closing);
}

#[tokio::test]
async fn tax_of_documents_and_of_the_ledger_stand_side_by_side() {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", true).await;
    let acme = customer(client, "acme", german(net_30())).await;
    let abroad = customer(client, "umbrella", net_30()).await;
    for customer in [&acme, &abroad] {
        work(client, customer, noon(month(1), 3), 10_000_000, 0).await.unwrap();
    }
    close(client, month(1)).await;
    let summary = async |period: String| {
        let request = GetTaxSummaryRequest { period };
        client.billing().get_tax_summary(request).await.unwrap().into_inner()
    };
    let report = summary(name(month(1))).await;
    let sales: Vec<_> = report
        .sales
        .iter()
        .map(|one| {
            let amounts = (decimal(one.taxable.as_ref()), decimal(one.tax.as_ref()));
            (one.jurisdiction.as_str(), one.category.as_str(), one.rate_percent.as_str(), amounts)
        })
        .collect();
    assert_eq!(sales.len(), 2);
    assert!(sales.contains(&("DE", "S", "19", (dec("100"), dec("19")))), "{sales:?}");
    assert!(sales.contains(&("", "O", "0", (dec("100"), dec("0")))), "{sales:?}");
    let [account] = report.accounts.as_slice() else { panic!("{:?}", report.accounts) };
    assert_eq!((account.code.as_str(), account.jurisdiction.as_str()), ("2100.DE", "DE"));
    assert_eq!(decimal(account.charged.as_ref()), dec("19"));
    assert!(report.agrees && account.agrees);

    // Tax that falls due on payment is of the month of the payment.
    customer(client, "prepaid", german(Contract::default())).await;
    top_up(client, "prepaid", "119").await;
    let this = summary(name(chrono::Utc::now().date_naive())).await;
    let [account] = this.accounts.as_slice() else { panic!("{:?}", this.accounts) };
    assert_eq!(decimal(account.opening.as_ref()), dec("19"));
    assert_eq!(decimal(account.documented.as_ref()), dec("19"));
    assert_eq!(decimal(account.closing.as_ref()), dec("38"));
    assert!(this.agrees);

    let tamper = "SET session_replication_role = replica;
                  UPDATE transfers SET amount = amount - 1 WHERE kind = 'invoice_tax'";
    sqlx::raw_sql(tamper).execute(&world.server.pool()).await.unwrap();
    assert!(!summary(name(month(1))).await.agrees);
}

#[tokio::test]
async fn the_evidence_of_a_service_level_comes_page_by_page_and_says_what_counts() {
    let world = world().await;
    let client = &world.client;
    let acme = customer(client, "acme", net_30()).await;
    for (outcome, intervals) in [
        (Outcome::Success, 0..3),
        (Outcome::ContentFiltered, 3..4),
        (Outcome::ProviderError, 4..7),
        (Outcome::Timeout, 7..9),
        (Outcome::ClientAborted, 9..10),
    ] {
        pro_requests(client, &acme, month(1), outcome, intervals, 10).await;
    }
    let report = sla_report(client, "acme", month(1)).await;
    assert_eq!((report.requests, report.failures, report.bad_intervals), (9, 5, 5));
    assert_eq!((report.credit_percent.as_str(), report.missed_percent.as_str()), ("0", ""));
    let counts: Vec<_> = report
        .outcomes
        .iter()
        .map(|one| (one.outcome(), one.counts_as.as_str(), one.requests))
        .collect();
    assert_eq!(
        counts,
        [
            (Outcome::Success, "success", 3),
            (Outcome::ClientAborted, "nothing", 1),
            (Outcome::ProviderError, "failure", 3),
            (Outcome::Timeout, "failure", 2),
            (Outcome::ContentFiltered, "success", 1),
        ]
    );

    let mut request = GetSlaReportRequest {
        account: "acme".to_owned(),
        period: name(month(1)),
        page_size: 2,
        page_token: String::new(),
    };
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = client.billing().get_sla_report(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.report.as_ref(), Some(&report), "each page has the whole month's");
        seen.extend(page.intervals.iter().map(|one| one.begins_at.unwrap().seconds));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let first = noon(month(1), 5).timestamp();
    let expected: Vec<i64> = (4..9).map(|interval| first + 300 * interval).collect();
    assert_eq!((seen, pages), (expected, 3));
}

#[tokio::test]
async fn a_report_is_for_finance_and_a_service_level_for_its_own_tenant() {
    let world = world().await;
    let acme = customer(&world.client, "acme", net_30()).await;
    customer(&world.client, "umbrella", net_30()).await;
    let tenant = world.server.tenant(acme.account.parse().unwrap()).await;
    let operator = world.server.operator().await;
    let auditor = world.server.auditor().await;
    let finance = world.server.finance().await;
    for (client, allowed) in
        [(&tenant, false), (&operator, false), (&auditor, true), (&finance, true)]
    {
        let (mut billing, period) = (client.billing(), name(month(1)));
        let revenue = GetRevenueRequest { period: period.clone() };
        let deferred = GetDeferredRevenueRequest { period: period.clone() };
        let tax = GetTaxSummaryRequest { period };
        let codes = [
            billing.get_revenue(revenue).await.map(drop),
            billing.get_deferred_revenue(deferred).await.map(drop),
            billing.get_tax_summary(tax).await.map(drop),
        ];
        for outcome in codes {
            let code = outcome.map_or_else(|status| status.code(), |()| Code::Ok);
            assert_eq!(code, if allowed { Code::Ok } else { Code::PermissionDenied });
        }
    }

    assert_eq!(sla_report(&tenant, &acme.account, month(1)).await.account_id, acme.account);
    for client in [&operator, &auditor, &finance] {
        sla_report(client, "umbrella", month(1)).await;
    }
    for foreign in ["umbrella", "nobody"] {
        let request = GetSlaReportRequest {
            account: foreign.to_owned(),
            period: name(month(1)),
            ..GetSlaReportRequest::default()
        };
        let refused = tenant.billing().get_sla_report(request).await.unwrap_err();
        let expected = (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned(), "account".to_owned());
        assert_eq!(refusal(&refused), expected);
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_is_refused_with_its_field() {
    let world = world().await;
    customer(&world.client, "acme", net_30()).await;
    let mut billing = world.client.billing();
    for text in ["", "2026", "2026-13", "2026-1", "2026-10-01", "october", "２０２６-１０"] {
        let period = text.to_owned();
        let expected = (Code::InvalidArgument, "INVALID_PERIOD".to_owned(), "period".to_owned());
        let account = "acme".to_owned();
        let sla = GetSlaReportRequest { account, period: period.clone(), ..Default::default() };
        for refused in [
            billing.get_revenue(GetRevenueRequest { period: period.clone() }).await.map(drop),
            billing
                .get_deferred_revenue(GetDeferredRevenueRequest { period: period.clone() })
                .await
                .map(drop),
            billing.get_tax_summary(GetTaxSummaryRequest { period }).await.map(drop),
            billing.get_sla_report(sla).await.map(drop),
        ] {
            assert_eq!(refusal(&refused.unwrap_err()), expected, "{text:?}");
        }
    }
    let good = GetSlaReportRequest {
        account: "acme".to_owned(),
        period: "0000-01".to_owned(),
        ..GetSlaReportRequest::default()
    };
    for (request, reason, field) in [
        (
            GetSlaReportRequest { account: String::new(), ..good.clone() },
            "MISSING_ACCOUNT",
            "account",
        ),
        (GetSlaReportRequest { page_size: 1_001, ..good.clone() }, "PAGE_TOO_LARGE", "page_size"),
        (
            GetSlaReportRequest { page_token: "x".to_owned(), ..good.clone() },
            "INVALID_PAGE_TOKEN",
            "page_token",
        ),
    ] {
        let refused = billing.get_sla_report(request).await.unwrap_err();
        let expected = (Code::InvalidArgument, reason.to_owned(), field.to_owned());
        assert_eq!(refusal(&refused), expected);
    }
    // A month before or after all usage is a month without any.
    for period in ["0000-01", "1999-02", "9999-12"] {
        let period = period.to_owned();
        let sla = GetSlaReportRequest { period: period.clone(), ..good.clone() };
        let report = billing.get_sla_report(sla).await.unwrap().into_inner().report.unwrap();
        assert_eq!((report.availability_percent.as_str(), report.requests), ("100", 0));
        let request = GetRevenueRequest { period: period.clone() };
        let revenue = billing.get_revenue(request).await.unwrap().into_inner();
        assert!(revenue.models.is_empty() && revenue.totals.is_empty());
        let summary = billing.get_tax_summary(GetTaxSummaryRequest { period }).await.unwrap();
        assert!(summary.into_inner().agrees);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_each_report() {
    let world = world().await;
    let client = &world.client;
    publish_costed(client).await;
    set_tax_rate(client, "DE", "19", true).await;
    let acme = customer(client, "acme", german(net_30())).await;
    costed_work(client, &acme, 3, 1_000_000, 0).await;
    pro_requests(client, &acme, month(1), Outcome::Success, 500..501, 1_000_000).await;
    pro_requests(client, &acme, month(1), Outcome::Timeout, 0..10, 0).await;
    top_up(client, "acme", "119").await;
    close(client, month(1)).await;

    let roles = [Role::Finance];
    let token = crate::harness::server::token(&roles, None);
    let shell = Shell::at(&world.server.endpoint(), &token);
    let period = name(month(1));
    let table = async |report: &[&str]| {
        let ran = shell.run(&[&["report"], report, &["--period", &period]].concat()).await;
        assert_eq!(ran.code, 0, "{ran:#?}");
        ran.out
    };
    let revenue = table(&["revenue"]).await;
    for part in [COSTED_MODEL, PRO_MODEL, "1,000,000", "$20.00", "$19.00"] {
        assert!(revenue.contains(part), "{part} is not in\n{revenue}");
    }
    let margin = table(&["margin", "--output", "csv"]).await;
    assert!(margin.contains("test/costed,1,10,USD,1,10,USD,5,USD,5,USD,50"), "{margin}");
    let sla = table(&["sla", "acme"]).await;
    for part in ["99.", "timeout", "failure", "$1.00"] {
        assert!(sla.contains(part), "{part} is not in\n{sla}");
    }
    let json = shell.json(&["report", "sla", "acme", "--period", &period]).await;
    assert_eq!(json["report"]["credit_percent"], "10", "{json}");
    assert_eq!(json["bad_intervals"].as_array().unwrap().len(), 10);
    let json = shell.json(&["report", "tax", "--period", &period]).await;
    assert_eq!(json["taxed_sales"][0]["tax"]["amount"], "3.61", "{json}");
    assert_eq!(json["tax_accounts"][0]["agrees"], true);
    let this = name(chrono::Utc::now().date_naive());
    let json = shell.json(&["report", "deferred-revenue", "--period", &this]).await;
    assert_eq!(json[0]["credits"], "paid");
    assert_eq!(json[0]["closing"]["amount"], "100");

    let refused = shell.run(&["report", "revenue", "--period", "october"]).await;
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("write it like 2026-10"), "{}", refused.err);
}
