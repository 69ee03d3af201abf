//! Tollgate's data directory and who may do what in it.
//!
//! | path | owner | mode | what |
//! |---|---|---|---|
//! | `DIR` | us | 0700; 0711 if Postgres runs as another user, who must pass through | |
//! | `DIR/lock` | us | 0600 | held while a server runs; names its pid |
//! | `DIR/postgres` | Postgres's user | 0700 | the cluster |
//! | `DIR/postgres.new` | Postgres's user | 0700 | a cluster being made; of no worth after a crash |
//! | `DIR/run` | Postgres's user | 0700 | its socket |
//!
//! Root never writes inside what belongs to another user: a link there could lead anywhere. The
//! directory of a temporary cluster belongs to Postgres's user whole, so that its watchdog, which
//! runs as that user, can remove it.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    error::{EmbeddedError, io_error},
    leftovers::PidFile,
    settings,
    user::RunAs,
};

/// The longest path of a Unix socket that Linux takes, without its closing zero byte.
const LONGEST_SOCKET_PATH: usize = 107;
/// How the short socket directories in the system's temporary directory begin.
const SHORT_SOCKET_PREFIX: &str = "tollgate-";

/// A data directory that this process holds the lock of.
#[derive(Debug)]
pub(super) struct DataDirectory {
    pub(super) path: PathBuf,
    /// The cluster; its name appears only once it is complete.
    pub(super) cluster: PathBuf,
    /// Where a cluster is made.
    pub(super) unfinished: PathBuf,
    /// Released by the kernel when this process ends, however it ends.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory where it is missing and takes its lock. Where another process holds it,
    /// nothing has been changed.
    pub(super) fn open(
        wanted: &Path,
        run_as: &RunAs,
        temporary: bool,
    ) -> Result<Self, EmbeddedError> {
        let wanted = std::path::absolute(wanted).map_err(io_error("find", wanted))?;
        if let Some(parent) = wanted.parent() {
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        }
        create_private(&wanted)?;
        let path = wanted.canonicalize().map_err(io_error("find", &wanted))?;
        check_owner(&path, run_as, temporary)?;
        let lock = take_lock(&path)?;

        let passable = run_as.switches && !temporary;
        let mode = if passable { 0o711 } else { 0o700 };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(io_error("set the permissions of", &path))?;
        if temporary {
            run_as.own(&path).map_err(io_error("hand over", &path))?;
        }
        let cluster = path.join("postgres");
        let unfinished = path.join("postgres.new");
        Ok(Self { path, cluster, unfinished, _lock: lock })
    }

    /// Makes an empty place for a new cluster; whatever a crash left there goes.
    pub(super) fn make_unfinished(&self, run_as: &RunAs) -> Result<(), EmbeddedError> {
        self.remove_unfinished()?;
        create_private(&self.unfinished)?;
        run_as.own(&self.unfinished).map_err(io_error("hand over", &self.unfinished))
    }

    /// Removes what a crash in the middle of a creation left.
    pub(super) fn remove_unfinished(&self) -> Result<(), EmbeddedError> {
        match fs::remove_dir_all(&self.unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &self.unfinished)(error))
            }
            _ => Ok(()),
        }
    }

    /// Gives a complete cluster its name, and makes that survive a power failure.
    pub(super) fn finish(&self) -> Result<(), EmbeddedError> {
        fs::rename(&self.unfinished, &self.cluster).map_err(io_error("name", &self.cluster))?;
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error("sync", &self.path))
    }

    /// Whether there is a cluster, and one that belongs to the user who is to run it.
    pub(super) fn has_cluster(&self, run_as: &RunAs) -> Result<bool, EmbeddedError> {
        if is_absent_or_empty(&self.cluster) {
            return Ok(false);
        }
        let facts = fs::metadata(&self.cluster).map_err(io_error("look at", &self.cluster))?;
        if facts.uid() != run_as.uid {
            return Err(EmbeddedError::NotOurs {
                directory: self.cluster.clone(),
                owner: facts.uid(),
                expected: run_as.name.clone(),
            });
        }
        if !self.cluster.join("PG_VERSION").exists() {
            return Err(EmbeddedError::NotACluster(self.cluster.clone()));
        }
        Ok(true)
    }

    /// Where Postgres writes its log files.
    pub(super) fn log(&self) -> PathBuf {
        self.cluster.join(settings::LOG_DIRECTORY)
    }
}

/// The directory of Postgres's socket.
#[derive(Debug, Clone)]
pub(super) struct SocketDirectory {
    pub(super) path: PathBuf,
    /// Whether it lies outside the data directory and has to be removed in the end.
    pub(super) is_temporary: bool,
}

impl SocketDirectory {
    /// Makes it inside the data directory, or, where that path is too long for a socket, in the
    /// system's temporary directory.
    pub(super) fn make(directory: &DataDirectory, run_as: &RunAs) -> Result<Self, EmbeddedError> {
        remove_stale_short_one(&directory.cluster, run_as);
        let inside = directory.path.join("run");
        let socket = if fits(&inside) {
            create_private(&inside)?;
            Self { path: inside, is_temporary: false }
        } else {
            Self { path: make_short_one()?, is_temporary: true }
        };
        fs::set_permissions(&socket.path, Permissions::from_mode(0o700))
            .and_then(|()| run_as.own(&socket.path))
            .map_err(io_error("hand over", &socket.path))?;
        Ok(socket)
    }

    /// Removes the socket of an earlier run and its lock. That lock knows its postmaster by pid
    /// alone, so Postgres would give way to any process that has the number now. Only to be called
    /// once nothing works in the cluster any more.
    pub(super) fn clear(&self) -> Result<(), EmbeddedError> {
        for path in [socket_file(&self.path, ""), socket_file(&self.path, ".lock")] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// For a start that failed: no watchdog is left to remove it.
    pub(super) fn remove_if_temporary(&self) {
        if self.is_temporary {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

fn fits(socket_directory: &Path) -> bool {
    socket_file(socket_directory, "").as_os_str().len() <= LONGEST_SOCKET_PATH
}

/// The name is Postgres's; `.lock` is the suffix of its lock.
fn socket_file(socket_directory: &Path, suffix: &str) -> PathBuf {
    socket_directory.join(format!(".s.PGSQL.{}{suffix}", settings::PORT))
}

/// A new directory with a name nobody can have prepared.
fn make_short_one() -> Result<PathBuf, EmbeddedError> {
    let random = uuid::Uuid::now_v7().simple().to_string();
    let name = format!("{SHORT_SOCKET_PREFIX}{random}");
    let configured = env::temp_dir().join(&name);
    let path = if fits(&configured) { configured } else { Path::new("/tmp").join(&name) };
    // Not `create_private`: one that exists already is somebody else's.
    DirBuilder::new().mode(0o700).create(&path).map_err(io_error("create", &path))?;
    Ok(path)
}

/// Removes the short socket directory of a run whose watchdog was killed before it could.
fn remove_stale_short_one(cluster: &Path, run_as: &RunAs) {
    let Some(stale) = PidFile::read(cluster).and_then(|file| file.socket_directory) else { return };
    let is_short = stale
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(SHORT_SOCKET_PREFIX));
    let is_theirs =
        fs::symlink_metadata(&stale).is_ok_and(|facts| facts.is_dir() && facts.uid() == run_as.uid);
    if is_short && is_theirs && fs::remove_dir_all(&stale).is_err() {
        tracing::warn!(path = %stale.display(), "cannot remove the socket directory of an earlier run");
    }
}

/// Makes a directory that only we can enter; one that exists is left as it is.
fn create_private(path: &Path) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("create", path)(error))
        }
        _ => Ok(()),
    }
}

fn is_absent_or_empty(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn check_owner(path: &Path, run_as: &RunAs, temporary: bool) -> Result<(), EmbeddedError> {
    let owner = fs::metadata(path).map_err(io_error("look at", path))?.uid();
    let own = rustix::process::geteuid().as_raw();
    if owner == own || (temporary && owner == run_as.uid) {
        return Ok(());
    }
    let expected = if own == 0 { "root".to_owned() } else { own.to_string() };
    Err(EmbeddedError::NotOurs { directory: path.to_owned(), owner, expected })
}

fn take_lock(data_dir: &Path) -> Result<File, EmbeddedError> {
    let path = data_dir.join("lock");
    let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_link)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A holder that is just starting may not have written its number yet.
            drop(file.read_to_string(&mut holder));
            let pid = holder.trim().parse().ok();
            return Err(EmbeddedError::InUse { data_dir: data_dir.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write", &path))?;
    Ok(file)
}
