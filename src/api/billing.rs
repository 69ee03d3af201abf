//! `BillingService`: translates, checks the caller, calls `billing`.

use std::sync::Arc;

use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{
    audit::attempt,
    billing_convert::{
        details, frozen_details, invoice, period_name, read_kind, read_optional_period, read_period,
    },
    caller::{caller, reports_of, require_account},
    convert::{BadField, money, next_page_token, page, timestamp},
    export::{self, Export},
    named_account::named_account,
    report, settlement,
    status::refused,
};
use crate::{
    accounts::directory::Directory,
    authorization::authorizer::Authorizer,
    billing::{
        closing::{ACCOUNTS_PER_STEP, Closing, MAX_ACCOUNTS_PER_STEP, PassedOver},
        documents::{DocumentFilter, store},
        error::BillingError,
    },
    database::reports::{ReportPool, Reports},
    identity::{Caller, Role},
    money::{Amount, Currency},
    proto::{self, billing_service_server::BillingService},
};

const LIST: &str = "ListInvoices";

/// The service.
#[derive(Debug, Clone)]
pub struct BillingApi {
    pool: PgPool,
    reports: Reports,
    directory: Arc<Directory>,
    closing: Closing,
    authorizer: Arc<Authorizer>,
}

impl BillingApi {
    /// Closes months, settles invoices in the first pool, and reads documents from the second.
    #[must_use]
    pub const fn new(
        pool: PgPool,
        reports: Reports,
        directory: Arc<Directory>,
        closing: Closing,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { pool, reports, directory, closing, authorizer }
    }

    fn reports_of(&self, caller: &Caller) -> ReportPool {
        reports_of(&self.reports, caller)
    }
}

#[tonic::async_trait]
impl BillingService for BillingApi {
    type ExportInvoiceStream = Export;

    async fn close_period(
        &self,
        request: Request<proto::ClosePeriodRequest>,
    ) -> Result<Response<proto::ClosePeriodResponse>, Status> {
        let request = request.into_inner();
        let period = read_period("period", &request.period)?;
        let most = match request.max_accounts {
            0 => ACCOUNTS_PER_STEP,
            most @ 1..=MAX_ACCOUNTS_PER_STEP => most,
            most => {
                let problem = format!(
                    "is {most}; ask for at most {MAX_ACCOUNTS_PER_STEP} and call again until \
                     finished"
                );
                return Err(refused(BadField::new("max_accounts", "TOO_MANY", problem)));
            }
        };
        let progress = self.closing.step(period, most).await.map_err(refused)?;
        let response = proto::ClosePeriodResponse {
            period: period_name(progress.period),
            issue_date: progress.issue_date.to_string(),
            finished: progress.finished,
            accounts: progress.accounts,
            documents: progress.documents,
            remaining: progress.remaining,
            passed_over: progress.passed_over.iter().map(passed_over).collect(),
            stalled: progress.stalled,
        };
        // Each account was closed in a transaction of its own; the entry tells of the step.
        let transaction = self.pool.begin().await.map_err(failed)?;
        attempt::commit(transaction, &response).await.map_err(failed)?;
        Ok(Response::new(response))
    }

    async fn issue_final_invoice(
        &self,
        request: Request<proto::IssueFinalInvoiceRequest>,
    ) -> Result<Response<proto::IssueFinalInvoiceResponse>, Status> {
        let name = &request.get_ref().account;
        let account = named_account(&self.directory, caller(&request)?, "account", name).await?;
        // What this server holds beyond its reservations must not count as authorized.
        self.authorizer.give_back(account).await.map_err(refused)?;
        let issue =
            settlement::issue_final_invoice(&self.pool, &self.closing, account, request.get_ref());
        Box::pin(issue).await.map(Response::new)
    }

    async fn preview_invoice(
        &self,
        request: Request<proto::PreviewInvoiceRequest>,
    ) -> Result<Response<proto::PreviewInvoiceResponse>, Status> {
        let (name, caller) = (&request.get_ref().account, caller(&request)?);
        let account = named_account(&self.directory, caller, "account", name).await?;
        let period = read_optional_period("period", &request.get_ref().period)?;
        let mut snapshot = self.reports_of(caller).snapshot().await.map_err(refused)?;
        let previewed = self.closing.preview(&mut snapshot, account, period).await;
        let previewed = previewed.map_err(refused)?;
        let (period, document) = previewed;
        let content = serde_json::to_string(&document).unwrap_or_default();
        let invoice = details("", period, &document, None, content);
        Ok(Response::new(proto::PreviewInvoiceResponse { invoice: Some(invoice) }))
    }

    async fn list_invoices(
        &self,
        request: Request<proto::ListInvoicesRequest>,
    ) -> Result<Response<proto::ListInvoicesResponse>, Status> {
        let (name, caller) = (&request.get_ref().account, caller(&request)?);
        let account = match (name.as_str(), caller.role) {
            ("", Role::Tenant) => caller.account,
            ("", _) => None,
            (name, _) => Some(named_account(&self.directory, caller, "account", name).await?),
        };
        if caller.role == Role::Tenant && account.is_none() {
            return Err(super::caller::no_such_account("account"));
        }
        let reports = self.reports_of(caller);
        let request = request.get_ref();
        let page = page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let filter = DocumentFilter {
            account,
            period: read_optional_period("period", &request.period)?,
            kind: read_kind(request.kind)?,
            only_open: request.only_open,
            before: page.after,
            limit: page.limit(),
        };
        let mut snapshot = reports.snapshot().await.map_err(refused)?;
        let mut rows = store::documents(&mut snapshot, &filter).await.map_err(refused)?;
        let next_page_token = next_page_token(LIST, &mut rows, page.size, |last| last.id);
        let standings = settlement::standings(&mut snapshot, &rows).await?;
        let surpluses = settlement::surpluses(&mut snapshot, &rows).await?;
        let invoices = rows
            .iter()
            .map(|row| {
                let standing = standings.get(&row.id);
                let shown = invoice(&row.id.to_string(), row.period, &row.document, standing);
                with_surplus(shown, surpluses.get(&row.id), row.document.currency)
            })
            .collect();
        Ok(Response::new(proto::ListInvoicesResponse { invoices, next_page_token }))
    }

    async fn get_invoice(
        &self,
        request: Request<proto::GetInvoiceRequest>,
    ) -> Result<Response<proto::GetInvoiceResponse>, Status> {
        let name = &request.get_ref().invoice;
        if name.is_empty() {
            let problem = "is missing; give its number, such as INV-2026-000001, or its id";
            return Err(refused(BadField::new("invoice", "MISSING", problem)));
        }
        let shown: String = name.chars().take(60).collect();
        let unknown = || refused(BillingError::UnknownDocument(shown.clone()));
        let reports = self.reports_of(caller(&request)?);
        let mut snapshot = reports.snapshot().await.map_err(refused)?;
        let found = store::document(&mut snapshot, name).await.map_err(refused)?;
        let found = found.ok_or_else(unknown)?;
        // A tenant must not learn which numbers there are.
        let owner = found.document.account_id;
        require_account(caller(&request)?, owner, "invoice").map_err(|_| unknown())?;
        let frozen_at = Some(timestamp(found.frozen_at));
        let found_one = std::slice::from_ref(&found);
        let standings = settlement::standings(&mut snapshot, found_one).await?;
        let surpluses = settlement::surpluses(&mut snapshot, found_one).await?;
        let (id, currency) = (found.id, found.document.currency);
        let mut details = frozen_details(found, standings.get(&id));
        details.invoice =
            details.invoice.map(|shown| with_surplus(shown, surpluses.get(&id), currency));
        Ok(Response::new(proto::GetInvoiceResponse { invoice: Some(details), frozen_at }))
    }

    async fn export_invoice(
        &self,
        request: Request<proto::ExportInvoiceRequest>,
    ) -> Result<Response<Export>, Status> {
        let reports = self.reports_of(caller(&request)?);
        export::export(&reports, &self.directory, &request).await.map(Response::new)
    }

    async fn record_payment(
        &self,
        request: Request<proto::RecordPaymentRequest>,
    ) -> Result<Response<proto::RecordPaymentResponse>, Status> {
        settlement::record_payment(&self.pool, &self.directory, &request).await.map(Response::new)
    }

    async fn allocate_payment(
        &self,
        request: Request<proto::AllocatePaymentRequest>,
    ) -> Result<Response<proto::AllocatePaymentResponse>, Status> {
        settlement::allocate_payment(&self.pool, request.get_ref()).await.map(Response::new)
    }

    async fn reverse_payment(
        &self,
        request: Request<proto::ReversePaymentRequest>,
    ) -> Result<Response<proto::ReversePaymentResponse>, Status> {
        settlement::reverse_payment(&self.pool, request.get_ref()).await.map(Response::new)
    }

    async fn list_payments(
        &self,
        request: Request<proto::ListPaymentsRequest>,
    ) -> Result<Response<proto::ListPaymentsResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        settlement::list_payments(&reports, &self.directory, &request).await.map(Response::new)
    }

    async fn get_payment(
        &self,
        request: Request<proto::GetPaymentRequest>,
    ) -> Result<Response<proto::GetPaymentResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        settlement::get_payment(&reports, request.get_ref()).await.map(Response::new)
    }

    async fn issue_credit_note(
        &self,
        request: Request<proto::IssueCreditNoteRequest>,
    ) -> Result<Response<proto::IssueCreditNoteResponse>, Status> {
        settlement::issue_credit_note(&self.pool, request.get_ref()).await.map(Response::new)
    }

    async fn void_invoice(
        &self,
        request: Request<proto::VoidInvoiceRequest>,
    ) -> Result<Response<proto::VoidInvoiceResponse>, Status> {
        let done = settlement::void_invoice(&self.pool, request.get_ref());
        Box::pin(done).await.map(Response::new)
    }

    async fn write_off(
        &self,
        request: Request<proto::WriteOffRequest>,
    ) -> Result<Response<proto::WriteOffResponse>, Status> {
        settlement::write_off(&self.pool, request.get_ref()).await.map(Response::new)
    }

    async fn list_dunning_events(
        &self,
        request: Request<proto::ListDunningEventsRequest>,
    ) -> Result<Response<proto::ListDunningEventsResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        settlement::dunning_events(&reports, &self.directory, &request).await.map(Response::new)
    }

    async fn get_aging(
        &self,
        request: Request<proto::GetAgingRequest>,
    ) -> Result<Response<proto::GetAgingResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        settlement::aging(&reports, &self.directory, &request).await.map(Response::new)
    }

    async fn get_statement(
        &self,
        request: Request<proto::GetStatementRequest>,
    ) -> Result<Response<proto::GetStatementResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        settlement::statement(&reports, &self.directory, &request).await.map(Response::new)
    }

    async fn get_deferred_revenue(
        &self,
        request: Request<proto::GetDeferredRevenueRequest>,
    ) -> Result<Response<proto::GetDeferredRevenueResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        report::deferred_revenue(&reports, request.get_ref()).await.map(Response::new)
    }

    async fn get_sla_report(
        &self,
        request: Request<proto::GetSlaReportRequest>,
    ) -> Result<Response<proto::GetSlaReportResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        report::sla_report(&reports, &self.directory, &request).await.map(Response::new)
    }

    async fn get_revenue(
        &self,
        request: Request<proto::GetRevenueRequest>,
    ) -> Result<Response<proto::GetRevenueResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        report::revenue(&reports, request.get_ref()).await.map(Response::new)
    }

    async fn get_tax_summary(
        &self,
        request: Request<proto::GetTaxSummaryRequest>,
    ) -> Result<Response<proto::GetTaxSummaryResponse>, Status> {
        let reports = self.reports_of(caller(&request)?);
        report::tax_summary(&reports, request.get_ref()).await.map(Response::new)
    }
}

fn failed(error: sqlx::Error) -> Status {
    refused(BillingError::from(error))
}

fn passed_over(one: &PassedOver) -> proto::PassedOverAccount {
    let PassedOver { account, problem } = one;
    proto::PassedOverAccount { account_id: account.to_string(), problem: problem.clone() }
}

/// Says of a credit note what belongs to no invoice yet.
fn with_surplus(
    shown: proto::Invoice,
    surplus: Option<&Amount>,
    currency: Currency,
) -> proto::Invoice {
    let surplus = surplus.map(|surplus| money(*surplus, currency));
    proto::Invoice { open: shown.open.or(surplus), ..shown }
}
