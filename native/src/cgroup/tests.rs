//! On a machine where no group can be made, each test instead holds the facts to their promise of a reason.

use super::*;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

mod painted;

const CHILD_TASK: &str = "NIGHTFLEET_TEST_CGROUP";
const MIB: u64 = 1 << 20;

fn slot(name: &str, limits: Limits) -> Option<Slot> {
    let slot = Slot::create(name, limits).unwrap();
    if slot.is_none() {
        let facts = Slot::probe().unwrap();
        for held in [&facts.cpu, &facts.memory, &facts.pids, &facts.kill] {
            assert!(matches!(held, Held::Lost(reason) if !reason.is_empty()), "{facts:?}");
        }
    }
    slot
}

/// A shell that joined the slot before it was executed, as the spawner does.
fn shell(slot: &Slot, script: &str) -> Command {
    let files = slot.join_files().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec only write(2) is called, on descriptors that the closure owns.
    unsafe {
        command.pre_exec(move || {
            let joined = files.iter().all(|file| libc::write(file.as_raw_fd(), c"0".as_ptr().cast(), 1) == 1);
            if joined { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command
}

fn value(meters: &[(Meter, OwnedFd)], wanted: Meter) -> Option<u64> {
    meters.iter().find(|(meter, _)| *meter == wanted).map(|(meter, file)| meter.read(file).unwrap())
}

fn line_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

fn gone(slot: Slot) {
    let paths: Vec<PathBuf> = slot.groups.iter().map(|group| group.path.clone()).collect();
    assert!(paths.iter().all(|path| path.is_dir()));
    drop(slot);
    assert!(!paths.iter().any(|path| path.exists()), "left behind: {paths:?}");
}

#[test]
fn a_tree_is_counted_even_where_its_child_is_reaped_by_nobody() {
    let Some(slot) = slot("count", Limits::default()) else {
        return;
    };
    let meters = slot.meter_files().unwrap();
    let cpu = if slot.facts.cpu == Held::By(Version::V1) { Meter::CpuacctUsage } else { Meter::CpuStat };
    assert_eq!(value(&meters, cpu), Some(0));
    // The loop runs in a grandchild whose parent ignores SIGCHLD: rusage would not show it.
    let status =
        shell(&slot, "trap '' CHLD; (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done) & wait").status().unwrap();
    assert!(status.success());
    assert!(value(&meters, cpu).unwrap() > 1_000_000, "20,000 rounds of a shell take more than a millisecond");
    gone(slot);
}

#[test]
fn the_peak_starts_again_when_it_is_reset() {
    let Some(slot) = slot("peak", Limits::default()) else {
        return;
    };
    let meters = slot.meter_files().unwrap();
    let Some((peak, file)) = meters.iter().find(|(meter, _)| *meter == Meter::MemoryPeak) else {
        assert!(value(&meters, Meter::MemoryPeakEver).is_some() || slot.facts.memory != Held::By(Version::V1));
        return;
    };
    let hungry = "head -c 33554432 /dev/zero | tail -c 33554432 > /dev/null";
    assert!(shell(&slot, hungry).status().unwrap().success());
    assert!(peak.read(file).unwrap() > 32 * MIB);
    peak.reset(file).unwrap();
    assert!(peak.read(file).unwrap() < 32 * MIB);
    gone(slot);
}

#[test]
fn too_much_memory_is_killed_and_counted() {
    let limits = Limits {
        memory_bytes: Some(8 * MIB),
        allowance: Allowance { memory_bytes: 4 * MIB, pids: 0 },
        ..Limits::default()
    };
    let Some(slot) = slot("memory", limits) else {
        return;
    };
    if matches!(slot.facts.memory, Held::Lost(_)) {
        return;
    }
    let group = slot.groups.iter().find(|group| group.has(memory_limit_file(group.version))).unwrap();
    let limit = fs::read_to_string(group.path.join(memory_limit_file(group.version))).unwrap();
    assert_eq!(limit.trim().parse(), Ok(12 * MIB));
    let status = shell(&slot, "exec dd if=/dev/zero of=/dev/null bs=64M count=1").status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(value(&slot.meter_files().unwrap(), Meter::OomKills), Some(1));
    gone(slot);
}

#[test]
fn too_many_tasks_are_refused_and_counted() {
    let limits = Limits { pids: Some(2), allowance: Allowance { memory_bytes: 0, pids: 1 }, ..Limits::default() };
    let Some(slot) = slot("pids", limits) else {
        return;
    };
    if matches!(slot.facts.pids, Held::Lost(_)) {
        return;
    }
    let meters = slot.meter_files().unwrap();
    // Two children beside the shell are allowed, a third is not.
    let two = "sleep 1000 > /dev/null & sleep 1000 > /dev/null & echo two; read line";
    let mut child = shell(&slot, two).spawn().unwrap();
    assert_eq!(line_of(&mut child), "two\n");
    assert_eq!(value(&meters, Meter::ForksRefused), Some(0));
    slot.kill_all().unwrap();
    child.wait().unwrap();
    let status = shell(&slot, "sleep 1000 & sleep 1000 & sleep 1000 & echo three").status().unwrap();
    assert!(!status.success());
    assert!(value(&meters, Meter::ForksRefused).unwrap() >= 1);
    gone(slot);
}

#[test]
fn killing_reaches_those_who_left_their_session() {
    let Some(slot) = slot("kill", Limits::default()) else {
        return;
    };
    let mut child =
        shell(&slot, "setsid sh -c 'trap \"\" TERM HUP; echo deep; exec sleep 1000' & wait").spawn().unwrap();
    assert_eq!(line_of(&mut child), "deep\n");
    assert!(slot.groups.iter().all(|group| group.members().len() >= 2));
    slot.kill_all().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    // Its pipe ends only when nobody of the tree holds it any more.
    child.stdout.unwrap().read_to_end(&mut Vec::new()).unwrap();
    slot.kill_all().unwrap();
    gone(slot);
}

/// Kills a fresh tree in the slot by one group's means alone.
fn killed_by(slot: &Slot, group: &Group, attempt: impl Fn(&Group)) {
    let mut child = shell(slot, "sleep 1000 > /dev/null & echo up; wait").spawn().unwrap();
    assert_eq!(line_of(&mut child), "up\n");
    for _ in 0..KILL_ROUNDS {
        if group.members().is_empty() {
            break;
        }
        attempt(group);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(group.members(), [] as [i32; 0]);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn killing_works_by_each_means_alone() {
    let Some(slot) = slot("means", Limits::default()) else {
        return;
    };
    for group in &slot.groups {
        // By `cgroup.kill`, by the freezer, or by neither, whatever this group has.
        killed_by(&slot, group, |group| {
            group.kill_members();
        });
        // By signals, as on v2 before 5.14.
        killed_by(&slot, group, |group| group.signal(&group.members()));
    }
    gone(slot);
}

#[test]
fn dropping_a_slot_kills_what_is_inside() {
    let Some(slot) = slot("drop", Limits::default()) else {
        return;
    };
    let mut child = shell(&slot, "echo up; exec sleep 1000").spawn().unwrap();
    assert_eq!(line_of(&mut child), "up\n");
    gone(slot);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_slot_is_made_once_and_its_name_is_plain() {
    let long = "x".repeat(LONGEST_NAME + 1);
    for name in ["", "A", "a/b", "..", "a b", "é", &long] {
        assert!(matches!(Slot::create(name, Limits::default()), Err(Error::User(_))), "took {name:?}");
    }
    let Some(first) = slot("once", Limits::default()) else {
        return;
    };
    assert!(
        matches!(Slot::create("once", Limits::default()), Err(Error::Machine(message)) if message.contains("exists already"))
    );
    gone(first);
}

/// Not a test by itself: the harness of the tests below, in a process of its own.
#[test]
fn other_harness() {
    let Some(task) = env::var_os(CHILD_TASK) else {
        return;
    };
    let Some(slot) = slot("other", Limits::default()) else {
        return;
    };
    match task.to_str().unwrap() {
        "orphan" => drop(shell(&slot, "exec sleep 1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()),
        _ => join_and_refuse(&slot),
    }
    let paths: Vec<String> = slot.groups.iter().map(|group| group.path.display().to_string()).collect();
    // libtest captures `print!` but not this.
    std::io::stdout().write_all(format!("\nslot {}\n", paths.join(":")).as_bytes()).unwrap();
    let _ = std::io::stdin().read(&mut [0]);
    // With our own process inside, dropping cannot remove it: the parent's `reclaim` does.
}

fn join_and_refuse(slot: &Slot) {
    for file in slot.join_files().unwrap() {
        assert_eq!(nix::unistd::write(&file, b"0"), Ok(1));
    }
    assert!(slot.kill_all().is_err(), "it would kill ourselves");
}

fn run_other_harness(task: &str) -> (Child, Vec<PathBuf>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "cgroup::tests::other_harness", "--test-threads=1"])
        .env(CHILD_TASK, task)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(std::result::Result::ok);
    let slot = lines.filter_map(|line| line.strip_prefix("slot ").map(str::to_owned)).next();
    let paths = slot.map(|paths| paths.split(':').map(PathBuf::from).collect()).unwrap_or_default();
    (child, paths)
}

#[test]
fn only_the_slots_of_the_dead_are_reclaimed() {
    let Some(mine) = slot("mine", Limits::default()) else {
        return;
    };
    let (mut other, paths) = run_other_harness("orphan");
    assert!(!paths.is_empty() && paths.iter().all(|path| path.is_dir()));
    reclaim();
    assert!(paths.iter().all(|path| path.is_dir()), "its owner is alive");
    assert!(fs::read_to_string(paths[0].join("cgroup.procs")).unwrap().lines().count() == 1, "and so is its orphan");
    other.kill().unwrap();
    other.wait().unwrap();
    let removed = reclaim();
    // Another test's `reclaim` may have been quicker.
    assert!(removed.is_empty() || removed.iter().any(|path| paths.contains(path)), "{removed:?}");
    assert!(!paths.iter().any(|path| path.exists()));
    gone(mine);
}

#[test]
fn a_process_does_not_kill_itself_with_its_slot() {
    if slot("suicide", Limits::default()).is_none() {
        return;
    }
    let (mut other, paths) = run_other_harness("join");
    assert!(!paths.is_empty(), "the child failed or was killed");
    other.stdin.take();
    assert!(other.wait().unwrap().success());
    reclaim();
    assert!(!paths.iter().any(|path| path.exists()));
}
