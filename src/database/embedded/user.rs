//! Who Postgres runs as. It refuses root, so a server started by root hands its processes and
//! their files to an unprivileged user; anyone else runs it as themselves.

use std::{
    fs, os::unix::fs::MetadataExt, os::unix::process::CommandExt, path::Path, process::Command,
};

use super::error::EmbeddedError;

/// The user that Debian's packages create for Postgres, taken when root names nobody else.
const DEFAULT_USER: &str = "postgres";

/// The user and group that own the cluster and run its processes.
#[derive(Debug, Clone)]
pub(super) struct RunAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// For messages.
    pub(super) name: String,
    /// Whether that is somebody else than we are.
    pub(super) switches: bool,
}

impl RunAs {
    /// Decides from who we are and who was named.
    pub(super) fn resolve(named: Option<&str>) -> Result<Self, EmbeddedError> {
        let own_uid = rustix::process::geteuid().as_raw();
        if own_uid == 0 {
            let name = named.unwrap_or(DEFAULT_USER);
            let (uid, gid) = look_up(name).ok_or_else(|| match named {
                Some(name) => EmbeddedError::UnknownUser(name.to_owned()),
                None => EmbeddedError::NoUnprivilegedUser,
            })?;
            if uid == 0 {
                return Err(EmbeddedError::UserIsRoot(name.to_owned()));
            }
            return Ok(Self { uid, gid, name: name.to_owned(), switches: true });
        }
        if let Some(name) = named {
            let (uid, _) =
                look_up(name).ok_or_else(|| EmbeddedError::UnknownUser(name.to_owned()))?;
            if uid != own_uid {
                return Err(EmbeddedError::CannotSwitchUser(name.to_owned()));
            }
        }
        let gid = rustix::process::getegid().as_raw();
        Ok(Self { uid: own_uid, gid, name: own_uid.to_string(), switches: false })
    }

    /// Makes a command run as this user, without any other group of ours.
    pub(super) fn apply(&self, command: &mut Command) {
        if self.switches {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives a path to this user.
    pub(super) fn own(&self, path: &Path) -> std::io::Result<()> {
        if self.switches {
            return std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid));
        }
        Ok(())
    }

    /// The outermost directory on the way to `wanted`, itself included, that this user cannot
    /// enter. Judged by the mode bits; consulted only to explain an attempt that failed.
    pub(super) fn first_closed_directory<'a>(&self, wanted: &'a Path) -> Option<&'a Path> {
        let mut ancestors: Vec<&Path> = wanted.ancestors().collect();
        ancestors.reverse();
        ancestors.into_iter().find(|directory| {
            fs::metadata(directory).is_ok_and(|facts| {
                let bit = if facts.uid() == self.uid {
                    0o100
                } else if facts.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                facts.is_dir() && facts.mode() & bit == 0
            })
        })
    }
}

/// User and group id by name, from `id`, which knows directory services as well as /etc/passwd.
fn look_up(name: &str) -> Option<(u32, u32)> {
    let ask = |what: &str| -> Option<u32> {
        let answer = Command::new("id").args([what, "--", name]).output().ok()?;
        answer.status.success().then(|| String::from_utf8(answer.stdout).ok())??.trim().parse().ok()
    };
    Some((ask("-u")?, ask("-g")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_and_root_are_refused() {
        let unknown = RunAs::resolve(Some("no-such-user-here")).unwrap_err();
        assert!(matches!(unknown, EmbeddedError::UnknownUser(_)), "{unknown}");
        let root = RunAs::resolve(Some("root")).unwrap_err();
        assert!(
            matches!(root, EmbeddedError::UserIsRoot(_) | EmbeddedError::CannotSwitchUser(_)),
            "{root}"
        );
    }

    #[test]
    fn the_outermost_closed_directory_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let stranger =
            RunAs { uid: 4_000_000, gid: 4_000_000, name: "stranger".to_owned(), switches: true };
        assert_eq!(stranger.first_closed_directory(&inner), Some(outer.path()));
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(stranger.first_closed_directory(&inner), None);
    }
}
