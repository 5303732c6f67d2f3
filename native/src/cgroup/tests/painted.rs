//! The names and preferences of both versions, on plain files: no kernel offers all of them at once.

use super::*;

/// A directory of plain files that stands for a group of the kernel's; nothing is done when it drops.
fn painted(name: &str, version: Version, files: &[(&str, &str)]) -> Slot {
    let path = env::temp_dir().join(format!("nightfleet-painted-{name}-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    for (file, text) in files {
        fs::write(path.join(file), text).unwrap();
    }
    let groups = vec![Group { version, path }];
    let facts = survey(&groups, &[]);
    Slot { groups, facts, process: 0 }
}

#[test]
fn every_v2_file_is_found_under_its_name() {
    let files = [
        ("cpu.stat", "usage_usec 2\nuser_usec 1\nsystem_usec 1\n"),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.events", "low 0\nhigh 0\nmax 1\noom 1\noom_kill 3\n"),
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("pids.events", "max 4\n"),
        ("pids.max", "max\n"),
        ("cgroup.kill", ""),
    ];
    let slot = painted("v2", Version::V2, &files);
    let by = Held::By(Version::V2);
    assert_eq!(slot.facts, Facts { cpu: by.clone(), memory: by.clone(), pids: by.clone(), kill: by });
    let meters = slot.meter_files().unwrap();
    let found: Vec<_> = meters.iter().map(|(meter, file)| (*meter, meter.read(file).unwrap())).collect();
    let expected = [
        (Meter::CpuStat, 2000),
        (Meter::MemoryNow, 4096),
        // It was reset, as its new meaning demands; a plain file keeps the other digits.
        (Meter::MemoryPeak, 192),
        (Meter::OomKills, 3),
        (Meter::ForksRefused, 4),
    ];
    assert_eq!(found, expected);
    let allowance = Allowance { memory_bytes: 24, pids: 2 };
    slot.limit(Limits { memory_bytes: Some(1000), pids: Some(8), allowance }).unwrap();
    let path = &slot.groups[0].path;
    let limits = ["memory.max", "memory.swap.max", "pids.max"].map(|file| fs::read_to_string(path.join(file)).unwrap());
    assert_eq!(limits, ["1024", "0", "10"]);
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn what_a_kernel_lacks_is_a_meter_less_and_a_reason_more() {
    let old = painted(
        "old",
        Version::V2,
        &[("cpu.stat", "usage_usec 2\n"), ("memory.max", "max\n"), ("memory.events", "oom 0\n")],
    );
    let meters: Vec<_> = old.meter_files().unwrap().into_iter().map(|(meter, _)| meter).collect();
    assert_eq!(meters, [Meter::CpuStat], "no memory.current, no peak, no oom_kill line");
    assert_eq!(old.facts.pids, Held::Lost("cgroup v2 offers no pids here, and v1 does not have it".into()));
    fs::remove_dir_all(&old.groups[0].path).unwrap();
    assert_eq!(survey(&[], &[]).cpu, Held::Lost("no control group of ours is mounted in sight".into()));
}

#[test]
fn on_a_hybrid_v1_counts_and_v2_kills() {
    let mut slot = painted("v1", Version::V1, &[("cpuacct.usage", "7\n"), ("freezer.state", "THAWED\n")]);
    let mut unified = painted("unified", Version::V2, &[("cpu.stat", "usage_usec 2\n"), ("cgroup.kill", "")]);
    for turn in 0..2 {
        let facts = survey(&slot.groups, &[]);
        let killer = if turn == 0 { Version::V1 } else { Version::V2 };
        assert_eq!((facts.cpu, facts.kill), (Held::By(Version::V1), Held::By(killer)));
        // v2 mounted before v1 must not change who counts.
        slot.groups.splice(0..0, std::mem::take(&mut unified.groups));
    }
    let meters: Vec<_> = slot.meter_files().unwrap().into_iter().map(|(meter, _)| meter).collect();
    assert_eq!(meters, [Meter::CpuacctUsage]);
    slot.groups.iter().for_each(|group| fs::remove_dir_all(&group.path).unwrap());
}

#[test]
fn a_group_that_takes_no_processes_is_not_kept() {
    let files = [("cgroup.procs", ""), ("cgroup.subtree_control", "\n"), ("cgroup.type", "domain\n")];
    let slot = painted("types", Version::V2, &files);
    let group = &slot.groups[0];
    group.accepts_processes().unwrap();
    for kind in ["domain invalid", "threaded", "domain threaded"] {
        fs::write(group.path.join("cgroup.type"), kind).unwrap();
        let refusal = group.accepts_processes().unwrap_err().to_string();
        assert!(refusal.ends_with(&format!("type {kind}")), "{refusal}");
    }
    // On plain files a new directory stays empty: it has no `cgroup.procs` to join by.
    for version in [Version::V1, Version::V2] {
        assert!(Group::create_in(version, &group.path, "child").is_err());
        assert!(!group.has("child"), "{version:?} left it behind");
    }
    fs::remove_dir_all(&group.path).unwrap();
}
