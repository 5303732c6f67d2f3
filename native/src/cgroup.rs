//! A private control group for one trial slot, on v1, v2 or the hybrid of both.
//!
//! It counts what `rusage` can be hidden from (a child reaped with SIGCHLD ignored), holds limits on
//! memory and tasks, and kills a whole tree. Where the kernel or our user may not make one, there is
//! none and [`Facts`] says why: the trial then falls back to rlimits and wall time.
//!
//! The spawner joins by writing `0` to each of [`Slot::join_files`]; its children inherit. So the
//! spawner's own tasks and memory are inside too, and [`Limits::allowance`] makes room for them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nightfleet_spawner::meter::Meter;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::owner::Owner;

mod group;
mod leftover;
mod place;

pub use leftover::reclaim;

use group::Group;
use leftover::directory_name;
use place::Hierarchy;

/// The v1 controllers that a slot uses.
const V1_CONTROLLERS: [&str; 4] = ["cpuacct", "memory", "pids", "freezer"];
const LONGEST_NAME: usize = 32;
/// How often a group is killed over again, 1 ms apart, before we call its processes immortal.
const KILL_ROUNDS: u32 = 2000;

/// Which of the kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Version {
    /// One hierarchy for each controller.
    #[serde(rename = "cgroup v1")]
    V1,
    /// The unified hierarchy.
    #[serde(rename = "cgroup v2")]
    V2,
}

/// By what something is held, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Held by a control group of this version.
    By(Version),
    /// Not held; the reason, for people.
    Lost(String),
}

/// What a slot's control groups give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// CPU time of the whole tree.
    pub cpu: Held,
    /// Memory of the whole tree: its limit and its peak.
    pub memory: Held,
    /// The cap on tasks.
    pub pids: Held,
    /// Killing the whole tree at once: `cgroup.kill`, or the v1 freezer. Without it, kills are repeated.
    pub kill: Held,
}

/// What a slot's processes may use together; none means no limit of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, swap included where it is accounted for.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Added to both for the spawner's own processes.
    pub allowance: Allowance,
}

/// Room for the spawner's own processes, which live in the same group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Added to [`Limits::memory_bytes`].
    pub memory_bytes: u64,
    /// Added to [`Limits::pids`].
    pub pids: u32,
}

/// The control groups of one trial slot. Dropping it kills what is left inside and removes them.
#[derive(Debug)]
pub struct Slot {
    groups: Vec<Group>,
    facts: Facts,
    process: u32,
}

impl Slot {
    /// Makes the groups and sets the limits; none where nothing is writable ([`Slot::probe`] says why).
    ///
    /// `name` is 1 to 32 of `a-z`, `0-9` and `-`, and unique within this process. It is visible in the
    /// trial's `/proc/self/cgroup` unless the spawner also makes a cgroup namespace.
    pub fn create(name: &str, limits: Limits) -> Result<Option<Slot>> {
        Ok(Slot::attempt(name, limits)?.0)
    }

    /// What a slot would give here, with a reason for all that it would not.
    pub fn probe() -> Result<Facts> {
        let name = format!("probe-{}", nix::unistd::gettid());
        Ok(Slot::attempt(&name, Limits::default())?.1)
    }

    /// What this slot gives.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// `cgroup.procs` of each group, for writing only; writing `0` moves the writer in.
    pub fn join_files(&self) -> Result<Vec<OwnedFd>> {
        self.groups
            .iter()
            .map(|group| group.open("cgroup.procs", false, true).map_err(|error| failed(group, &error)))
            .collect()
    }

    /// Every meter that works here, with its open file; the peak, if it can be reset, starts again now.
    pub fn meter_files(&self) -> Result<Vec<(Meter, OwnedFd)>> {
        let mut found: Vec<(Meter, OwnedFd)> = Vec::new();
        for group in &self.groups {
            for (meter, file) in self.meters_of(group) {
                let open = |meter, write| group.open(file, true, write).map(|opened| (meter, opened)).ok();
                // Before kernel 6.12, v2 lets nobody write to a peak.
                let resettable = |(meter, opened): &(Meter, OwnedFd)| meter.reset(opened).is_ok();
                let opened = match meter {
                    Meter::MemoryPeak => {
                        open(meter, true).filter(resettable).or_else(|| open(Meter::MemoryPeakEver, false))
                    }
                    _ => open(meter, false),
                };
                // A line or file that an older kernel lacks is a meter less, not a failure.
                found.extend(opened.filter(|(meter, opened)| meter.read(opened).is_ok()));
            }
        }
        Ok(found)
    }

    /// The meters that `group` is responsible for, and their files.
    fn meters_of(&self, group: &Group) -> Vec<(Meter, &'static str)> {
        let v1 = group.version == Version::V1;
        let mine = |held: &Held, file: &str| *held == Held::By(group.version) && group.has(file);
        let mut meters = Vec::new();
        if mine(&self.facts.cpu, cpu_file(group.version)) {
            meters.push((if v1 { Meter::CpuacctUsage } else { Meter::CpuStat }, cpu_file(group.version)));
        }
        if mine(&self.facts.memory, memory_limit_file(group.version)) {
            meters.push((Meter::MemoryNow, if v1 { "memory.usage_in_bytes" } else { "memory.current" }));
            meters.push((Meter::MemoryPeak, if v1 { "memory.max_usage_in_bytes" } else { "memory.peak" }));
            meters.push((Meter::OomKills, if v1 { "memory.oom_control" } else { "memory.events" }));
        }
        if mine(&self.facts.pids, "pids.max") {
            meters.push((Meter::ForksRefused, "pids.events"));
        }
        meters
    }

    /// Kills everything in the slot, the spawner included, and returns when it is empty.
    pub fn kill_all(&self) -> Result<()> {
        let own = std::process::id() as i32;
        if self.groups.iter().any(|group| group.members().contains(&own)) {
            return Err(Error::Machine("this process is itself in the slot that it is to kill".into()));
        }
        for _ in 0..KILL_ROUNDS {
            // All of them, each round: a process may have joined only some of the groups.
            let populated = self.groups.iter().filter(|group| group.kill_members()).count();
            if populated == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let left: Vec<i32> = self.groups.iter().flat_map(Group::members).collect();
        Err(Error::Machine(format!("processes {left:?} of {} survive SIGKILL", self.groups[0].path.display())))
    }

    fn attempt(name: &str, limits: Limits) -> Result<(Option<Slot>, Facts)> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fine) {
            return Err(Error::User(format!("slot name {name:?}: use 1 to {LONGEST_NAME} of a-z, 0-9 and -")));
        }
        let directory = directory_name(&Owner::own()?, name);
        let lost = Held::Lost(String::new());
        let facts = Facts { cpu: lost.clone(), memory: lost.clone(), pids: lost.clone(), kill: lost };
        // A slot from the first group on, so that an error half-way removes the others.
        let mut slot = Slot { groups: Vec::new(), facts, process: std::process::id() };
        let mut refusals = Vec::new();
        for hierarchy in Hierarchy::all() {
            match Group::create(&hierarchy, &directory) {
                Ok(group) => slot.groups.push(group),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::Machine(format!("slot {name} exists already: its directory is {directory}")));
                }
                Err(error) => refusals.push((hierarchy, error.to_string())),
            }
        }
        slot.facts = survey(&slot.groups, &refusals);
        slot.limit(limits)?;
        let facts = slot.facts.clone();
        Ok(((!slot.groups.is_empty()).then_some(slot), facts))
    }

    fn limit(&self, limits: Limits) -> Result<()> {
        for group in &self.groups {
            let mine = |held: &Held, file: &str| *held == Held::By(group.version) && group.has(file);
            if let Some(bytes) =
                limits.memory_bytes.filter(|_| mine(&self.facts.memory, memory_limit_file(group.version)))
            {
                limit_memory(group, bytes.saturating_add(limits.allowance.memory_bytes))?;
            }
            if let Some(pids) = limits.pids.filter(|_| mine(&self.facts.pids, "pids.max")) {
                group.set("pids.max", &pids.saturating_add(limits.allowance.pids).to_string())?;
            }
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A forked copy of the harness must not pull the groups from under the original.
        if self.process == std::process::id() {
            let _ = self.kill_all();
            // What cannot be removed now is a leftover that `reclaim` finds once we are gone.
            for group in &self.groups {
                group.remove();
            }
        }
    }
}

/// Who holds what: v1 where it has the controller, since v2 then lacks it.
fn survey(groups: &[Group], refusals: &[(Hierarchy, String)]) -> Facts {
    let held = |controller: &str, holder: Option<&Group>| match holder {
        Some(group) => Held::By(group.version),
        None => Held::Lost(why_lost(controller, groups, refusals)),
    };
    let having = |file: &str| groups.iter().find(|group| group.has(file));
    let by_version = |file: fn(Version) -> &'static str| groups.iter().find(|group| group.has(file(group.version)));
    Facts {
        // Every v2 group has a `cpu.stat`, so v1 is asked first.
        cpu: held("cpuacct", having("cpuacct.usage").or_else(|| having("cpu.stat"))),
        memory: held("memory", by_version(memory_limit_file)),
        pids: held("pids", having("pids.max")),
        // v2 kills all at once; v1 can only hold them still while it kills one by one.
        kill: held("freezer", having("cgroup.kill").or_else(|| having("freezer.state"))),
    }
}

fn why_lost(controller: &str, groups: &[Group], refusals: &[(Hierarchy, String)]) -> String {
    let v1 = refusals.iter().find(|(hierarchy, _)| hierarchy.controllers.iter().any(|name| name == controller));
    let v2 = refusals.iter().find(|(hierarchy, _)| hierarchy.version == Version::V2);
    match (v1, v2) {
        (Some((_, reason)), _) => format!("cgroup v1 {controller}: {reason}"),
        (None, Some((_, reason))) => format!("cgroup v2: {reason}"),
        (None, None) if groups.iter().any(|group| group.version == Version::V2) => {
            format!("cgroup v2 offers no {controller} here, and v1 does not have it")
        }
        (None, None) => "no control group of ours is mounted in sight".into(),
    }
}

fn cpu_file(version: Version) -> &'static str {
    if version == Version::V1 { "cpuacct.usage" } else { "cpu.stat" }
}

fn memory_limit_file(version: Version) -> &'static str {
    if version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" }
}

/// Memory and swap together: a limit that swap can get around is none.
fn limit_memory(group: &Group, bytes: u64) -> Result<()> {
    group.set(memory_limit_file(group.version), &bytes.to_string())?;
    // v1's second limit is on the sum and may not be lower than the first; v2's is on swap alone.
    let (file, value) =
        if group.version == Version::V1 { ("memory.memsw.limit_in_bytes", bytes) } else { ("memory.swap.max", 0) };
    if group.has(file) { group.set(file, &value.to_string()) } else { Ok(()) }
}

fn failed(group: &Group, error: &std::io::Error) -> Error {
    Error::Machine(format!("control group {}: {error}", group.path.display()))
}

#[cfg(test)]
mod tests;
