//! Where else the books are, and whether there is room for more of them.

mod store;

use std::path::Path;

use sqlx::PgConnection;

use self::store::{Archive, Replica, Slot};
use super::{
    database::store::sees_all,
    finding::{Check, Finding, size, span},
};

/// A replica that is so far behind loses minutes if it has to take over.
const BEHIND_BYTES: i64 = 64 << 20;
/// The same by time, which is only known of one that has confirmed something of late.
const BEHIND_SECONDS: i64 = 30;
/// Below so many percent of a disk, there are days left to make room.
const LOW_PERCENT: u64 = 10;
/// Below so many, hours.
const VERY_LOW_PERCENT: u64 = 5;
/// The write-ahead log alone may take half of that (`max_wal_size` of the embedded cluster).
const LOW_BYTES: u64 = 4 << 30;
/// A few minutes of a busy server.
const VERY_LOW_BYTES: u64 = 1 << 30;

/// Whether the replicas that commits wait for are there, and how far each is behind.
pub(super) async fn replicas(connection: &mut PgConnection) -> sqlx::Result<Check> {
    if store::is_replica(connection).await? {
        let finding = Finding::critical(
            "this database is a replica, or is still being restored: nothing can be written.",
            "Point DATABASE_URL at the primary, or promote this one if the primary is gone for good.",
        );
        return Ok(Check::new("replicas", "a database that only reads", [finding]));
    }
    let awaited = store::awaited(connection).await?;
    let replicas = store::replicas(connection).await?;
    let slots = store::unused_slots(connection).await?;
    let mut findings = judge_replicas(&awaited, &replicas, sees_all(connection).await?);
    findings.extend(slots.iter().map(judge_slot));
    let names: Vec<_> = replicas.iter().map(describe).collect();
    let looked_at = match (replicas.is_empty(), awaited.is_empty()) {
        (true, true) => "no replica is connected, and no commit waits for one".to_owned(),
        (true, false) => format!("no replica is connected; commits wait for {awaited}"),
        (false, true) => format!("{}; no commit waits for one", names.join(", ")),
        (false, false) => format!("{}; commits wait for {awaited}", names.join(", ")),
    };
    Ok(Check::new("replicas", looked_at, findings))
}

fn describe(replica: &Replica) -> String {
    let Replica { name, behind_bytes, behind_seconds, .. } = replica;
    let behind = behind_bytes.map_or_else(|| "unknown".to_owned(), size);
    let time = behind_seconds.map(|seconds| format!(" and {}", span(seconds))).unwrap_or_default();
    format!("replica {name} is {behind}{time} behind")
}

fn judge_replicas(awaited: &str, replicas: &[Replica], sees_all: bool) -> Vec<Finding> {
    let is_alone = awaited.is_empty() && replicas.is_empty();
    if !sees_all && !is_alone {
        return vec![Finding::notice(
            "this login cannot see how far replicas are behind.",
            "GRANT pg_monitor to the server's login to have them looked at.",
        )];
    }
    let mut findings = Vec::new();
    if !awaited.is_empty() && !replicas.iter().any(|replica| replica.is_awaited) {
        findings.push(Finding::critical(
            format!(
                "commits wait for a replica ({awaited}) and none of them is connected: nothing is \
                 acknowledged."
            ),
            "Bring the replica back; or, knowing that one copy is left, ALTER SYSTEM SET \
             synchronous_standby_names = '' and reload.",
        ));
    }
    for replica in replicas {
        let is_behind = replica.behind_bytes.is_some_and(|bytes| bytes > BEHIND_BYTES)
            || replica.behind_seconds.is_some_and(|seconds| seconds > BEHIND_SECONDS);
        if is_behind {
            let state = replica.state.as_deref().unwrap_or("unknown");
            findings.push(Finding::warning(
                format!("{} (state {state}): that much is lost if it takes over.", describe(replica)),
                "Look at its disk, its network and what it is asked; a replay waits for long queries \
                 there.",
            ));
        }
    }
    findings
}

fn judge_slot(slot: &Slot) -> Finding {
    Finding::warning(
        format!(
            "nobody reads from replication slot {}: {} of the write-ahead log is kept for it, and \
             rising.",
            slot.name,
            size(slot.bytes)
        ),
        format!("Bring its replica back, or SELECT pg_drop_replication_slot('{}').", slot.name),
    )
}

/// Whether the write-ahead log is archived.
pub(super) async fn archive(connection: &mut PgConnection) -> sqlx::Result<Check> {
    let archive = store::archive(connection).await?;
    let looked_at = match (archive.is_on, archive.archived_seconds) {
        (false, _) => "no archive of the write-ahead log".to_owned(),
        (true, None) => "an archive of the write-ahead log, with nothing in it yet".to_owned(),
        (true, Some(seconds)) => format!(
            "{} segments of the write-ahead log archived, the last {} ago",
            archive.archived,
            span(seconds)
        ),
    };
    Ok(Check::new("archive", looked_at, judge_archive(&archive)))
}

fn judge_archive(archive: &Archive) -> Option<Finding> {
    if !archive.is_on {
        return Some(Finding::notice(
            "the write-ahead log is not archived: after the loss of the disk, the books are as old as the \
             last dump, unless a replica or a snapshot has them.",
            "Set up archive_command or pgBackRest (docs/operations.md, Backups).",
        ));
    }
    archive.is_failing.then(|| {
        Finding::critical(
            format!(
                "archiving fails ({} failures, now at {}): the write-ahead log fills the disk, and a \
                 restore ends before it.",
                archive.failed,
                archive.failing_segment.as_deref().unwrap_or("an unknown segment")
            ),
            "Read in Postgres's log what archive_command says, and make room where it writes.",
        )
    })
}

/// Whether the disk has room.
pub(super) async fn disk(
    connection: &mut PgConnection,
    embedded: Option<&Path>,
) -> sqlx::Result<Check> {
    let database = size(store::database_bytes(connection).await?);
    let Some(directory) = embedded else {
        let finding = Finding::notice(
            format!("the database takes {database}, and its disk cannot be seen from here."),
            "Watch the volumes of its data directory and of its write-ahead log, and have yourself told \
             at 10% free.",
        );
        return Ok(Check::new("disk", format!("the database's size: {database}"), [finding]));
    };
    let room = rustix::fs::statvfs(directory)
        .map_err(|error| sqlx::Error::Io(std::io::Error::from(error)))
        .map(|facts| Room {
            free: facts.f_bavail.saturating_mul(facts.f_frsize),
            all: facts.f_blocks.saturating_mul(facts.f_frsize),
        })?;
    let looked_at = format!(
        "{}: {} of {} free ({}%), the database takes {database}",
        directory.display(),
        told(room.free),
        told(room.all),
        room.percent()
    );
    Ok(Check::new("disk", looked_at, judge_room(room, directory)))
}

/// Bytes of a disk, as its users may take them.
#[derive(Clone, Copy)]
struct Room {
    free: u64,
    all: u64,
}

impl Room {
    fn percent(self) -> u64 {
        self.free.saturating_mul(100).checked_div(self.all).unwrap_or(100)
    }
}

fn told(bytes: u64) -> String {
    size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn judge_room(room: Room, directory: &Path) -> Option<Finding> {
    let problem = format!(
        "the disk of {} has {} free ({}%); when it is full, Postgres stops.",
        directory.display(),
        told(room.free),
        room.percent()
    );
    let remedy = "Make room, or move the data directory to a larger disk (docs/operations.md); look at \
                  `archive` and `replicas`, which keep the write-ahead log.";
    if room.free < VERY_LOW_BYTES || room.percent() < VERY_LOW_PERCENT {
        Some(Finding::critical(problem, remedy))
    } else if room.free < LOW_BYTES || room.percent() < LOW_PERCENT {
        Some(Finding::warning(problem, remedy))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::finding::Severity::{Critical, Notice, Warning},
        *,
    };

    fn replica(is_awaited: bool, behind_bytes: i64) -> Replica {
        Replica {
            name: "second".to_owned(),
            state: Some("streaming".to_owned()),
            is_awaited,
            behind_bytes: Some(behind_bytes),
            behind_seconds: Some(0),
        }
    }

    #[test]
    fn a_commit_that_waits_for_nobody_who_is_there_is_critical() {
        let judged = |awaited, replicas: &[Replica]| {
            let findings = judge_replicas(awaited, replicas, true);
            findings.iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        assert_eq!(judged("", &[]), []);
        assert_eq!(judged("second", &[replica(true, 0)]), []);
        assert_eq!(judged("second", &[replica(false, 0)]), [Critical]);
        assert_eq!(judged("", &[replica(false, BEHIND_BYTES + 1)]), [Warning]);
    }

    #[test]
    fn a_login_that_cannot_see_says_so_instead_of_raising_an_alarm() {
        let unseen = Replica { behind_bytes: None, behind_seconds: None, ..replica(false, 0) };
        let findings = judge_replicas("second", &[unseen], false);
        assert_eq!(findings.iter().map(|one| one.severity).collect::<Vec<_>>(), [Notice]);
    }

    #[test]
    fn a_disk_is_judged_by_its_share_and_by_what_is_left() {
        let judged = |free, all| {
            let room = Room { free, all };
            judge_room(room, Path::new("/d")).map(|finding| finding.severity)
        };
        let gib = 1 << 30;
        assert_eq!(judged(20 * gib, 100 * gib), None);
        assert_eq!(judged(9 * gib, 100 * gib), Some(Warning));
        assert_eq!(judged(3 * gib, 4 * gib), Some(Warning));
        assert_eq!(judged(4 * gib, 100 * gib), Some(Critical));
        assert_eq!(judged(gib / 2, gib), Some(Critical));
    }
}
