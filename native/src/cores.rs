//! Which cores are timed on, which stay idle beside them, and which the harness itself may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// A set of logical cores by the kernel's numbers.
pub type CoreSet = BTreeSet<usize>;

/// A core busier than this before the lease is not free. One 10 ms tick in a 200 ms probe is 5%.
pub const QUIET_SHARE: f64 = 0.10;

/// The logical cores that this process may use and the physical cores they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Online and in the calling thread's affinity mask.
    pub allowed: CoreSet,
    /// Logical cores that share a physical one, each set including the core itself.
    pub siblings: BTreeMap<usize, CoreSet>,
    /// False where `/sys` does not tell; each core then counts as a physical one.
    pub siblings_known: bool,
}

/// Where the timed program runs and what that leaves for everyone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The cores of the timed program.
    pub leased: Vec<usize>,
    /// The other logical cores of the same physical ones: they must stay idle.
    pub siblings: Vec<usize>,
    /// The harness's own mask: allowed, neither leased nor a sibling.
    pub harness: Vec<usize>,
    /// True where nothing was left for the harness, so that its mask is every allowed core.
    pub harness_shares: bool,
}

impl Topology {
    /// The topology seen by the calling thread; ask before narrowing the mask to [`Choice::harness`].
    pub fn read() -> Result<Topology> {
        Ok(Topology::describe(affinity()?, Path::new("/sys/devices/system/cpu")))
    }

    fn describe(affinity: CoreSet, sys: &Path) -> Topology {
        // sched_getaffinity already leaves out what is offline, so a missing file loses nothing.
        let online = read_list(&sys.join("online")).unwrap_or_else(|| affinity.clone());
        let allowed: CoreSet = match &affinity & &online {
            both if both.is_empty() => affinity,
            both => both,
        };
        let known: BTreeMap<usize, CoreSet> =
            allowed.iter().filter_map(|core| Some((*core, siblings(sys, *core)?))).collect();
        let siblings_known = known.len() == allowed.len();
        let siblings = allowed
            .iter()
            .map(|core| (*core, known.get(core).cloned().unwrap_or_else(|| CoreSet::from([*core]))))
            .collect();
        Topology { allowed, siblings, siblings_known }
    }

    /// The allowed cores, one set for each physical core.
    fn physical(&self) -> BTreeSet<CoreSet> {
        self.allowed.iter().map(|core| &self.siblings[core] & &self.allowed).collect()
    }

    /// Chooses `count` cores, one for each physical core: the highest numbers among those that are
    /// quiet with all their siblings; core 0, which takes the interrupts, only when nothing else is left.
    ///
    /// `busy` is each core's busy share from a load probe; a core that it lacks counts as quiet.
    pub fn choose(&self, count: usize, busy: &BTreeMap<usize, f64>) -> Result<Choice> {
        let mut best: Vec<usize> = self.physical().iter().filter_map(|group| group.last().copied()).collect();
        if count == 0 || count > best.len() {
            return Err(Error::User(format!(
                "cores: {count} is impossible: this process may use {} physical cores (logical {}); set cores to 1{}",
                best.len(),
                format_list(&self.allowed),
                if best.len() > 1 { format!(" to {}", best.len()) } else { String::new() },
            )));
        }
        best.sort_by_key(|core| {
            let group = &self.siblings[core];
            let loud = group.iter().any(|sibling| busy.get(sibling).is_some_and(|share| *share > QUIET_SHARE));
            (*core == 0, loud, group.contains(&0), std::cmp::Reverse(*core))
        });
        best.truncate(count);
        Ok(self.complement(best))
    }

    fn complement(&self, mut leased: Vec<usize>) -> Choice {
        leased.sort_unstable();
        let whole: CoreSet = leased.iter().flat_map(|core| &self.siblings[core]).copied().collect();
        let siblings = whole.iter().filter(|core| !leased.contains(core)).copied().collect();
        let rest: Vec<usize> = self.allowed.difference(&whole).copied().collect();
        let harness_shares = rest.is_empty();
        let harness = if harness_shares { self.allowed.iter().copied().collect() } else { rest };
        Choice { leased, siblings, harness, harness_shares }
    }
}

fn affinity() -> Result<CoreSet> {
    // EINVAL: the kernel's mask is wider than the 1024 cores of a `cpu_set_t`.
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .map_err(|errno| Error::Machine(format!("the affinity mask could not be read: {errno}")))?;
    Ok((0..nix::sched::CpuSet::count()).filter(|core| mask.is_set(*core) == Ok(true)).collect())
}

fn siblings(sys: &Path, core: usize) -> Option<CoreSet> {
    let topology = sys.join(format!("cpu{core}/topology"));
    // `core_cpus_list` is the newer name (5.5) of the same list.
    ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|name| read_list(&topology.join(name)))
        .filter(|set| set.contains(&core))
}

fn read_list(path: &Path) -> Option<CoreSet> {
    parse_list(&fs::read_to_string(path).ok()?)
}

/// The kernel's list format, as `0-3,8,10-11`; none if it is empty or malformed.
fn parse_list(text: &str) -> Option<CoreSet> {
    const MOST: usize = 1 << 16;
    let mut set = CoreSet::new();
    for part in text.strip_suffix('\n').unwrap_or(text).split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

fn format_list(set: &CoreSet) -> String {
    set.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(groups: &[&[usize]], allowed: &[usize]) -> Topology {
        let siblings =
            groups.iter().flat_map(|group| group.iter().map(|core| (*core, group.iter().copied().collect()))).collect();
        Topology { allowed: allowed.iter().copied().collect(), siblings, siblings_known: true }
    }

    fn choose(topology: &Topology, count: usize, busy: &[(usize, f64)]) -> Choice {
        topology.choose(count, &busy.iter().copied().collect()).unwrap()
    }

    #[test]
    fn lists_are_read_and_garbage_is_not() {
        assert_eq!(parse_list("0-2,8\n"), Some(CoreSet::from([0, 1, 2, 8])));
        assert_eq!(parse_list("5"), Some(CoreSet::from([5])));
        for text in ["", "\n", "3-1", "a", "1,", "1-", "0-99999999", "1 2", "-1"] {
            assert_eq!(parse_list(text), None, "took {text:?}");
        }
    }

    #[test]
    fn the_highest_quiet_core_is_leased_and_its_sibling_kept_idle() {
        let smt = topology(&[&[0, 4], &[1, 5], &[2, 6], &[3, 7]], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let free = choose(&smt, 1, &[]);
        assert_eq!((&free.leased, &free.siblings), (&vec![7], &vec![3]));
        assert_eq!(free.harness, [0, 1, 2, 4, 5, 6]);
        let sibling_busy = choose(&smt, 1, &[(3, 0.9)]);
        assert_eq!(sibling_busy.leased, [6]);
        assert_eq!(choose(&smt, 2, &[(2, 0.5)]).leased, [5, 7]);
        assert_eq!(choose(&smt, 1, &[(3, QUIET_SHARE)]).leased, [7], "the limit itself is quiet");
    }

    #[test]
    fn a_busy_sibling_outside_our_mask_counts_too() {
        let smt = topology(&[&[1, 5], &[2, 6]], &[1, 2]);
        let choice = choose(&smt, 1, &[(6, 0.8)]);
        assert_eq!((choice.leased, choice.siblings, choice.harness), (vec![1], vec![5], vec![2]));
    }

    #[test]
    fn core_0_is_the_last_resort() {
        let plain = topology(&[&[0], &[1]], &[0, 1]);
        assert_eq!(choose(&plain, 1, &[(1, 1.0)]).leased, [1], "even a busy core is better");
        assert_eq!(choose(&plain, 2, &[]).leased, [0, 1]);
        let alone = choose(&topology(&[&[0]], &[0]), 1, &[]);
        assert_eq!((alone.leased, alone.harness, alone.harness_shares), (vec![0], vec![0], true));
        let high = topology(&[&[0, 9], &[1, 2]], &[0, 1, 2, 9]);
        assert_eq!(choose(&high, 1, &[]).leased, [2], "9 would silence core 0");
    }

    #[test]
    fn a_harness_without_a_core_shares_and_says_so() {
        let pair = choose(&topology(&[&[0, 1]], &[0, 1]), 1, &[]);
        assert_eq!(
            (pair.leased, pair.siblings, pair.harness, pair.harness_shares),
            (vec![1], vec![0], vec![0, 1], true)
        );
    }

    #[test]
    fn more_cores_than_physical_ones_are_refused_with_the_limit() {
        let smt = topology(&[&[0, 1], &[2, 3]], &[0, 1, 2, 3]);
        for count in [0, 3] {
            let Err(Error::User(message)) = smt.choose(count, &BTreeMap::new()) else { panic!("took {count}") };
            assert!(
                message.contains(&format!("cores: {count} ")) && message.ends_with("set cores to 1 to 2"),
                "{message}"
            );
        }
    }

    #[test]
    fn sys_is_believed_where_it_exists_and_missed_where_not() {
        let sys = std::env::temp_dir().join(format!("nightfleet-cores-{}", std::process::id()));
        fs::create_dir_all(sys.join("cpu0/topology")).unwrap();
        fs::create_dir_all(sys.join("cpu2/topology")).unwrap();
        fs::write(sys.join("online"), "0-2\n").unwrap();
        fs::write(sys.join("cpu0/topology/thread_siblings_list"), "0,2\n").unwrap();
        let mask = CoreSet::from([0, 2, 3]);
        let half = Topology::describe(mask.clone(), &sys);
        assert_eq!((half.allowed.clone(), half.siblings_known), (CoreSet::from([0, 2]), false));
        fs::write(sys.join("cpu2/topology/core_cpus_list"), "0,2\n").unwrap();
        assert!(Topology::describe(mask.clone(), &sys).siblings_known);
        fs::remove_dir_all(&sys).unwrap();
        let blind = Topology::describe(mask.clone(), &sys);
        assert_eq!((blind.allowed, blind.siblings_known, &blind.siblings[&3]), (mask, false, &CoreSet::from([3])));
    }

    #[test]
    fn this_machine_has_a_core_to_lease() {
        let here = Topology::read().unwrap();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        // The list may also name cores that are possible but offline.
        assert!(here.allowed.is_subset(&parse_list(list.unwrap()).unwrap()));
        let choice = here.choose(1, &BTreeMap::new()).unwrap();
        assert!(here.allowed.contains(&choice.leased[0]));
        assert!(choice.leased[0] != 0 || here.allowed.len() == 1);
    }
}
