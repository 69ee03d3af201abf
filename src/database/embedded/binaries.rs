//! Finding Postgres's server programs: a configured directory, else Debian's newest, else `PATH`;
//! of those the major version that made the data directory, because no other can read it.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::error::EmbeddedError;

/// The oldest major version that the schema is tested with.
const OLDEST_MAJOR: u32 = 15;
/// Where Debian and Ubuntu keep one directory per major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";
/// What must be in a directory for it to be taken.
const PROGRAMS: [&str; 2] = ["postgres", "initdb"];

/// The server programs of one Postgres version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// Holds `postgres` and `initdb`.
    pub(super) directory: PathBuf,
    /// 15 for 15.8.
    pub(super) major: u32,
}

impl Binaries {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Where to look; the two places are fields so that tests can own them.
#[derive(Debug)]
pub(super) struct Search {
    configured: Option<PathBuf>,
    debian_root: PathBuf,
    path: OsString,
}

impl Search {
    /// The places of this machine.
    pub(super) fn new(configured: Option<PathBuf>) -> Self {
        Self {
            configured,
            debian_root: DEBIAN_ROOT.into(),
            path: env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// Finds the programs for `cluster`, which need not exist yet.
    pub(super) fn find(&self, cluster: &Path) -> Result<Binaries, EmbeddedError> {
        let made_by = major_of_cluster(cluster)?;
        let candidates = match &self.configured {
            Some(directory) => vec![configured(directory)?],
            None => self.installed(),
        };
        if let Some(made_by) = made_by {
            let fitting = candidates.iter().find(|candidate| candidate.major == made_by);
            return fitting.cloned().ok_or_else(|| EmbeddedError::OtherVersion {
                cluster: cluster.to_owned(),
                made_by,
                found: majors(&candidates),
                install: install_command(&format!("postgresql-{made_by}")),
            });
        }
        candidates.into_iter().next().ok_or_else(|| EmbeddedError::NoBinaries {
            searched: format!("{}/*/bin or PATH", self.debian_root.display()),
            install: install_command("postgresql"),
        })
    }

    /// All that are installed and new enough, the preferred one first.
    fn installed(&self) -> Vec<Binaries> {
        let mut debian: Vec<Binaries> = fs::read_dir(&self.debian_root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.parse().ok()?;
                Some(Binaries { directory: entry.path().join("bin"), major })
            })
            .filter(|binaries| missing_program(&binaries.directory).is_none())
            .collect();
        debian.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        let on_path = env::split_paths(&self.path)
            .filter(|directory| directory.is_absolute() && missing_program(directory).is_none())
            .filter_map(|directory| {
                let major = major_of_program(&directory.join("postgres")).ok()?;
                Some(Binaries { directory, major })
            });
        debian.into_iter().chain(on_path).filter(|found| found.major >= OLDEST_MAJOR).collect()
    }
}

fn configured(directory: &Path) -> Result<Binaries, EmbeddedError> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    if let Some(program) = missing_program(&directory) {
        return Err(EmbeddedError::MissingProgram { directory, program });
    }
    let major = major_of_program(&directory.join("postgres"))?;
    if major < OLDEST_MAJOR {
        return Err(EmbeddedError::TooOld {
            directory,
            found: major,
            oldest: OLDEST_MAJOR,
            install: install_command("postgresql"),
        });
    }
    Ok(Binaries { directory, major })
}

fn missing_program(directory: &Path) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| {
        !fs::metadata(directory.join(program))
            .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    })
}

/// The major version that made the cluster, or `None` where there is none yet.
fn major_of_cluster(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    let Ok(text) = fs::read_to_string(cluster.join("PG_VERSION")) else { return Ok(None) };
    let major = text.trim().parse();
    major.map(Some).map_err(|_| EmbeddedError::NotACluster(cluster.to_owned()))
}

fn major_of_program(program: &Path) -> Result<u32, EmbeddedError> {
    let unknown = |problem| EmbeddedError::UnknownVersion { program: program.to_owned(), problem };
    let answer = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| unknown(error.to_string()))?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    major_in(&text).ok_or_else(|| unknown(text))
}

/// The 15 in `postgres (PostgreSQL) 15.8 (Debian 15.8-1)`, the 18 in `… 18beta1`.
fn major_in(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = number.find(|character: char| !character.is_ascii_digit()).unwrap_or(number.len());
    number.get(..digits)?.parse().ok()
}

fn majors(candidates: &[Binaries]) -> String {
    let list: Vec<String> = candidates.iter().map(|found| found.major.to_string()).collect();
    if list.is_empty() { "no version".to_owned() } else { list.join(", ") }
}

fn install_command(package: &str) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install --yes {package}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree like Debian's, with a `postgres` that tells its version.
    fn machine(debian: &[u32], on_path: Option<u32>) -> (tempfile::TempDir, Search) {
        let root = tempfile::tempdir().unwrap();
        let debian_root = root.path().join("debian");
        fs::create_dir(&debian_root).unwrap();
        for major in debian {
            install(&debian_root.join(major.to_string()).join("bin"), *major);
        }
        let path = root.path().join("path");
        if let Some(major) = on_path {
            install(&path, major);
        }
        let search = Search { configured: None, debian_root, path: path.into() };
        (root, search)
    }

    fn install(directory: &Path, major: u32) {
        fs::create_dir_all(directory).unwrap();
        for program in PROGRAMS {
            let file = directory.join(program);
            fs::write(&file, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {major}.3 (x)'\n"))
                .unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn cluster_of(root: &Path, major: u32) -> PathBuf {
        let cluster = root.join("cluster");
        fs::create_dir(&cluster).unwrap();
        fs::write(cluster.join("PG_VERSION"), format!("{major}\n")).unwrap();
        cluster
    }

    #[test]
    fn the_newest_of_debian_comes_before_the_path() {
        let (root, search) = machine(&[15, 9, 17, 16], Some(18));
        assert_eq!(search.find(&root.path().join("none")).unwrap().major, 17);
    }

    #[test]
    fn the_version_that_made_the_cluster_has_priority() {
        let (root, search) = machine(&[15, 17], Some(16));
        let cluster = cluster_of(root.path(), 16);
        assert_eq!(search.find(&cluster).unwrap().directory, root.path().join("path"));
    }

    #[test]
    fn a_cluster_of_a_version_not_installed_names_the_package() {
        let (root, search) = machine(&[15], None);
        let error = search.find(&cluster_of(root.path(), 16)).unwrap_err().to_string();
        assert!(error.contains("apt-get install --yes postgresql-16"), "{error}");
    }

    #[test]
    fn nothing_found_names_the_exact_command() {
        let (root, search) = machine(&[13], None);
        let error = search.find(root.path()).unwrap_err().to_string();
        assert!(error.contains("apt-get install --yes postgresql"), "{error}");
    }

    #[test]
    fn a_configured_directory_is_taken_or_its_lack_named() {
        let (root, mut search) = machine(&[17], Some(16));
        search.configured = Some(root.path().join("path"));
        assert_eq!(search.find(root.path()).unwrap().major, 16);
        fs::remove_file(root.path().join("path/initdb")).unwrap();
        let error = search.find(root.path()).unwrap_err();
        assert!(matches!(error, EmbeddedError::MissingProgram { program: "initdb", .. }));
    }

    #[test]
    fn a_version_is_read_from_every_wording() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_in("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major_in("bash 5.2"), None);
    }
}
