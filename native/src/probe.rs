//! The probe: what this machine grants, and which of the sandbox's promises hold here by which mechanism.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use crate::cgroup::{Held, Slot, Version};
use crate::error::{Error, Result};
use crate::profile::{Options, Profile};
use crate::sandbox::{self, Sandbox};

/// What was found.
pub struct Found {
    /// Each feature of the kernel: "yes", a version, or "no: why".
    pub kernel: BTreeMap<String, String>,
    /// Each promise of a trial's sandbox: its mechanism, or "lost: why".
    pub promises: BTreeMap<String, String>,
    /// Why no sandbox can be built, where none can.
    pub below_minimum: Option<String>,
}

/// Surveys the kernel and builds one sandbox for real. Errors: `Machine` when not even the survey runs.
pub fn probe(cancel: &AtomicBool) -> Result<Found> {
    let mut kernel = survey()?;
    kernel.extend(groups());
    let tree = tempdir(cancel)?;
    let opened = Sandbox::open(&Options::new(tree.0.clone(), Profile::Trial), cancel);
    let (promises, below_minimum) = match opened {
        Ok(sandbox) => (sandbox.facts(), None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    Ok(Found { kernel, promises, below_minimum })
}

fn survey() -> Result<BTreeMap<String, String>> {
    let output = Command::new(sandbox::spawner_path()?)
        .arg("survey")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| Error::Machine(format!("the spawner could not be started: {error}")))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Machine(format!("the survey ended with {}: {error}", output.status)))
}

fn groups() -> Vec<(String, String)> {
    let facts = match Slot::probe() {
        Ok(facts) => facts,
        Err(error) => return vec![("control groups".to_owned(), format!("no: {error}"))],
    };
    let held = |name: &str, held: Held| {
        let words = match held {
            Held::By(Version::V1) => "yes: cgroup v1".to_owned(),
            Held::By(Version::V2) => "yes: cgroup v2".to_owned(),
            Held::Lost(why) => format!("no: {why}"),
        };
        (format!("control group: {name}"), words)
    };
    vec![
        held("cpu time", facts.cpu),
        held("memory", facts.memory),
        held("tasks", facts.pids),
        held("kill at once", facts.kill),
        ("control group: cpuset".to_owned(), cpuset()),
    ]
}

/// Whether a cpuset hierarchy could be written. Affinity itself is held by a system call that programs
/// are refused, so nothing depends on it.
fn cpuset() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let place = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind, options) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup" && options.split(',').any(|o| o == "cpuset")).then(|| path.to_owned())
    });
    match place {
        None => "no: no v1 hierarchy for it".to_owned(),
        Some(path) => match nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::W_OK) {
            Ok(()) => "yes: cgroup v1 (not needed: affinity is held by seccomp)".to_owned(),
            Err(errno) => format!("no: {}", errno.desc()),
        },
    }
}

struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn tempdir(cancel: &AtomicBool) -> Result<Scratch> {
    let template = std::env::temp_dir().join("nightfleet-probe-XXXXXX");
    let made = nix::unistd::mkdtemp(&template)
        .map(Scratch)
        .map_err(|errno| Error::Machine(format!("no directory like {}: {errno}", template.display())))?;
    sandbox::give_tree(&made.0, cancel)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_answered_yes_or_no_with_a_reason() {
        let found = probe(&AtomicBool::new(false)).unwrap();
        for (name, words) in &found.kernel {
            assert!(
                words.starts_with("yes") || words.starts_with("no: ") || words.starts_with("Landlock"),
                "{name}: {words}"
            );
        }
        assert_eq!(found.promises.is_empty(), found.below_minimum.is_some());
    }
}
