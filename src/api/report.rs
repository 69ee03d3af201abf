//! Finance's reports: `GetDeferredRevenue`, `GetSlaReport`, `GetRevenue` and `GetTaxSummary` of
//! `BillingService`. Each reads one snapshot of the pool that is kept for reports.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use tonic::{Request, Status};

use super::{
    billing_convert::{category, period_name, read_period},
    caller::caller,
    convert::{money, next_page_token, page, timestamp},
    named_account::named_account,
    status::refused,
};
use crate::{
    accounts::directory::Directory,
    billing::{
        reports::{
            self, Column, Deferred, ModelRevenue, RevenueReport, RevenueTotal, RollForward,
            TaxLine, TaxSummary, TaxedSales, jurisdiction_of,
        },
        sla::{
            self, Ended, SlaReport,
            availability::{BadInterval, Verdict},
        },
    },
    database::reports::ReportPool,
    proto,
};

const SLA_INTERVALS: &str = "GetSlaReport";

pub(super) async fn deferred_revenue(
    reports: &ReportPool,
    request: &proto::GetDeferredRevenueRequest,
) -> Result<proto::GetDeferredRevenueResponse, Status> {
    let period = read_period("period", &request.period)?;
    let rolls = reports::deferred_revenue(reports, period).await.map_err(refused)?;
    let credits =
        rolls.iter().map(|((kind, currency), roll)| roll_forward(*kind, currency, roll)).collect();
    Ok(proto::GetDeferredRevenueResponse { period: period_name(period), credits })
}

pub(super) async fn sla_report(
    reports: &ReportPool,
    directory: &Directory,
    request: &Request<proto::GetSlaReportRequest>,
) -> Result<proto::GetSlaReportResponse, Status> {
    let name = &request.get_ref().account;
    let account = named_account(directory, caller(request)?, "account", name).await?;
    let request = request.get_ref();
    let month = read_period("period", &request.period)?;
    let page = page(SLA_INTERVALS, request.page_size, &request.page_token).map_err(refused)?;
    let report = sla::report(reports, account, month).await.map_err(refused)?;
    let after: Option<DateTime<Utc>> = page.after;
    let rest = report.evidence.iter().filter(|one| after.is_none_or(|after| one.begins > after));
    let mut shown: Vec<BadInterval> = rest.take(page.size.saturating_add(1)).copied().collect();
    let next_page_token = next_page_token(SLA_INTERVALS, &mut shown, page.size, |last| last.begins);
    let intervals = shown.iter().map(interval).collect();
    Ok(proto::GetSlaReportResponse {
        report: Some(service_level(&report)),
        intervals,
        next_page_token,
    })
}

pub(super) async fn revenue(
    reports: &ReportPool,
    request: &proto::GetRevenueRequest,
) -> Result<proto::GetRevenueResponse, Status> {
    let period = read_period("period", &request.period)?;
    let report = reports::revenue(reports, period).await.map_err(refused)?;
    Ok(revenue_response(period, &report))
}

pub(super) async fn tax_summary(
    reports: &ReportPool,
    request: &proto::GetTaxSummaryRequest,
) -> Result<proto::GetTaxSummaryResponse, Status> {
    let period = read_period("period", &request.period)?;
    let summary = reports::taxes(reports, period).await.map_err(refused)?;
    Ok(tax_response(period, &summary))
}

/// A sum as the contract carries it.
fn sum(sum: Decimal, currency: &str) -> proto::Money {
    proto::Money { currency_code: currency.to_owned(), amount: sum.normalize().to_string() }
}

/// A count of rows, which is never below zero.
fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn percent(percent: Decimal) -> String {
    percent.normalize().to_string()
}

fn roll_forward(kind: Deferred, currency: &str, roll: &RollForward) -> proto::DeferredRevenue {
    let column = |column| {
        let change = roll.columns.get(&column).copied().unwrap_or_default();
        Some(sum(change, currency))
    };
    let kind = match kind {
        Deferred::Paid => proto::DeferredKind::Paid,
        Deferred::Promotional => proto::DeferredKind::Promotional,
    };
    proto::DeferredRevenue {
        kind: kind.into(),
        opening: Some(sum(roll.opening, currency)),
        added: column(Column::Added),
        recognised: column(Column::Recognised),
        applied_to_overdraft: column(Column::AppliedToOverdraft),
        reversed: column(Column::Reversed),
        returned: column(Column::Returned),
        service_level: column(Column::ServiceLevel),
        disputed: column(Column::Disputed),
        closed: column(Column::Closed),
        closing: Some(sum(roll.closing(), currency)),
    }
}

fn service_level(report: &SlaReport) -> proto::SlaReport {
    proto::SlaReport {
        account_id: report.account.to_string(),
        period: period_name(report.month),
        availability_percent: percent(report.availability_percent),
        missed_percent: report.missed_percent.map(percent).unwrap_or_default(),
        credit_percent: percent(report.credit_percent),
        charges: Some(money(report.charges, report.currency)),
        credit: Some(money(report.credit, report.currency)),
        requests: report.requests,
        failures: report.failures,
        outcomes: report.outcomes.iter().map(outcome).collect(),
        bad_intervals: u64::try_from(report.evidence.len()).unwrap_or(u64::MAX),
    }
}

fn outcome(ended: &Ended) -> proto::SlaOutcome {
    let counts_as = match ended.verdict {
        Verdict::Success => "success",
        Verdict::Failure => "failure",
        Verdict::NotCounted => "nothing",
    };
    proto::SlaOutcome {
        outcome: ended.outcome.number().into(),
        cache_hit: ended.cache_hit,
        counts_as: counts_as.to_owned(),
        requests: ended.requests,
    }
}

fn interval(bad: &BadInterval) -> proto::SlaInterval {
    proto::SlaInterval {
        begins_at: Some(timestamp(bad.begins)),
        requests: bad.requests,
        failures: bad.failures,
    }
}

fn revenue_response(period: NaiveDate, report: &RevenueReport) -> proto::GetRevenueResponse {
    // A currency whose events the ledger knows nothing of is told, too.
    let unknown = report.models.iter().map(|model| (&model.currency, RevenueTotal::default()));
    let known = report.totals.iter().map(|(currency, total)| (currency, *total));
    let totals: BTreeMap<_, _> = unknown.chain(known).collect();
    proto::GetRevenueResponse {
        period: period_name(period),
        models: report.models.iter().map(model_revenue).collect(),
        totals: totals
            .iter()
            .map(|(currency, total)| revenue_total(currency, total, report))
            .collect(),
    }
}

fn model_revenue(model: &ModelRevenue) -> proto::ModelRevenue {
    let (costed, sum) = (&model.costed, |amount| Some(sum(amount, &model.currency)));
    proto::ModelRevenue {
        model: model.model.clone(),
        requests: count(model.requests),
        input_tokens: count(model.input_tokens),
        output_tokens: count(model.output_tokens),
        images: count(model.images),
        charged: sum(model.charged),
        reversed: sum(model.reversed),
        revenue: sum(model.revenue()),
        costed_requests: count(costed.requests),
        costed_revenue: sum(costed.revenue),
        cost: costed.cost.and_then(sum),
        margin: costed.margin().and_then(sum),
        margin_percent: costed.margin_percent().map(percent).unwrap_or_default(),
    }
}

fn revenue_total(
    currency: &str,
    total: &RevenueTotal,
    report: &RevenueReport,
) -> proto::RevenueTotal {
    let (costed, sum) = (report.costed_in(currency), |amount| Some(sum(amount, currency)));
    proto::RevenueTotal {
        charged: sum(total.charged),
        reversed: sum(total.reversed),
        credit_notes: sum(total.credit_notes),
        sla_credits: sum(total.sla_credits),
        promotional_discounts: sum(total.promotional_discounts),
        net: sum(total.net()),
        agrees: report.agrees_in(currency),
        costed_requests: count(costed.requests),
        costed_revenue: sum(costed.revenue),
        cost: costed.cost.and_then(sum),
        margin: costed.margin().and_then(sum),
        margin_percent: costed.margin_percent().map(percent).unwrap_or_default(),
        posted_cost: sum(total.posted_cost),
    }
}

fn tax_response(period: NaiveDate, summary: &TaxSummary) -> proto::GetTaxSummaryResponse {
    proto::GetTaxSummaryResponse {
        period: period_name(period),
        sales: summary.sales.iter().map(taxed_sales).collect(),
        accounts: summary
            .lines
            .iter()
            .map(|((code, currency), line)| tax_account(code, currency, line))
            .collect(),
        agrees: summary.agrees(),
    }
}

fn taxed_sales(sales: &TaxedSales) -> proto::TaxedSales {
    let (category, rate_percent) = category(&sales.category);
    proto::TaxedSales {
        jurisdiction: sales.jurisdiction.clone(),
        category: category.to_owned(),
        rate_percent,
        documents: count(sales.documents),
        taxable: Some(sum(sales.taxable, &sales.currency)),
        tax: Some(sum(sales.tax, &sales.currency)),
    }
}

fn tax_account(code: &str, currency: &str, line: &TaxLine) -> proto::TaxAccount {
    let sum = |amount| Some(sum(amount, currency));
    proto::TaxAccount {
        code: code.to_owned(),
        jurisdiction: jurisdiction_of(code).to_owned(),
        opening: sum(line.opening),
        charged: sum(line.charged),
        taken_back: sum(line.taken_back),
        relieved: sum(line.relieved),
        closing: sum(line.closing()),
        documented: sum(line.documented),
        agrees: line.agrees(),
    }
}
