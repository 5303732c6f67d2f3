//! What a trial's control group counts, and how each kernel file spells it.
//!
//! The harness opens the files and sends them beside a JSON list of [`Meter`]s, in the same order;
//! the spawner's init reads them with `pread`, because it can no longer open `/sys/fs/cgroup`.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use serde::{Deserialize, Serialize};

/// The largest meter file that is read. The longest one (`cpu.stat`) stays under 1 KiB.
const LONGEST_FILE: usize = 4096;

/// One counter of a control group, named after the file that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// CPU time: v1 `cpuacct.usage`, in nanoseconds.
    CpuacctUsage,
    /// CPU time: v2 `cpu.stat`, line `usage_usec`, in microseconds.
    CpuStat,
    /// Memory charged now, in bytes: v1 `memory.usage_in_bytes`, v2 `memory.current`.
    MemoryNow,
    /// Highest memory charged since the group was made, or since [`Meter::reset`], in bytes:
    /// v1 `memory.max_usage_in_bytes`, v2 `memory.peak` from kernel 6.12 on.
    MemoryPeak,
    /// The same where it cannot be reset (v2 before 6.12): a maximum over all trials of the group.
    MemoryPeakEver,
    /// Processes killed for lack of memory: line `oom_kill` of v1 `memory.oom_control` or v2 `memory.events`.
    OomKills,
    /// Forks refused by the cap on tasks: line `max` of `pids.events`.
    ForksRefused,
}

/// Why a meter's file could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

impl Meter {
    /// The value in a file's text: nanoseconds for CPU time, bytes for memory, else a count.
    pub fn parse(self, text: &[u8]) -> Result<u64, Unreadable> {
        match self {
            Meter::CpuacctUsage | Meter::MemoryNow | Meter::MemoryPeak | Meter::MemoryPeakEver => single(text),
            Meter::CpuStat => keyed(text, "usage_usec")?
                .checked_mul(1000)
                .ok_or_else(|| Unreadable("usage_usec is too large to be nanoseconds".into())),
            Meter::OomKills => keyed(text, "oom_kill"),
            Meter::ForksRefused => keyed(text, "max"),
        }
        .map_err(|reason| Unreadable(format!("{self:?}: {reason}")))
    }

    /// Reads the meter from the start of its file, whatever was read before.
    pub fn read(self, file: impl AsFd) -> Result<u64, Unreadable> {
        let mut buffer = [0; LONGEST_FILE];
        let length = nix::sys::uio::pread(file, &mut buffer, 0)
            .map_err(|errno| Unreadable(format!("{self:?} could not be read: {errno}")))?;
        if length == LONGEST_FILE {
            return Err(Unreadable(format!("{self:?} is longer than {LONGEST_FILE} bytes")));
        }
        self.parse(&buffer[..length])
    }

    /// Lets a [`Meter::MemoryPeak`] start again from the present use.
    ///
    /// v1 resets the group's one peak; v2 resets the peak *of this open file*, so the descriptor
    /// that was reset must be the one that is read (passing it over a socket keeps it).
    pub fn reset(self, file: impl AsFd) -> Result<(), Unreadable> {
        if self != Meter::MemoryPeak {
            return Err(Unreadable(format!("{self:?} cannot be reset: take a difference")));
        }
        nix::sys::uio::pwrite(file.as_fd(), b"0", 0).map(drop).map_err(|errno| {
            Unreadable(format!("{self:?} (descriptor {}) could not be reset: {errno}", file.as_fd().as_raw_fd()))
        })
    }
}

/// A file that is one number and a line feed.
fn single(text: &[u8]) -> Result<u64, Unreadable> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    number(digits).ok_or_else(|| Unreadable(format!("expected one number, found {}", excerpt(text))))
}

/// The value of `key` in a file of `key value` lines; every line must have that form.
fn keyed(text: &[u8], key: &str) -> Result<u64, Unreadable> {
    let mut found = None;
    for line in text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ');
        let (name, value) = match (words.next(), words.next().and_then(number), words.next()) {
            (Some(name), Some(value), None) if !name.is_empty() => (name, value),
            _ => {
                return Err(Unreadable(format!("expected `name number`, found {}", excerpt(line))));
            }
        };
        if name == key.as_bytes() && found.replace(value).is_some() {
            return Err(Unreadable(format!("two lines are called {key}")));
        }
    }
    found.ok_or_else(|| Unreadable(format!("no line is called {key}")))
}

/// Decimal digits only: `str::parse` would also take a plus sign.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn excerpt(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&text[..text.len().min(40)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};

    // Copied from kernels 6.18 (v1 and v2 cpu.stat) and from the format in Documentation/admin-guide/cgroup-v2.rst.
    const CPU_STAT: &[u8] = b"usage_usec 20817\nuser_usec 12017\nsystem_usec 8800\nnice_usec 0\n";
    const CPU_STAT_WITH_CONTROLLER: &[u8] =
        b"usage_usec 977\nuser_usec 500\nsystem_usec 477\ncore_sched.force_idle_usec 0\n\
        nr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n";
    const OOM_CONTROL: &[u8] = b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
    const MEMORY_EVENTS: &[u8] = b"low 0\nhigh 0\nmax 41\noom 2\noom_kill 1\noom_group_kill 0\n";

    const EVERY: [Meter; 7] = [
        Meter::CpuacctUsage,
        Meter::CpuStat,
        Meter::MemoryNow,
        Meter::MemoryPeak,
        Meter::MemoryPeakEver,
        Meter::OomKills,
        Meter::ForksRefused,
    ];

    #[test]
    fn real_samples_are_read() {
        assert_eq!(Meter::CpuacctUsage.parse(b"166123456\n"), Ok(166_123_456));
        assert_eq!(Meter::CpuStat.parse(CPU_STAT), Ok(20_817_000));
        assert_eq!(Meter::CpuStat.parse(CPU_STAT_WITH_CONTROLLER), Ok(977_000));
        assert_eq!(Meter::MemoryNow.parse(b"0\n"), Ok(0));
        assert_eq!(Meter::MemoryPeak.parse(b"9223372036854771712\n"), Ok(9_223_372_036_854_771_712));
        assert_eq!(Meter::OomKills.parse(OOM_CONTROL), Ok(3));
        assert_eq!(Meter::OomKills.parse(MEMORY_EVENTS), Ok(1), "oom_kill, neither oom nor oom_group_kill");
        assert_eq!(Meter::ForksRefused.parse(b"max 5\n"), Ok(5));
        assert_eq!(Meter::ForksRefused.parse(MEMORY_EVENTS), Ok(41));
    }

    #[test]
    fn garbage_is_refused_by_every_meter() {
        let garbage: [&[u8]; 12] = [
            b"",
            b"\n",
            b"max\n",
            b"-1\n",
            b"+1\n",
            b" 1\n",
            b"1 \n",
            b"1\n\n",
            b"0x10\n",
            b"18446744073709551616\n",
            b"\xff\xfe",
            b"1\n2\n",
        ];
        for meter in EVERY {
            for text in garbage {
                assert!(meter.parse(text).is_err(), "{meter:?} took {}", excerpt(text));
            }
        }
    }

    #[test]
    fn broken_keyed_files_are_refused() {
        for text in [
            &b"usage_usec\n"[..],
            b"usage_usec  1\n",
            b"usage_usec 1 2\n",
            b"usage_usec 1\nusage_usec 2\n",
            b"usage_usec 1\n\nuser_usec 1\n",
            b" usage_usec 1\n",
            b"usage_usec 18446744073709551\nx y\n",
            b"usage_usec 18446744073709551615\n",
            b"xusage_usec 1\n",
        ] {
            assert!(Meter::CpuStat.parse(text).is_err(), "took {}", excerpt(text));
        }
    }

    #[test]
    fn a_file_is_read_from_its_start_each_time() {
        let mut file = scratch_file();
        file.write_all(b"12\n").unwrap();
        assert_eq!(Meter::MemoryNow.read(&file), Ok(12));
        assert_eq!(Meter::MemoryNow.read(&file), Ok(12));
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[b'7'; LONGEST_FILE + 1]).unwrap();
        assert!(Meter::MemoryNow.read(&file).unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn only_a_peak_is_reset() {
        let mut file = scratch_file();
        file.write_all(b"9").unwrap();
        for meter in EVERY {
            assert_eq!(meter.reset(&file).is_ok(), meter == Meter::MemoryPeak, "{meter:?}");
        }
        assert_eq!(Meter::MemoryPeak.read(&file), Ok(0));
    }

    #[test]
    fn the_list_travels_as_json() {
        let json = serde_json::to_string(&EVERY).unwrap();
        assert!(json.starts_with(r#"["cpuacct_usage","cpu_stat","memory_now""#), "{json}");
        assert_eq!(serde_json::from_str::<Vec<Meter>>(&json).unwrap(), EVERY);
        assert!(serde_json::from_str::<Vec<Meter>>(r#"["cpu"]"#).is_err());
    }

    fn scratch_file() -> std::fs::File {
        let name = c"nightfleet-meter";
        nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap().into()
    }
}
