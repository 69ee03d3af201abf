//! What a replay has done so far, so that it can be continued after its own death or the server's.
//!
//! The resume file has one JSON object per line: first the replay it belongs to, then what became
//! of each row. A grant is written down before its usage is sent: if the answer is lost, the same
//! token is sent again, and the same usage under the same token is charged once. The file of
//! acknowledgements has a line for each usage event that the server answered OK, with its charge.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{cli::error::CliError, proto::Money};

/// Acknowledgements between two fsyncs of their file.
const SYNC_EVERY: u32 = 64;

/// What a replay is; one that is continued must be the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Its own id, part of every request id.
    pub(super) run: String,
    /// The trace's file name.
    pub(super) trace: String,
    /// The trace's size in bytes.
    pub(super) bytes: u64,
    /// The models with their weights.
    pub(super) models: Vec<String>,
}

/// What the server acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acknowledged {
    /// The account that paid.
    pub(super) account: String,
    /// The usage event.
    pub(super) event_id: String,
    /// The charge's currency.
    pub(super) currency: String,
    /// The charge, a decimal.
    pub(super) charged: String,
    /// What of it was beyond the authorization.
    pub(super) overrun: String,
    /// Prompt tokens.
    pub(super) input: u64,
    /// Answer tokens.
    pub(super) output: u64,
}

impl Acknowledged {
    /// The charge as money.
    pub(super) fn money(&self) -> Money {
        Money { currency_code: self.currency.clone(), amount: self.charged.clone() }
    }
}

/// How far a row has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Progress {
    /// Authorized; its usage may have been recorded or not.
    Granted {
        /// The grant's token.
        token: String,
        /// The account that pays.
        account: String,
        /// The answer's tokens that it allows.
        max_output: u64,
    },
    /// Recorded, durably.
    Acknowledged(Acknowledged),
    /// Denied, for this reason.
    Denied(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Replay(Identity),
    Row(u64, Progress),
}

/// The files of a replay, as far as it has any.
#[derive(Debug, Default)]
pub(super) struct Journal {
    resume: Option<Mutex<File>>,
    acknowledged: Option<Mutex<Acknowledgements>>,
}

#[derive(Debug)]
struct Acknowledgements {
    file: File,
    path: PathBuf,
    unsynced: u32,
}

impl Journal {
    /// Opens the files that were named. Gives the replay's identity, the earlier one's where this
    /// continues it, and what is known of each row.
    pub(super) fn open(
        identity: Identity,
        resume: Option<&Path>,
        acknowledged: Option<&Path>,
    ) -> Result<(Self, Identity, HashMap<u64, Progress>), CliError> {
        let acknowledged = acknowledged.map(Acknowledgements::open).transpose()?.map(Mutex::new);
        let Some(path) = resume else {
            return Ok((Self { resume: None, acknowledged }, identity, HashMap::new()));
        };
        let (found, rows, complete) = read(path)?;
        let mut file = open(path)?;
        // A line that our own death cut off in the middle says nothing.
        file.set_len(complete).map_err(|cause| CliError::file(path, cause))?;
        let identity = if let Some(found) = found {
            continued(path, found, identity)?
        } else {
            append(&mut file, &Line::Replay(identity.clone()))
                .map_err(|cause| CliError::file(path, cause))?;
            identity
        };
        Ok((Self { resume: Some(Mutex::new(file)), acknowledged }, identity, rows))
    }

    /// Writes down how far a row has come.
    pub(super) fn note(&self, row: u64, progress: &Progress) -> Result<(), CliError> {
        if let Some(file) = &self.resume {
            append(&mut locked(file), &Line::Row(row, progress.clone()))
                .map_err(|cause| CliError::file(Path::new("the resume file"), cause))?;
        }
        if let (Some(file), Progress::Acknowledged(usage)) = (&self.acknowledged, progress) {
            locked(file).add(usage)?;
        }
        Ok(())
    }

    /// Makes sure that everything is on the disk.
    pub(super) fn finish(&self) -> Result<(), CliError> {
        if let Some(file) = &self.resume {
            locked(file)
                .sync_data()
                .map_err(|cause| CliError::file(Path::new("the resume file"), cause))?;
        }
        self.acknowledged.as_ref().map_or(Ok(()), |file| locked(file).sync())
    }
}

impl Acknowledgements {
    fn open(path: &Path) -> Result<Self, CliError> {
        Ok(Self { file: open(path)?, path: path.to_owned(), unsynced: 0 })
    }

    fn add(&mut self, usage: &Acknowledged) -> Result<(), CliError> {
        let Acknowledged { event_id, charged, currency, .. } = usage;
        self.file
            .write_all(format!("{event_id},{charged},{currency}\n").as_bytes())
            .map_err(|cause| CliError::file(&self.path, cause))?;
        self.unsynced += 1;
        if self.unsynced >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), CliError> {
        self.unsynced = 0;
        self.file.sync_data().map_err(|cause| CliError::file(&self.path, cause))
    }
}

/// A file to append to, for its owner alone: grants are in it.
fn open(path: &Path) -> Result<File, CliError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|cause| CliError::file(path, cause))
}

/// One write for the whole line, so that death leaves at most the last one cut off.
fn append(file: &mut File, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// What a panic elsewhere left is still whole: every write is one line.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Found = (Option<Identity>, HashMap<u64, Progress>, u64);

/// What an earlier run left, and how many bytes of it are whole lines.
fn read(path: &Path) -> Result<Found, CliError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Ok((None, HashMap::new(), 0));
        }
        Err(cause) => return Err(CliError::file(path, cause)),
    };
    let mut reader = BufReader::new(file);
    let (mut identity, mut rows, mut complete) = (None, HashMap::new(), 0_u64);
    let mut text = String::new();
    for number in 1_u64.. {
        text.clear();
        let length = reader.read_line(&mut text).map_err(|cause| CliError::file(path, cause))?;
        if !text.ends_with('\n') {
            break;
        }
        let line = serde_json::from_str(&text).map_err(|problem| {
            CliError::failed(format!(
                "{}, line {number}, is not of a replay ({problem}); name another resume file",
                path.display()
            ))
        })?;
        match line {
            Line::Replay(found) => identity = Some(found),
            Line::Row(row, progress) => {
                rows.insert(row, progress);
            }
        }
        complete += length as u64;
    }
    // Nothing of a file that is not ours is ever cut off.
    let is_empty = reader.get_ref().metadata().is_ok_and(|metadata| metadata.len() == 0);
    if identity.is_none() && !is_empty {
        return Err(CliError::failed(format!(
            "{} does not say which replay it is of; name another resume file",
            path.display()
        )));
    }
    Ok((identity, rows, complete))
}

fn continued(path: &Path, found: Identity, asked: Identity) -> Result<Identity, CliError> {
    let same = Identity { run: found.run.clone(), ..asked };
    if same == found {
        return Ok(found);
    }
    Err(CliError::usage(format!(
        "{} belongs to a replay of {} ({} bytes) with {}; continue that one, or name another \
         resume file",
        path.display(),
        found.trace,
        found.bytes,
        found.models.join(" ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(run: &str, trace: &str) -> Identity {
        let models = vec!["gpt-4o=1".to_owned()];
        Identity { run: run.into(), trace: trace.into(), bytes: 7, models }
    }

    fn granted() -> Progress {
        Progress::Granted { token: "t".into(), account: "a".into(), max_output: 5 }
    }

    fn acknowledged() -> Progress {
        Progress::Acknowledged(Acknowledged {
            account: "a".into(),
            event_id: "e".into(),
            currency: "USD".into(),
            charged: "0.000001".into(),
            overrun: "0".into(),
            input: 1,
            output: 2,
        })
    }

    #[test]
    fn a_continued_replay_knows_what_became_of_each_row() {
        let folder = tempfile::tempdir().unwrap();
        let (resume, acks) = (folder.path().join("resume"), folder.path().join("acks"));
        let open = |run: &str, trace: &str| {
            Journal::open(identity(run, trace), Some(&resume), Some(&acks))
        };
        let (journal, first, rows) = open("one", "trace.csv").unwrap();
        assert!(rows.is_empty());
        journal.note(1, &granted()).unwrap();
        journal.note(2, &granted()).unwrap();
        journal.note(1, &acknowledged()).unwrap();
        journal.note(3, &Progress::Denied("UNKNOWN_KEY".into())).unwrap();
        journal.finish().unwrap();
        // Death in the middle of a line.
        open_raw(&resume).write_all(br#"{"row":[4,{"gran"#).unwrap();

        let (journal, second, rows) = open("two", "trace.csv").unwrap();
        assert_eq!(second, first, "the earlier run's id goes on");
        assert_eq!(rows.get(&1), Some(&acknowledged()));
        assert_eq!(rows.get(&2), Some(&granted()));
        assert_eq!(rows.len(), 3);
        journal.note(4, &granted()).unwrap();
        assert_eq!(open("three", "trace.csv").unwrap().2.len(), 4);
        assert_eq!(std::fs::read_to_string(&acks).unwrap(), "e,0.000001,USD\n");

        let other = open("four", "other.csv").unwrap_err();
        assert!(matches!(other, CliError::Usage(_)), "{other}");
    }

    fn open_raw(path: &Path) -> File {
        OpenOptions::new().append(true).open(path).unwrap()
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        for diary in ["dear diary\n", "dear diary"] {
            std::fs::write(&path, diary).unwrap();
            assert!(Journal::open(identity("one", "t"), Some(&path), None).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), diary);
        }
    }
}
