//! The server's own secret, which signs and verifies the tokens of its callers.
//!
//! The embedded default makes one on its first start, in `DIR/secret`, readable by its owner alone.
//! Elsewhere the operator provides it, so that all servers of one database share it.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

/// The file's name in the data directory.
pub const SECRET_FILE: &str = "secret";
/// The fewest bytes of a secret: as many as HS256 hashes to (RFC 7518, section 3.2).
pub const SECRET_MINIMUM: usize = 32;
/// Bytes of the secret we make ourselves.
const GENERATED_BYTES: usize = 48;

/// Bytes that sign tokens. It never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why there is no usable secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Fewer bytes than [`SECRET_MINIMUM`].
    #[error(
        "{origin} holds {length} bytes; a secret needs at least {SECRET_MINIMUM}: make one with \
         `openssl rand -base64 48`"
    )]
    TooShort {
        /// Where it came from.
        origin: String,
        /// How long it is.
        length: usize,
    },
    /// Others may read the file.
    #[error("{} can be read by other users (mode {mode:o}); close it with: chmod 600 {}",
        .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read or written.
    #[error("{} cannot be {verb}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        verb: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// The system has no random bytes for us.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Secret {
    /// Takes a secret given in `origin`, such as the name of a variable. White space around it is
    /// not part of it, so that a file may end with a newline.
    pub fn new(text: &str, origin: impl Into<String>) -> Result<Self, SecretError> {
        let bytes = text.trim().as_bytes();
        if bytes.len() < SECRET_MINIMUM {
            return Err(SecretError::TooShort { origin: origin.into(), length: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Reads a file that only its owner may read.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |cause| SecretError::File { path: path.to_owned(), verb: "read", cause };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode });
        }
        Self::new(&fs::read_to_string(path).map_err(failed)?, path.display().to_string())
    }

    /// Reads the file, or makes a new secret where there is none.
    pub fn read_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::read(path) {
            Err(SecretError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0_u8; GENERATED_BYTES];
                getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
                write_private(path, &format!("{}\n", URL_SAFE_NO_PAD.encode(bytes)))?;
                Self::read(path)
            }
            outcome => outcome,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Writes a file that only its owner may read, whole or not at all: a reader never sees half.
pub fn write_private(path: &Path, text: &str) -> Result<(), SecretError> {
    let failed = |cause| SecretError::File { path: path.to_owned(), verb: "written", cause };
    let mut aside = path.to_owned().into_os_string();
    aside.push(".new");
    let write = || -> io::Result<()> {
        // A leftover of an interrupted start may have other permissions.
        if let Err(error) = fs::remove_file(&aside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_private_and_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SECRET_FILE);
        let first = Secret::read_or_create(&path).unwrap();
        assert!(first.bytes().len() >= SECRET_MINIMUM);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secret::read_or_create(&path).unwrap(), first);
        assert_eq!(format!("{first:?}"), "Secret(…)");
    }

    #[test]
    fn two_servers_never_make_the_same_secret() {
        let directory = tempfile::tempdir().unwrap();
        let first = Secret::read_or_create(&directory.path().join("first")).unwrap();
        let second = Secret::read_or_create(&directory.path().join("second")).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SECRET_FILE);
        Secret::read_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secret::read_or_create(&path).unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: 0o644, .. }), "{error}");
    }

    #[test]
    fn a_short_secret_is_refused_and_not_repeated() {
        let error = Secret::new("hunter2\n", "TOLLGATE_JWT_SECRET").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        assert!(error.to_string().contains("TOLLGATE_JWT_SECRET holds 7 bytes"), "{error}");
    }
}
