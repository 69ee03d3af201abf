//! Printing aside from the threads that answer calls: it takes milliseconds of a core for each page,
//! which nobody at the gateway may wait for.

use tokio::sync::Semaphore;

use super::{ExportError, Format, Rendered, render};
use crate::billing::documents::Frozen;

/// Documents that are printed at once. The other cores are for those who wait at the gateway; whoever
/// exports waits here for its turn.
const AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// As [`render`], in its turn.
///
/// # Errors
/// As [`render`].
pub async fn rendered(frozen: Frozen, format: Format) -> Result<Rendered, ExportError> {
    aside(move || render(&frozen, format)).await
}

/// Runs what takes a while, in its turn.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, ExportError> {
    let unwritten = |error: &dyn std::error::Error| ExportError::unwritten("document", error);
    let turn = TURNS.acquire().await.map_err(|error| unwritten(&error))?;
    let done = tokio::task::spawn_blocking(move || {
        // Held until the work ends, even where nobody waits for it any more.
        let _turn = turn;
        work()
    });
    done.await.map_err(|error| unwritten(&error))?
}
