//! `LedgerService`: translates, checks the caller, calls `ledger::report`, `ledger::journal`,
//! `ledger::verify` and `ledger::seals`.

use std::{pin::Pin, sync::Arc};

use chrono::NaiveDate;
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{
    caller::caller,
    convert::{self, BadField, moment, money, next_page_token, page, timestamp},
    named_account::named_account,
    status::refused,
};
use crate::{
    accounts::directory::Directory,
    clock,
    database::reports::ReportPool,
    identity::Role,
    ids::AccountId,
    ledger::{
        chart::LedgerCode,
        journal::{Journal, JournalFilter, JournalFormat},
        report::{self, PostedTransfer, TransferFilter},
        seals::heads::{self, ChainHead, HeadsExport, MAX_HEADS},
        verify::{Check, Verifier},
    },
    proto::{self, ledger_service_server::LedgerService},
};

const LIST: &str = "ListTransfers";

/// The service.
#[derive(Debug)]
pub struct LedgerApi {
    reports: ReportPool,
    directory: Arc<Directory>,
    verifier: Verifier,
}

impl LedgerApi {
    /// Reads the books behind this pool.
    #[must_use]
    pub fn new(reports: ReportPool, directory: Arc<Directory>) -> Self {
        Self { verifier: Verifier::new(reports.clone()), reports, directory }
    }

    /// The account that a request names; `None`, for everybody, where it names none.
    ///
    /// A tenant that names none is refused as for any account that is not its own.
    async fn optional_account<T>(
        &self,
        request: &Request<T>,
        name: &str,
    ) -> Result<Option<AccountId>, Status> {
        let caller = caller(request)?;
        if name.is_empty() && caller.role != Role::Tenant {
            return Ok(None);
        }
        named_account(&self.directory, caller, "account", name).await.map(Some)
    }
}

type Piece = Result<proto::ExportJournalResponse, Status>;
type HeadsPiece = Result<proto::ExportChainHeadsResponse, Status>;

#[tonic::async_trait]
impl LedgerService for LedgerApi {
    type ExportJournalStream = Pin<Box<dyn Stream<Item = Piece> + Send>>;

    async fn export_journal(
        &self,
        request: Request<proto::ExportJournalRequest>,
    ) -> Result<Response<Self::ExportJournalStream>, Status> {
        let account = self.optional_account(&request, &request.get_ref().account).await?;
        let request = request.get_ref();
        let format = match request.format() {
            proto::JournalFormat::Hledger => JournalFormat::Hledger,
            proto::JournalFormat::Quickbooks => JournalFormat::QuickBooks,
            proto::JournalFormat::Xero => JournalFormat::Xero,
            proto::JournalFormat::Unspecified => {
                let problem = "is missing or unknown; give HLEDGER, QUICKBOOKS or XERO";
                return Err(refused(BadField::new("format", "UNKNOWN_FORMAT", problem)));
            }
        };
        let currency = Some(request.currency_code.as_str()).filter(|code| !code.is_empty());
        let currency = currency.map(|code| convert::currency("currency_code", code)).transpose();
        let until = request.until.as_ref().map(|until| moment("until", until));
        let filter = JournalFilter {
            account,
            currency: currency.map_err(refused)?,
            period: read_period(&request.period)?,
            until: until.transpose().map_err(refused)?,
        };
        let journal = Journal::open(&self.reports, format, filter).await.map_err(refused)?;
        let pieces = stream::try_unfold(journal, |mut journal| async move {
            let piece = journal.piece().await.map_err(refused)?;
            Ok(piece.map(|data| (proto::ExportJournalResponse { data }, journal)))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    type ExportChainHeadsStream = Pin<Box<dyn Stream<Item = HeadsPiece> + Send>>;

    async fn export_chain_heads(
        &self,
        _: Request<proto::ExportChainHeadsRequest>,
    ) -> Result<Response<Self::ExportChainHeadsStream>, Status> {
        let export = HeadsExport::open(&self.reports, clock::now()).await.map_err(refused)?;
        let pieces = stream::try_unfold(export, |mut export| async move {
            let piece = export.piece().await.map_err(refused)?;
            Ok(piece.map(|text| (proto::ExportChainHeadsResponse { text }, export)))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn check_chain_heads(
        &self,
        request: Request<proto::CheckChainHeadsRequest>,
    ) -> Result<Response<proto::CheckChainHeadsResponse>, Status> {
        let heads = request.into_inner().heads;
        if heads.len() > MAX_HEADS {
            let problem = format!("has {} heads; give {MAX_HEADS} at most", heads.len());
            return Err(refused(BadField::new("heads", "TOO_MANY_HEADS", problem)));
        }
        let heads: Vec<_> =
            heads.into_iter().enumerate().map(read_head).collect::<Result<_, _>>()?;
        let findings = heads::missing(&self.reports, &heads).await.map_err(refused)?;
        Ok(Response::new(proto::CheckChainHeadsResponse { findings }))
    }

    async fn list_transfers(
        &self,
        request: Request<proto::ListTransfersRequest>,
    ) -> Result<Response<proto::ListTransfersResponse>, Status> {
        let name = &request.get_ref().account;
        let account = named_account(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.get_ref();
        let page = page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let filter = TransferFilter {
            account,
            ledger_account: read_code(&request.ledger_account)?,
            from: request
                .from
                .as_ref()
                .map(|from| moment("from", from))
                .transpose()
                .map_err(refused)?,
            until: request
                .until
                .as_ref()
                .map(|until| moment("until", until))
                .transpose()
                .map_err(refused)?,
            before: page.after,
            limit: page.limit(),
        };
        if filter.from.zip(filter.until).is_some_and(|(from, until)| until <= from) {
            let problem = "is not after from; give an earlier from or a later until";
            return Err(refused(BadField::new("until", "EMPTY_RANGE", problem)));
        }
        let mut rows = report::list_transfers(&self.reports, &filter).await.map_err(refused)?;
        let next_page_token =
            next_page_token(LIST, &mut rows, page.size, |last| (last.posting, last.line));
        let transfers = rows.into_iter().map(transfer).collect();
        Ok(Response::new(proto::ListTransfersResponse { transfers, next_page_token }))
    }

    async fn get_trial_balance(
        &self,
        request: Request<proto::GetTrialBalanceRequest>,
    ) -> Result<Response<proto::GetTrialBalanceResponse>, Status> {
        let account = self.optional_account(&request, &request.get_ref().account).await?;
        let balance = report::trial_balance(&self.reports, account).await.map_err(refused)?;
        let lines = balance.lines.into_iter().map(|row| proto::TrialBalanceLine {
            code: row.line.code().to_owned(),
            name: row.line.name().to_owned(),
            kind: row.line.kind().name().to_owned(),
            debits: Some(money(row.debits, row.currency)),
            credits: Some(money(row.credits, row.currency)),
            balance: Some(money(row.balance, row.currency)),
        });
        let totals = balance.totals.into_iter().map(|total| proto::TrialBalanceTotal {
            debits: Some(money(total.debits, total.currency)),
            credits: Some(money(total.credits, total.currency)),
        });
        Ok(Response::new(proto::GetTrialBalanceResponse {
            lines: lines.collect(),
            totals: totals.collect(),
        }))
    }

    async fn verify_ledger(
        &self,
        request: Request<proto::VerifyLedgerRequest>,
    ) -> Result<Response<proto::VerifyLedgerResponse>, Status> {
        let account = self.optional_account(&request, &request.get_ref().account).await?;
        let verification = self.verifier.verify(account).await.map_err(refused)?;
        let clean = verification.is_clean();
        let checks = verification.checks.into_iter().map(check).collect();
        Ok(Response::new(proto::VerifyLedgerResponse { clean, checks }))
    }
}

fn read_head((at, head): (usize, proto::ChainHead)) -> Result<ChainHead, Status> {
    let proto::ChainHead { account_id, block, entries, hash } = head;
    let account = account_id.parse().map_err(|_| {
        let problem = format!("{account_id:?} is no id; give what an export of heads has there");
        refused(BadField::new(format!("heads[{at}].account_id"), "INVALID_ID", problem))
    })?;
    Ok(ChainHead { account, block, entries, hash })
}

/// The first day of a month such as `2026-10`; `None` where none is named.
fn read_period(text: &str) -> Result<Option<NaiveDate>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let first = Some(text).filter(|text| text.len() == "2026-10".len());
    let first = first.and_then(|text| format!("{text}-01").parse().ok());
    let problem = format!("{text:?} is no month; write it like 2026-10");
    first.map(Some).ok_or_else(|| refused(BadField::new("period", "INVALID_PERIOD", problem)))
}

fn read_code(text: &str) -> Result<Option<LedgerCode>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let unknown = |error| refused(BadField::new("ledger_account", "UNKNOWN_LEDGER_ACCOUNT", error));
    text.parse().map(Some).map_err(unknown)
}

fn transfer(row: PostedTransfer) -> proto::Transfer {
    let amount = proto::Money { currency_code: row.currency, amount: row.amount.to_string() };
    proto::Transfer {
        account_id: row.account_id.to_string(),
        posting: row.posting,
        line: u32::try_from(row.line).unwrap_or(0),
        debit: row.debit,
        credit: row.credit,
        amount: Some(amount),
        kind: row.kind,
        period: row.period.to_string(),
        posted_at: Some(timestamp(row.posted_at)),
        cause_id: row.cause_id.map(|cause| cause.to_string()).unwrap_or_default(),
        idempotency_key: row.idempotency_key,
        description: row.description,
    }
}

fn check(check: Check) -> proto::VerificationCheck {
    proto::VerificationCheck {
        name: check.name.to_owned(),
        description: check.description.to_owned(),
        examined: check.examined,
        violations: check.violations,
        findings: check.findings,
    }
}
