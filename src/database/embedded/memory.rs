//! How much memory this process may use.

use std::{fs, path::Path};

/// Where Linux shows control groups (version 2; in version 1 no limit is seen).
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Bytes: the machine's, or what its control group or one above it is given, if that is less.
pub(super) fn available() -> u64 {
    let machine = rustix::system::sysinfo();
    let machine = machine.totalram.saturating_mul(u64::from(machine.mem_unit));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    granted(Path::new(CONTROL_GROUPS), &groups).map_or(machine, |granted| granted.min(machine))
}

/// The smallest limit of the group that `groups` (`/proc/self/cgroup`) names and those above it; `None`
/// where there is none. In a container the group's own directory may be the top.
fn granted(top: &Path, groups: &str) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directories = Path::new(group).ancestors();
    directories
        .filter_map(|directory| fs::read_to_string(top.join(directory).join("memory.max")).ok())
        // `max` is no limit.
        .filter_map(|limit| limit.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let top = tempfile::tempdir().unwrap();
        let group = top.path().join("system.slice/tollgate.service");
        fs::create_dir_all(&group).unwrap();
        let groups = "0::/system.slice/tollgate.service\n";
        assert_eq!(granted(top.path(), groups), None);
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(granted(top.path(), groups), None);
        fs::write(top.path().join("system.slice/memory.max"), "2147483648\n").unwrap();
        fs::write(group.join("memory.max"), "4294967296\n").unwrap();
        assert_eq!(granted(top.path(), groups), Some(2_147_483_648));
        assert_eq!(granted(top.path(), "9:memory:/system.slice\n"), None, "version 1");
    }

    #[test]
    fn a_machine_has_memory() {
        assert!(available() > 0);
    }
}
