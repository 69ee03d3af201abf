//! `ExportInvoice`: what is asked for, who may have it, and the file in pieces.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tonic::{Request, Status};

use super::{
    billing_convert::read_period,
    caller::{caller, require_account},
    convert::BadField,
    named_account::named_account,
    status::refused,
};
use crate::{
    accounts::directory::Directory,
    billing::{
        documents::{Frozen, store},
        error::BillingError,
        export::{
            ExportError, Format, Rendered,
            archive::{Archive, Selection},
            aside::rendered,
            register::{Register, Span},
        },
    },
    database::reports::ReportPool,
    identity::{Caller, Role},
    ids::AccountId,
    proto::{self, ExportFormat, export_invoice_request::What},
};

/// The most bytes in a message: small beside gRPC's limit of 4 MiB, large beside a message's cost.
const PIECE: usize = 256 * 1024;
/// Characters of a name that a refusal repeats.
const SHOWN: usize = 60;

/// The file, piece by piece.
pub(super) type Export = Pin<Box<dyn Stream<Item = Piece> + Send>>;
type Piece = Result<proto::ExportInvoiceResponse, Status>;
type Bytewise = Pin<Box<dyn Stream<Item = Result<Vec<u8>, ExportError>> + Send>>;

/// Answers the call.
pub(super) async fn export(
    reports: &ReportPool,
    directory: &Directory,
    request: &Request<proto::ExportInvoiceRequest>,
) -> Result<Export, Status> {
    let caller = caller(request)?;
    let request = request.get_ref();
    let format = read_format(request.format)?;
    match (&request.what, format) {
        (Some(What::Invoice(_)), _) if !request.account.is_empty() => {
            let problem = "goes with a period; a document is its account's anyhow, so leave it out";
            Err(refused(BadField::new("account", "NOT_WITH_INVOICE", problem)))
        }
        (Some(What::Invoice(_)), Asked::Register) => {
            let problem = "REGISTER lists a period's documents; give a period, not an invoice";
            Err(refused(BadField::new("format", "NOT_WITH_INVOICE", problem)))
        }
        (Some(What::Invoice(name)), Asked::Documents(format)) => {
            let frozen = find(reports, caller, name).await?;
            one(frozen, format).await
        }
        (Some(What::Period(period)), Asked::Register) => {
            let span = read_span(period)?;
            let account = account_of(directory, caller, &request.account).await?;
            let register = Register::open(reports.clone(), span, account);
            let name = register.file_name();
            let bytes = stream::try_unfold(register, |mut register| async move {
                Ok(register.piece().await?.map(|piece| (piece, register)))
            });
            Ok(pieces(name, Format::Csv.content_type(), Box::pin(bytes)))
        }
        (Some(What::Period(period)), Asked::Documents(format)) => {
            let period = read_period("period", period)?;
            let account = account_of(directory, caller, &request.account).await?;
            let archive = Archive::open(reports.clone(), Selection { period, account }, format);
            let name = archive.file_name();
            let bytes = stream::try_unfold(archive, |mut archive| async move {
                Ok(archive.piece().await?.map(|piece| (piece, archive)))
            });
            Ok(pieces(name, "application/zip", Box::pin(bytes)))
        }
        (None, _) => {
            let problem = "is missing; give an invoice, such as INV-2026-000001, or a period, such \
                           as 2026-10";
            Err(refused(BadField::new("invoice", "MISSING", problem)))
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Documents(Format),
    Register,
}

fn read_format(value: i32) -> Result<Asked, Status> {
    match ExportFormat::try_from(value) {
        Ok(ExportFormat::Pdf) => Ok(Asked::Documents(Format::Pdf)),
        Ok(ExportFormat::Ubl) => Ok(Asked::Documents(Format::Ubl)),
        Ok(ExportFormat::Cii) => Ok(Asked::Documents(Format::Cii)),
        Ok(ExportFormat::Csv) => Ok(Asked::Documents(Format::Csv)),
        Ok(ExportFormat::Json) => Ok(Asked::Documents(Format::Json)),
        Ok(ExportFormat::Register) => Ok(Asked::Register),
        Ok(ExportFormat::Unspecified) | Err(_) => {
            let problem = "is missing or unknown; give PDF, UBL, CII, CSV, JSON or REGISTER";
            Err(refused(BadField::new("format", "UNKNOWN_FORMAT", problem)))
        }
    }
}

/// A month or a year.
fn read_span(text: &str) -> Result<Span, Status> {
    let is_year = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(year) if is_year => Ok(Span::Year(year)),
        _ => read_period("period", text).map(Span::Month),
    }
}

/// Whose documents; `None` for everybody's, which a tenant cannot ask for.
async fn account_of(
    directory: &Directory,
    caller: &Caller,
    name: &str,
) -> Result<Option<AccountId>, Status> {
    match (name, caller.role, caller.account) {
        ("", Role::Tenant, Some(own)) => Ok(Some(own)),
        ("", Role::Tenant, None) => Err(super::caller::no_such_account("account")),
        ("", _, _) => Ok(None),
        (name, _, _) => named_account(directory, caller, "account", name).await.map(Some),
    }
}

async fn find(reports: &ReportPool, caller: &Caller, name: &str) -> Result<Frozen, Status> {
    if name.is_empty() {
        let problem = "is missing; give its number, such as INV-2026-000001, or its id";
        return Err(refused(BadField::new("invoice", "MISSING", problem)));
    }
    let unknown = || refused(BillingError::UnknownDocument(name.chars().take(SHOWN).collect()));
    let mut snapshot = reports.snapshot().await.map_err(refused)?;
    let found = store::document(&mut snapshot, name).await.map_err(refused)?;
    let found = found.ok_or_else(unknown)?;
    // A tenant must not learn which numbers there are.
    require_account(caller, found.document.account_id, "invoice").map_err(|_| unknown())?;
    Ok(found)
}

/// Rendered as a whole before the first byte leaves, so that a refusal comes instead of a file.
async fn one(frozen: Frozen, format: Format) -> Result<Export, Status> {
    let rendered = rendered(frozen, format).await.map_err(refused)?;
    let Rendered { bytes, file_name, content_type } = rendered;
    Ok(pieces(file_name, content_type, Box::pin(stream::iter([Ok(bytes)]))))
}

/// Cuts bytes into messages, the first of which says what the file is.
fn pieces(file_name: String, content_type: &'static str, bytes: Bytewise) -> Export {
    let mut head = Some((file_name, content_type.to_owned()));
    // An empty piece goes first, so that even an empty file has its name.
    let first: Bytewise = Box::pin(stream::iter([Ok(Vec::new())]));
    let cut = first.chain(bytes).map_err(refused).map_ok(move |bytes| {
        let (file_name, content_type) = head.take().unwrap_or_default();
        let named = !file_name.is_empty();
        let first = proto::ExportInvoiceResponse { data: Vec::new(), file_name, content_type };
        let bytes = Bytes::from(bytes);
        let cuts = (0..bytes.len()).step_by(PIECE).map(move |from| {
            let to = from.saturating_add(PIECE).min(bytes.len());
            proto::ExportInvoiceResponse {
                data: bytes.slice(from..to).to_vec(),
                ..proto::ExportInvoiceResponse::default()
            }
        });
        stream::iter(named.then_some(first).into_iter().chain(cuts).map(Ok))
    });
    Box::pin(cut.try_flatten())
}
