//! What `AccountService` answers about personal data: translates, calls [`crate::personal_data`].

use std::pin::Pin;

use futures_util::{Stream, stream};
use sqlx::PgPool;
use tonic::Status;

use super::{
    convert,
    idempotency::{self, Begun},
    status::refused,
};
use crate::{
    accounts::{account::AccountStatus, change::Change},
    database::reports::ReportPool,
    personal_data::{
        erasure::{self, PATIENCE, Progress, Subject, Swept},
        export::Export,
    },
    proto::{
        ErasePersonalDataRequest, ErasePersonalDataResponse, ErasedData,
        ExportPersonalDataResponse, KeptData,
    },
};

const ERASE: &str = "ErasePersonalData";

/// An export in pieces.
pub(super) type Pieces =
    Pin<Box<dyn Stream<Item = Result<ExportPersonalDataResponse, Status>> + Send>>;

/// Gives out what is stored about somebody.
pub(super) async fn export(reports: &ReportPool, subject: Subject) -> Result<Pieces, Status> {
    let export = Export::open(reports, subject).await.map_err(refused)?;
    Ok(Box::pin(stream::try_unfold(export, |mut export| async move {
        let piece = export.piece().await.map_err(refused)?;
        Ok(piece.map(|text| (ExportPersonalDataResponse { text }, export)))
    })))
}

/// Erases what is stored about somebody, or the next part of it. Also answers what must be dropped from
/// memory.
///
/// The steps come before the call's own transaction, which may not be idle for as long as they take.
/// Done again they find nothing.
pub(super) async fn erase(
    pool: &PgPool,
    subject: &Subject,
    status: AccountStatus,
    request: &ErasePersonalDataRequest,
) -> Result<(ErasePersonalDataResponse, Vec<Change>), Status> {
    erasure::check_reason(&request.reason).map_err(refused)?;
    let page = convert::page::<Progress>(ERASE, 0, &request.page_token).map_err(refused)?;
    let key = &request.idempotency_key;
    // Given back at once: what counts is whether the call was made before.
    match idempotency::begin(pool, ERASE, key, request).await.map_err(refused)? {
        Begun::Repeated(response) => return Ok((response, Vec::new())),
        Begun::First(turn) => drop(turn),
    }
    let from = page.after.unwrap_or(Progress::BEGINNING);
    let Swept { mut erased, next } =
        erasure::sweep(pool, subject, from, PATIENCE).await.map_err(refused)?;
    let mut turn = match idempotency::begin(pool, ERASE, key, request).await.map_err(refused)? {
        Begun::Repeated(response) => return Ok((response, Vec::new())),
        Begun::First(turn) => turn,
    };
    let mut changes = Vec::new();
    if next.is_none()
        && let Some(changed) = erasure::finish(turn.connection(), subject).await.map_err(refused)?
    {
        erased.push(erasure::Erased { place: "accounts", rows: 1 });
        changes = changed.changes;
    }
    let next_page_token = next.map_or_else(String::new, |next| {
        convert::next_page_token(ERASE, &mut vec![(), ()], 1, |()| next)
    });
    let response = ErasePersonalDataResponse {
        done: next_page_token.is_empty(),
        next_page_token,
        erased: erased
            .into_iter()
            .map(|sum| ErasedData { place: sum.place.to_owned(), rows: sum.rows })
            .collect(),
        kept: erasure::kept(subject, status)
            .into_iter()
            .map(|kept| KeptData { place: kept.place.to_owned(), reason: kept.reason.to_owned() })
            .collect(),
    };
    turn.commit(&response).await.map_err(refused)?;
    Ok((response, changes))
}
