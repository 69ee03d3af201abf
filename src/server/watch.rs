//! Files that are read again when they change: keys and certificates.
//!
//! They are compared by content, once a second. Notifications of the system would not see what is
//! behind a mounted secret (a link to a link that is swapped), and a time of change can stay the
//! same.

use std::{path::PathBuf, time::Duration};

use crate::tasks::Tasks;

/// How often is looked. The files are a few kilobytes, and a key that was withdrawn should not be
/// believed for much longer than a token that was revoked.
const PERIOD: Duration = Duration::from_secs(1);
/// No key or certificate is as large; the rest of a file is not looked at.
const LARGEST: u64 = 1024 * 1024;

/// What all files held; `None` for one that could not be read.
type Contents = Vec<Option<Vec<u8>>>;

/// Calls `reload` after any of the files has changed, as long as the server runs. What it cannot
/// use is logged once, and tried again with the next change: a certificate and its key are
/// replaced one after the other.
pub(super) fn files(
    tasks: &Tasks,
    name: &'static str,
    files: Vec<PathBuf>,
    reload: impl Fn() -> Result<(), String> + Send + 'static,
) {
    if files.is_empty() {
        return;
    }
    let stopping = tasks.stopping();
    tasks.spawn(name, async move {
        // Whatever changed between the start and the first look is read a second later.
        let mut known: Option<Contents> = None;
        while stopping.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            let now = contents(&files).await;
            if known.as_ref() == Some(&now) {
                continue;
            }
            let is_first = known.replace(now).is_none();
            match reload() {
                Ok(()) if is_first => {}
                Ok(()) => tracing::info!(what = name, "read again after a change"),
                Err(problem) => {
                    tracing::error!(
                        what = name,
                        problem,
                        "a change was not taken; going on as before"
                    );
                }
            }
        }
    });
}

async fn contents(files: &[PathBuf]) -> Contents {
    use tokio::io::AsyncReadExt as _;
    let mut contents = Vec::with_capacity(files.len());
    for path in files {
        let read = async {
            let mut bytes = Vec::new();
            let file = tokio::fs::File::open(path).await?;
            file.take(LARGEST).read_to_end(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        contents.push(read.await.ok());
    }
    contents
}
