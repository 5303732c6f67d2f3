//! Where this process may make control groups: which hierarchies are mounted, and where we stand in them.

use std::fs;
use std::path::{Path, PathBuf};

use super::Version;

/// A mounted hierarchy and our own group in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub version: Version,
    /// v1: the controllers of the mount. v2 offers them per group instead.
    pub controllers: Vec<String>,
    pub mount: PathBuf,
    /// Our group's directory, at or below `mount`.
    pub own: PathBuf,
}

impl Hierarchy {
    /// Every hierarchy in which our own group is visible.
    pub(super) fn all() -> Vec<Hierarchy> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Hierarchy::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn parse(mountinfo: &str, membership: &str) -> Vec<Hierarchy> {
        let mut found: Vec<Hierarchy> = Vec::new();
        for mut hierarchy in mountinfo.lines().filter_map(|line| mounted(line, membership)) {
            hierarchy.controllers.sort_unstable();
            // The same hierarchy may be mounted twice; one way in is enough.
            if !found
                .iter()
                .any(|known| known.version == hierarchy.version && known.controllers == hierarchy.controllers)
            {
                found.push(hierarchy);
            }
        }
        found
    }

    /// Our own group, then its ancestors as far as they are mounted.
    pub(super) fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|path| path.starts_with(&self.mount))
    }
}

/// One line of mountinfo (proc_pid_mountinfo(5)):
/// `36 35 98:0 /root /mount options [optional fields] - type source super-options`.
fn mounted(line: &str, membership: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
    let (root, mount) = (unescape(before.next()?), PathBuf::from(unescape(before.next()?)));
    let (kind, super_options) = (after.next()?, after.nth(1)?);
    let version = match kind {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let path = member_of(version, super_options, membership)?;
    // A container may mount only its own part of the tree; outside a cgroup namespace, the path
    // still counts from the real root. A path with `..` lies outside and cannot be reached.
    let below = Path::new(path).strip_prefix(&root).ok()?;
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return None;
    }
    let controllers = match version {
        Version::V1 => super_options
            .split(',')
            .filter(|option| super::V1_CONTROLLERS.contains(option))
            .map(str::to_owned)
            .collect(),
        Version::V2 => Vec::new(),
    };
    let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
    (version == Version::V2 || !controllers.is_empty()).then_some(Hierarchy { version, controllers, mount, own })
}

/// Our path from `/proc/self/cgroup`: lines `id:controllers:path`, and `0::path` for v2.
fn member_of<'text>(version: Version, super_options: &str, membership: &'text str) -> Option<&'text str> {
    membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            Version::V2 => id == "0" && controllers.is_empty(),
            Version::V1 => {
                !controllers.is_empty()
                    && controllers.split(',').all(|name| super_options.split(',').any(|option| option == name))
            }
        };
        ours.then_some(path)
    })
}

/// mountinfo writes space, tab, line feed and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// What a child of a v2 group can count with, from that group's interface files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Offer {
    /// Only `cpu.stat`, which every group has.
    CpuOnly,
    /// Memory or pids, not both.
    Some,
    /// Both.
    All,
}

/// What children of `parent` get now, or could get once `switch_on` has written to it.
pub(super) fn offer(parent: &Path) -> Offer {
    let words = |file: &str| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let (mut enabled, available) = (words("cgroup.subtree_control"), words("cgroup.controllers"));
    if may_switch_on(parent) {
        enabled.push(' ');
        enabled.push_str(&available);
    }
    let has = |name: &str| enabled.split_ascii_whitespace().any(|word| word == name);
    match (has("memory"), has("pids")) {
        (true, true) => Offer::All,
        (false, false) => Offer::CpuOnly,
        _ => Offer::Some,
    }
}

/// The rule of "no internal processes": only the real root, which has no `cgroup.type`, or a group
/// without processes may hand controllers on. Writing pids alone would succeed and turn a populated
/// group into a threaded domain whose children can hold nothing, so the question comes first.
fn may_switch_on(parent: &Path) -> bool {
    let empty = fs::read_to_string(parent.join("cgroup.procs")).is_ok_and(|text| text.is_empty());
    let writable = fs::OpenOptions::new().write(true).open(parent.join("cgroup.subtree_control")).is_ok();
    writable && (empty || !parent.join("cgroup.type").exists())
}

/// Hands memory and pids on to the children of `parent`, where it has them and may.
pub(super) fn switch_on(parent: &Path) {
    if !may_switch_on(parent) {
        return;
    }
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    for name in available.split_ascii_whitespace().filter(|name| ["memory", "pids"].contains(name)) {
        // A refusal is seen afterwards: the child then lacks the file, and the facts say so.
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
        42 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory\n";
    const MEMBER: &str = "9:name=systemd:/\n5:devices:/\n4:memory:/a/b:c\n1:cpu,cpuacct:/\n0::/\n";

    fn found(mountinfo: &str, membership: &str) -> Vec<(Version, String, String)> {
        let show = |path: &Path| path.display().to_string();
        Hierarchy::parse(mountinfo, membership)
            .iter()
            .map(|at| (at.version, at.controllers.join(","), show(&at.own)))
            .collect()
    }

    #[test]
    fn the_hybrid_layout_is_understood() {
        assert_eq!(
            found(HYBRID, MEMBER),
            [
                (Version::V1, "cpuacct".into(), "/sys/fs/cgroup/cpu,cpuacct".into()),
                (Version::V1, "memory".into(), "/sys/fs/cgroup/memory/a/b:c".into()),
                (Version::V2, String::new(), "/sys/fs/cgroup/unified".into()),
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mount = "30 20 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(found(mount, "0::/docker/abc/x\n")[0].2, "/sys/fs/cgroup/x");
        assert_eq!(found(mount, "0::/docker/abc\n")[0].2, "/sys/fs/cgroup");
        assert!(found(mount, "0::/docker/abcdef\n").is_empty());
        assert!(found(mount, "0::/\n").is_empty(), "mounted from outside our namespace");
        let whole = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert!(found(whole, "0::/../other\n").is_empty(), "outside our namespace");
        assert!(found(whole, "").is_empty() && found("garbage\n - \n", MEMBER).is_empty());
        let spaced = "30 20 0:26 / /a\\040b rw - cgroup2 cgroup rw\n";
        assert_eq!(found(spaced, "0::/x\n")[0].2, "/a b/x");
    }

    #[test]
    fn ancestors_end_at_the_mount() {
        let at = &Hierarchy::parse(HYBRID, MEMBER)[1];
        let shown: Vec<_> = at.upwards().map(|path| path.display().to_string()).collect();
        assert_eq!(shown, ["/sys/fs/cgroup/memory/a/b:c", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"]);
    }

    #[test]
    fn a_populated_group_offers_only_what_is_already_on() {
        let group = std::env::temp_dir().join(format!("nightfleet-place-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let put = |file: &str, text: &str| fs::write(group.join(file), text).unwrap();
        put("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n");
        put("cgroup.subtree_control", "\n");
        put("cgroup.type", "domain\n");
        put("cgroup.procs", "812\n");
        assert_eq!(offer(&group), Offer::CpuOnly);
        switch_on(&group);
        assert_eq!(fs::read_to_string(group.join("cgroup.subtree_control")).unwrap(), "\n", "left alone");
        put("cgroup.subtree_control", "memory\n");
        assert_eq!(offer(&group), Offer::Some);
        put("cgroup.subtree_control", "cpu memory pids\n");
        assert_eq!(offer(&group), Offer::All);
        put("cgroup.subtree_control", "\n");
        put("cgroup.procs", "");
        assert_eq!(offer(&group), Offer::All, "an empty group could switch them on");
        put("cgroup.procs", "812\n");
        fs::remove_file(group.join("cgroup.type")).unwrap();
        assert_eq!(offer(&group), Offer::All, "the root is free of the rule");
        switch_on(&group);
        assert_eq!(
            fs::read_to_string(group.join("cgroup.subtree_control")).unwrap(),
            "+pids",
            "the last of two writes"
        );
        fs::remove_dir_all(group).unwrap();
    }
}
