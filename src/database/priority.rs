//! Which of Postgres's processes go first, where it shares our machine: embedded, or beside us and
//! reached by its socket.
//!
//! With two cores, four reports would have most of them. Each session is a process of its own, so the
//! kernel's scheduler can be told: what nobody at the gateway waits for gets what the others leave, all
//! of it while they are idle. A process that is made to wait also keeps whatever lock of Postgres's own
//! it has at that moment, so the step down is not the longest there is.

use std::{fs, io, path::PathBuf};

use rustix::process::{Pid, setpriority_process};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::store;

/// The `nice` value of those that come last: a twenty-eighth of the share of a usual process each
/// (the kernel's table of weights has 36 for it, 1,024 for 0).
const LAST: i32 = 15;

/// A pool that connects when it is first asked, and whose sessions come last.
pub(super) fn last(pool: PgPoolOptions, options: PgConnectOptions) -> PgPool {
    // Elsewhere, a process's number says nothing here.
    let pool = if options.get_socket().is_none() {
        pool
    } else {
        pool.after_connect(|connection, _| {
            Box::pin(async move {
                let process = store::process_of(connection).await?;
                // Everything works without, only less smoothly: a Postgres of another user stays as
                // it is.
                if let Err(error) = lower(process) {
                    tracing::debug!(%error, "a session keeps the usual priority");
                }
                Ok(())
            })
        })
    };
    pool.connect_lazy_with(options)
}

/// Where the kernel groups processes by session (`sched_autogroup_enabled`, sched(7)), which Postgres's
/// processes each have of their own, a process's priority counts within its group alone, and the group
/// has one as well.
fn lower(process: i32) -> io::Result<()> {
    let about = PathBuf::from(format!("/proc/{process}"));
    // A socket can be mounted from a container, whose numbers are others.
    if fs::read_to_string(about.join("comm"))?.trim_end() != "postgres" {
        return Err(io::ErrorKind::NotFound.into());
    }
    setpriority_process(Pid::from_raw(process), LAST)?;
    let group = about.join("autogroup");
    if group.exists() { fs::write(group, LAST.to_string()) } else { Ok(()) }
}
