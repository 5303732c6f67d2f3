//! Is the machine quiet enough to time on, and was anything taken from us while we did?
//!
//! Resolution: `/proc/stat` counts ticks of 10 ms. A share over a window of w is therefore known to
//! about 10 ms / w (5% for 200 ms), and a single stolen tick is anything from a moment to 10 ms.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result};

/// One tick of `/proc/stat`: USER_HZ is 100 in the ABI, whatever the kernel's own HZ.
pub const TICK: Duration = Duration::from_millis(10);

/// How much the clocks may part before we call it a suspend.
///
/// CLOCK_BOOTTIME counts suspended time and CLOCK_MONOTONIC does not; both come from the same
/// counter, so that without a suspend their difference is constant and only our reading of it errs
/// (by at most the bracket in [`Clocks`], which is subtracted). The shortest real suspend freezes
/// every process and device and takes tens of milliseconds.
pub const SUSPEND_THRESHOLD: Duration = Duration::from_millis(1);

/// One core's counters since boot, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// user + nice + system + irq + softirq; guest time is already inside user.
    pub busy: u64,
    /// idle + iowait.
    pub idle: u64,
    /// Wanted by us, given by the hypervisor to someone else.
    pub stolen: u64,
}

/// `/proc/stat` at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every online core of the machine, also those outside our affinity mask.
    pub cores: BTreeMap<usize, Ticks>,
    /// Runnable tasks on the whole machine, the reader included.
    pub runnable: u64,
}

/// What one core did over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoreLoad {
    /// Share of the window spent running anything, 0 to 1.
    pub busy: f64,
    /// Share of the window stolen by the hypervisor, 0 to 1.
    pub stolen: f64,
}

/// A load probe's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Every core that was online throughout.
    pub cores: BTreeMap<usize, CoreLoad>,
    /// Mean number of runnable tasks beside ourselves, sampled once a tick.
    pub others_runnable: f64,
}

impl Snapshot {
    /// The counters now.
    pub fn read() -> Result<Snapshot> {
        let text = fs::read_to_string("/proc/stat").map_err(|error| Error::Machine(format!("/proc/stat: {error}")))?;
        Snapshot::parse(&text).ok_or_else(|| Error::Machine("/proc/stat has an unknown form".into()))
    }

    fn parse(text: &str) -> Option<Snapshot> {
        let mut cores = BTreeMap::new();
        let mut runnable = None;
        for line in text.lines() {
            let (name, values) = line.split_once(' ')?;
            if name == "procs_running" {
                runnable = Some(values.parse().ok()?);
            } else if let Some(number) = name.strip_prefix("cpu").filter(|number| !number.is_empty()) {
                cores.insert(number.parse().ok()?, Ticks::parse(values)?);
            }
        }
        Some(Snapshot { cores, runnable: runnable? }).filter(|snapshot| !snapshot.cores.is_empty())
    }

    /// Ticks stolen from `cores` since `earlier`, summed. A core that went offline is an error: its
    /// counters are gone, and so is any claim about the time between.
    pub fn stolen_since(&self, earlier: &Snapshot, cores: &[usize]) -> Result<u64> {
        let stolen = |snapshot: &Snapshot, core: &usize| match snapshot.cores.get(core) {
            Some(ticks) => Ok(ticks.stolen),
            None => {
                Err(Error::Machine(format!("core {core} is not in /proc/stat: it is offline or hidden by a container")))
            }
        };
        cores.iter().map(|core| Ok(stolen(self, core)?.saturating_sub(stolen(earlier, core)?))).sum()
    }

    /// Each core's shares since `earlier`. A core that counted no tick at all is left out.
    pub fn load_since(&self, earlier: &Snapshot) -> BTreeMap<usize, CoreLoad> {
        let both = self.cores.iter().filter_map(|(core, now)| Some((*core, now.since(earlier.cores.get(core)?))));
        both.filter_map(|(core, ticks)| Some((core, ticks.shares()?))).collect()
    }
}

impl Ticks {
    /// `user nice system idle iowait irq softirq steal …`; what follows is contained in user and nice.
    fn parse(values: &str) -> Option<Ticks> {
        let fields: Vec<u64> =
            values.split_ascii_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = fields[..] else {
            return None;
        };
        Some(Ticks { busy: user + nice + system + irq + softirq, idle: idle + iowait, stolen })
    }

    /// iowait is documented to run backwards at times: such a difference is nothing, not a huge number.
    fn since(&self, earlier: &Ticks) -> Ticks {
        Ticks {
            busy: self.busy.saturating_sub(earlier.busy),
            idle: self.idle.saturating_sub(earlier.idle),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }

    fn shares(&self) -> Option<CoreLoad> {
        let all = self.busy + self.idle + self.stolen;
        (all > 0).then(|| CoreLoad { busy: self.busy as f64 / all as f64, stolen: self.stolen as f64 / all as f64 })
    }
}

impl Load {
    /// Watches the machine for `window` while sleeping; at least five ticks, below which shares mean nothing.
    pub fn probe(window: Duration, cancel: &AtomicBool) -> Result<Load> {
        if window < 5 * TICK {
            return Err(Error::User(format!(
                "a load probe of {window:?} is too short for ticks of 10 ms: ask for 50 ms or more"
            )));
        }
        let began = Instant::now();
        let first = Snapshot::read()?;
        let (mut last, mut others, mut samples) = (first.clone(), 0, 0_u32);
        while began.elapsed() < window {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(TICK);
            last = Snapshot::read()?;
            others += last.runnable.saturating_sub(1);
            samples += 1;
        }
        Ok(Load { cores: last.load_since(&first), others_runnable: others as f64 / f64::from(samples.max(1)) })
    }

    /// Busy shares alone, as [`crate::cores::Topology::choose`] takes them.
    pub fn busy(&self) -> BTreeMap<usize, f64> {
        self.cores.iter().map(|(core, load)| (*core, load.busy)).collect()
    }
}

/// How far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, and how well that is known.
///
/// A paused virtual machine stops both clocks alike and is not seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    ahead: Duration,
    /// Boottime was read between two readings of monotonic this far apart.
    bracket: Duration,
}

impl Clocks {
    /// Reads both; the tightest of a few tries, since we may be preempted between two calls.
    pub fn read() -> Result<Clocks> {
        let tries = (0..5).map(|_| Clocks::read_once()).collect::<Result<Vec<_>>>()?;
        Ok(tries.into_iter().min_by_key(|clocks| clocks.bracket).expect("five were read"))
    }

    fn read_once() -> Result<Clocks> {
        let time = |clock: ClockId| {
            clock_gettime(clock)
                .map(Duration::from)
                .map_err(|errno| Error::Machine(format!("clock {clock} could not be read: {errno}")))
        };
        let before = time(ClockId::CLOCK_MONOTONIC)?;
        let boot = time(ClockId::CLOCK_BOOTTIME)?;
        let after = time(ClockId::CLOCK_MONOTONIC)?;
        Ok(Clocks { ahead: boot.saturating_sub(after), bracket: after.saturating_sub(before) })
    }

    /// How long the machine was suspended since `earlier`; none if it was not.
    pub fn suspended_since(&self, earlier: &Clocks) -> Option<Duration> {
        let doubt = self.bracket + earlier.bracket;
        let grown = self.ahead.saturating_sub(earlier.ahead).saturating_sub(doubt);
        (grown > SUSPEND_THRESHOLD).then_some(grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "cpu  8626 0 2254 165147 288 0 32 11 0 0\ncpu0 3822 0 996 83347 26 0 9 4 0 0\ncpu1 4803 0 1257 81799 262 0 23 6 0 0\n\
        intr 156295 0 0 25\nctxt 283484\nbtime 1795168495\nprocesses 7140\nprocs_running 3\nprocs_blocked 0\nsoftirq 106039 0 15275 4\n";
    const LATER: &str = "cpu  8626 0 2254 165147 288 0 32 11 0 0\ncpu0 3825 1 1000 83356 25 1 10 6 3 0\ncpu1 4803 0 1257 81819 262 0 23 6 0 0\n\
        procs_running 1\n";

    fn sample(text: &str) -> Snapshot {
        Snapshot::parse(text).unwrap()
    }

    #[test]
    fn a_real_sample_is_read() {
        let snapshot = sample(EARLIER);
        assert_eq!(snapshot.runnable, 3);
        assert_eq!(snapshot.cores[&0], Ticks { busy: 3822 + 996 + 9, idle: 83347 + 26, stolen: 4 });
        assert_eq!(snapshot.cores.len(), 2, "the sum of all cores is no core");
    }

    #[test]
    fn shares_and_stolen_ticks_are_differences() {
        let (earlier, later) = (sample(EARLIER), sample(LATER));
        let load = later.load_since(&earlier);
        // core 0: 3 user + 1 nice + 4 system + 1 irq + 1 softirq = 10 busy, 9 - 1 idle, 2 stolen
        assert_eq!(load[&0], CoreLoad { busy: 0.5, stolen: 0.1 });
        assert_eq!(load[&1], CoreLoad { busy: 0.0, stolen: 0.0 });
        assert_eq!(later.stolen_since(&earlier, &[0, 1]), Ok(2));
        assert_eq!(later.stolen_since(&earlier, &[1]), Ok(0));
        assert_eq!(earlier.stolen_since(&later, &[0]), Ok(0), "never a huge number");
        assert!(
            matches!(later.stolen_since(&earlier, &[7]), Err(Error::Machine(message)) if message.contains("core 7"))
        );
        assert!(earlier.load_since(&earlier).is_empty(), "no tick, no share");
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "cpu0 1 2 3 4 5 6 7 8\n", "procs_running 1\n", "cpu0 1 2 3\nprocs_running 1\n"] {
            assert!(Snapshot::parse(text).is_none(), "took {text:?}");
        }
        assert!(Snapshot::parse("cpu0 1 2 3 4 5 6 7 x\nprocs_running 1\n").is_none());
        assert!(Snapshot::parse("cpux 1 2 3 4 5 6 7 8\nprocs_running 1\n").is_none());
        assert!(Snapshot::parse("cpu0 1 2 3 4 5 6 7 8\nprocs_running -1\n").is_none());
    }

    #[test]
    fn this_machine_can_be_probed() {
        let load = Load::probe(5 * TICK, &AtomicBool::new(false)).unwrap();
        assert!(load.busy().values().all(|share| (0.0..=1.0).contains(share)));
        assert!(load.others_runnable >= 0.0);
    }

    #[test]
    fn a_probe_can_be_cancelled_and_is_never_too_short() {
        assert_eq!(Load::probe(Duration::from_secs(3600), &AtomicBool::new(true)), Err(Error::Interrupted));
        assert!(matches!(Load::probe(Duration::from_millis(49), &AtomicBool::new(false)), Err(Error::User(_))));
    }

    #[test]
    fn only_growth_beyond_doubt_is_a_suspend() {
        let clocks = |ahead_us, bracket_us| Clocks {
            ahead: Duration::from_micros(ahead_us),
            bracket: Duration::from_micros(bracket_us),
        };
        let earlier = clocks(500, 1);
        assert_eq!(clocks(1501, 1).suspended_since(&earlier), None);
        assert_eq!(clocks(1502, 0).suspended_since(&earlier), Some(Duration::from_micros(1001)));
        assert_eq!(clocks(4000, 2600).suspended_since(&earlier), None, "we were preempted while reading");
        assert_eq!(clocks(0, 1).suspended_since(&earlier), None);
        assert_eq!(clocks(30_000_501, 1).suspended_since(&earlier), Some(Duration::from_micros(29_999_999)));
    }

    #[test]
    fn this_machine_did_not_suspend_between_two_lines() {
        let earlier = Clocks::read().unwrap();
        assert_eq!(Clocks::read().unwrap().suspended_since(&earlier), None);
    }
}
