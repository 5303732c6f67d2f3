//! What may be asked of a sandbox: profiles, their defaults, and the validation of a request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nightfleet_spawner::wire::{self, Bind, Limits, Network, Setup};

use crate::cores::Topology;
use crate::error::{Error, Result};

/// Largest environment and argument list together, bytes: they travel in one message.
const MAX_WORDS_BYTES: usize = wire::MAX_MESSAGE_BYTES / 2;
/// By default the scratch file system holds at most this part of the memory limit: what lies
/// there is memory too, and stays when its writer is killed, so it should not fill the limit alone.
const SCRATCH_PART: u64 = 4;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a sandbox is for; each profile is a set of defaults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// One timed or hashed run: the tree read-only, no network, no sockets.
    Trial,
    /// Building a tree: writable, no network, UNIX sockets for build tools.
    Build,
    /// Fetching dependencies: writable, the host's network.
    SetUp,
    /// A test suite: writable, loopback.
    Test,
    /// A frozen scorer over saved output: as a trial.
    Scorer,
    /// An agent's shell: writable, no network.
    Agent,
}

impl Profile {
    /// Every profile and its name.
    pub const NAMES: [(&'static str, Profile); 6] = [
        ("trial", Profile::Trial),
        ("build", Profile::Build),
        ("setup", Profile::SetUp),
        ("test", Profile::Test),
        ("scorer", Profile::Scorer),
        ("agent", Profile::Agent),
    ];

    /// The profile of that name.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, profile)| *profile).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            Error::User(format!("profile: {name:?} is none; choose one of {}", names.join(", ")))
        })
    }

    fn read_only(self) -> bool {
        matches!(self, Profile::Trial | Profile::Scorer)
    }

    fn network(self) -> Network {
        match self {
            Profile::SetUp => Network::Host,
            Profile::Test => Network::Loopback,
            Profile::Trial | Profile::Build | Profile::Scorer | Profile::Agent => Network::None,
        }
    }

    /// Defaults of memory, tasks, one file, all scratch together.
    fn limits(self) -> (u64, u64, u64, u64) {
        if self.read_only() { (4 * GIB, 512, GIB, 256 * MIB) } else { (16 * GIB, 4096, 16 * GIB, 4 * GIB) }
    }
}

/// The network of that name.
pub fn parse_network(name: &str) -> Result<Network> {
    match name {
        "none" => Ok(Network::None),
        "loopback" => Ok(Network::Loopback),
        "host" => Ok(Network::Host),
        _ => Err(Error::User(format!("network: {name:?} is none; choose one of none, loopback, host"))),
    }
}

/// What the caller asks for. `None` means the profile's default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host directory that appears as /tree.
    pub tree: PathBuf,
    /// What it is for.
    pub profile: Profile,
    /// Further host paths.
    pub binds: Vec<Bind>,
    /// Variables added to the clean environment.
    pub environment: BTreeMap<String, String>,
    /// Cores of the program; empty means all.
    pub cores: Vec<usize>,
    /// What it may reach.
    pub network: Option<Network>,
    /// Memory of the whole tree, bytes.
    pub memory_bytes: Option<u64>,
    /// Tasks at one time.
    pub pids: Option<u64>,
    /// Largest file written, bytes.
    pub file_bytes: Option<u64>,
    /// Size of the scratch file system that /tmp, HOME, /dev/shm and /out share, bytes.
    pub scratch_bytes: Option<u64>,
    /// Go without isolation.
    pub unsafe_no_sandbox: bool,
}

impl Options {
    /// The profile's defaults for a tree.
    pub fn new(tree: PathBuf, profile: Profile) -> Self {
        Self {
            tree,
            profile,
            binds: Vec::new(),
            environment: BTreeMap::new(),
            cores: Vec::new(),
            network: None,
            memory_bytes: None,
            pids: None,
            file_bytes: None,
            scratch_bytes: None,
            unsafe_no_sandbox: false,
        }
    }

    /// The limit on memory: what was asked for, or the profile's. Errors: `User` for 0.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        let bytes = positive("memory_bytes", self.memory_bytes.unwrap_or(self.profile.limits().0))?;
        at_most("memory_bytes", bytes, MOST_BYTES)
    }
}

/// Validates the request and fills in the profile's defaults.
pub(crate) fn plan(options: &Options, scratch: Option<&Path>) -> Result<Setup> {
    let profile = options.profile;
    let (_, pids, file_bytes, scratch_bytes) = profile.limits();
    let memory_bytes = options.memory_bytes()?;
    let tree = existing(&options.tree, "tree")?;
    if tree.to_str().is_none() {
        return Err(Error::User(format!("tree: {} is not UTF-8; use another path", tree.display())));
    }
    if !tree.is_dir() {
        return Err(Error::User(format!("tree: {} is no directory", tree.display())));
    }
    let topology = Topology::read()?;
    for (index, core) in options.cores.iter().enumerate() {
        if options.cores[..index].contains(core) {
            return Err(Error::User(format!("cores: {core} is named twice")));
        }
        if !topology.allowed.contains(core) {
            let allowed: Vec<_> = topology.allowed.iter().map(ToString::to_string).collect();
            return Err(Error::User(format!("cores: {core} is not among those allowed here ({})", allowed.join(", "))));
        }
    }
    let limits = Limits {
        pids: at_most("pids", positive("pids", options.pids.unwrap_or(pids))?, MOST_PIDS)?,
        file_bytes: options.file_bytes.unwrap_or(file_bytes),
        scratch_bytes: match options.scratch_bytes {
            Some(bytes) => positive("scratch_bytes", bytes)?,
            None => scratch_bytes.min(memory_bytes / SCRATCH_PART),
        },
        open_files: if profile.read_only() { 4096 } else { 65_536 },
    };
    let binds = options.binds.iter().map(resolve_bind).collect::<Result<Vec<_>>>()?;
    Ok(Setup {
        isolate: !options.unsafe_no_sandbox,
        tree_writable: !profile.read_only(),
        environment: environment(options, scratch)?,
        tree,
        binds,
        network: options.network.unwrap_or(profile.network()),
        unix_sockets: !profile.read_only(),
        limits,
        cores: options.cores.clone(),
        counted_tasks: None,
        joins: 0,
        meters: Vec::new(),
    })
}

/// The kernel knows no more process ids than this.
const MOST_PIDS: u64 = 1 << 22;
/// More memory than any machine has; beyond it control groups mean "no limit".
const MOST_BYTES: u64 = 1 << 60;

fn at_most(name: &str, value: u64, most: u64) -> Result<u64> {
    if value > most { Err(Error::User(format!("{name}: {value} is too many; the most is {most}"))) } else { Ok(value) }
}

fn positive(name: &str, value: u64) -> Result<u64> {
    if value == 0 { Err(Error::User(format!("{name}: 0 is too few; the least is 1"))) } else { Ok(value) }
}

fn existing(path: &Path, what: &str) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| Error::User(format!("{what}: {}: {error}", path.display())))
}

/// Places inside that the sandbox furnishes itself.
const OWN_PLACES: [&str; 6] = ["/", "/tree", "/tmp", "/out", "/home/nightfleet", "/dev/shm"];
/// Places of which nothing below may be replaced either.
const OWN_ROOTS: [&str; 4] = ["/proc", "/dev", "/.scratch", "/.covered"];

fn resolve_bind(bind: &Bind) -> Result<Bind> {
    let what = if bind.writable { "write" } else { "read" };
    if !bind.target.is_absolute() || bind.target.components().any(|c| c.as_os_str() == "..") {
        return Err(Error::User(format!("{what}: {} is not an absolute path without `..`", bind.target.display())));
    }
    let within = |root: &&str| bind.target.starts_with(root) && !bind.target.starts_with("/dev/shm");
    if OWN_PLACES.iter().any(|place| bind.target == Path::new(place)) || OWN_ROOTS.iter().any(within) {
        return Err(Error::User(format!("{what}: {} belongs to the sandbox itself", bind.target.display())));
    }
    Ok(Bind { source: existing(&bind.source, what)?, ..bind.clone() })
}

/// The clean environment: fixed values, then the caller's. Nothing is inherited.
fn environment(options: &Options, scratch: Option<&Path>) -> Result<Vec<(String, String)>> {
    let inside = |place: &str| match scratch {
        Some(directory) => directory.display().to_string(),
        None => place.to_owned(),
    };
    let mut all: BTreeMap<String, String> = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME".to_owned(), inside("/home/nightfleet")),
        ("TMPDIR".to_owned(), inside("/tmp")),
        ("USER".to_owned(), "nightfleet".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("NIGHTFLEET_OUT".to_owned(), inside("/out")),
    ]);
    let mut bytes = 0;
    for (name, value) in &options.environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::User(format!("env: {name:?} is no name and value for an environment")));
        }
        bytes += name.len() + value.len();
        all.insert(name.clone(), value.clone());
    }
    if bytes > MAX_WORDS_BYTES {
        return Err(Error::User(format!("env: {bytes} bytes; the limit is {MAX_WORDS_BYTES}")));
    }
    Ok(all.into_iter().collect())
}

/// Checks a working directory. Errors: `User` for one that is not absolute or has a NUL.
pub fn check_directory(cwd: &str) -> Result<()> {
    if !cwd.starts_with('/') || cwd.contains('\0') || cwd.len() > 4096 {
        return Err(Error::User(format!(
            "cwd: {:?} is no absolute path inside the sandbox",
            &cwd[..cwd.len().min(80)]
        )));
    }
    Ok(())
}

/// Checks a command line. Errors: `User` when it is empty, has a NUL or is too long.
pub fn check_argv(argv: &[String]) -> Result<()> {
    let bytes: usize = argv.iter().map(|word| word.len() + 3).sum();
    if argv.first().is_none_or(String::is_empty) {
        return Err(Error::User("argv: the program's name is missing".to_owned()));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::User("argv: a word contains a NUL byte".to_owned()));
    }
    if bytes > MAX_WORDS_BYTES {
        return Err(Error::User(format!("argv: {bytes} bytes; the limit is {MAX_WORDS_BYTES}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new("/usr".into(), Profile::Trial)
    }

    fn message(options: &Options) -> String {
        match plan(options, None) {
            Err(Error::User(message)) => message,
            other => panic!("expected a user error, got {other:?}"),
        }
    }

    #[test]
    fn impossible_requests_name_the_value_and_the_limit() {
        assert!(message(&Options { tree: "/no/such".into(), ..options() }).contains("/no/such"));
        assert!(message(&Options { tree: "/etc/passwd".into(), ..options() }).contains("no directory"));
        assert!(message(&Options { cores: vec![99_999], ..options() }).contains("99999"));
        assert!(message(&Options { pids: Some(0), ..options() }).contains("the least is 1"));
        let bind = |target: &str| Bind { source: "/usr".into(), target: target.into(), writable: false };
        assert!(message(&Options { binds: vec![bind("usr")], ..options() }).contains("absolute"));
        assert!(message(&Options { binds: vec![bind("/a/../b")], ..options() }).contains("`..`"));
        assert!(message(&Options { binds: vec![bind("/proc")], ..options() }).contains("belongs to the sandbox"));
        let environment = BTreeMap::from([("A=B".to_owned(), String::new())]);
        assert!(message(&Options { environment, ..options() }).contains("A=B"));
        assert!(matches!(Profile::parse("trail"), Err(Error::User(m)) if m.contains("trial, build")));
        assert!(check_argv(&[]).is_err() && check_argv(&["a\0".into()]).is_err());
        assert!(check_argv(&["x".repeat(MAX_WORDS_BYTES)]).is_err() && check_argv(&["x".into()]).is_ok());
    }

    #[test]
    fn nothing_of_the_callers_environment_is_inherited() {
        let setup = plan(&options(), None).unwrap();
        let names: Vec<_> = setup.environment.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HOME", "LANG", "NIGHTFLEET_OUT", "PATH", "TMPDIR", "USER"]);
        assert!(!setup.tree_writable && setup.network == Network::None && !setup.unix_sockets);
    }
}
