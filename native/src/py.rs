//! The only file that knows Python: arguments in, one [`door`] to the work, results and errors out.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use numpy::ndarray::{Array2, Array3};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::buffer::PyBuffer;
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use nightfleet_spawner::wire::Bind;

use crate::batch::{Batch, Results, Shared, hold};
use crate::buffer::{self, MAX_CANONICAL_BYTES, Recipe};
use crate::canonical::{self, Canonical};
use crate::cores::{Choice, Topology};
use crate::digests;
use crate::error::Error;
use crate::files::FilesHasher;
use crate::lease;
use crate::load::Load;
use crate::pair;
use crate::probe;
use crate::profile;
use crate::records::{Digest, Framing};
use crate::sandbox;
use crate::trial::{self, Plan, Trial};
use crate::workload::{self, BlockRun, Bounds};

/// How often work that runs beside the calling thread lets Python's signal handlers run.
const POLL: Duration = Duration::from_millis(50);
/// Less than this is hashed within some milliseconds as it is; starting a thread would show.
const SHORT_BYTES: usize = 4 << 20;
/// The same for canonical forms, which are slower, an ignored pattern by much.
const SHORT_CANONICAL_BYTES: usize = 64 << 10;
/// More threads than any machine that this was tried on has cores.
const MAX_THREADS: usize = 256;

/// How long the load of all cores is watched before some are leased: 20 ticks resolve 5%.
const LOAD_WINDOW: Duration = Duration::from_millis(200);

type Cases<'py> = Bound<'py, PyArray1<i64>>;
type Digests<'py> = Bound<'py, PyArray2<u64>>;

create_exception!(
    nightfleet.native,
    UserError,
    PyValueError,
    "Something impossible was asked for; the message names the limit, the value and what to type instead."
);
create_exception!(
    nightfleet.native,
    MachineError,
    PyRuntimeError,
    "The kernel or the machine could not do what it should, or this library has a defect."
);

create_exception!(nightfleet.native, BusyError, MachineError, "The machine could do it, but others keep it busy now.");

#[pymodule]
mod _native {
    use super::{Bound, PyArray1, PyModule, PyResult, Python};

    /// Loads NumPy's interface now: later it would be loaded inside whichever call comes first, and a Ctrl-C
    /// at that moment would come back as a panic.
    #[pymodule_init]
    fn load_numpy(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py: Python<'_> = module.py();
        py.import("numpy")?;
        drop(PyArray1::<i64>::zeros(py, 0, false));
        Ok(())
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::{
        BusyError, Completed, DigestDiff, Draw, Lease, MachineError, Pair, PairRunner, Sandbox, Trials, UserError,
        Workload, canonical_json, diff_digests, give_tree, hash_files, hash_records, probe_machine, provoke,
        read_digests, root_digest, run_trials, verify_digests, write_digests,
    };
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::User(message) => UserError::new_err(message),
            Error::Machine(message) => MachineError::new_err(message),
            Error::Busy(message) => BusyError::new_err(message),
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        }
    }
}

/// Whether work may keep the calling thread, or must leave it free to answer Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Done within some milliseconds.
    Short,
    /// May take longer; must look at its cancel flag every few tens of milliseconds.
    Long,
}

/// The one way from Python to Rust's work: without the GIL, interruptible, and with neither a panic nor
/// an unmapped error coming back. The work gets a flag that is set when it should stop.
fn door<T, W>(py: Python<'_>, pace: Pace, work: W) -> PyResult<T>
where
    T: Send,
    W: FnOnce(&AtomicBool) -> Result<T, Error> + Send,
{
    door_telling(py, pace, |_| Ok(()), work)
}

/// The same, with news for Python every time that signals are looked at.
fn door_telling<T, N, W>(py: Python<'_>, pace: Pace, tell: N, work: W) -> PyResult<T>
where
    T: Send,
    N: Fn(Python<'_>) -> PyResult<()> + Send + Sync,
    W: FnOnce(&AtomicBool) -> Result<T, Error> + Send,
{
    py.detach(|| {
        let cancel = AtomicBool::new(false);
        let guarded = || catch_unwind(AssertUnwindSafe(|| work(&cancel))).unwrap_or_else(|panic| Err(defect(&*panic)));
        match pace {
            Pace::Short => guarded().map_err(PyErr::from),
            Pace::Long => beside(guarded, &cancel, &tell),
        }
    })
}

/// Runs `work` on a thread of its own while this one lets signal handlers run (only Python's main
/// thread does; on others the work simply goes on). What a handler raises wins over the work's result.
fn beside<T: Send>(
    work: impl FnOnce() -> Result<T, Error> + Send,
    cancel: &AtomicBool,
    tell: &dyn Fn(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        let body = move || {
            // The receiver outlives the scope's threads, so sending cannot fail.
            let _ = sender.send(work());
        };
        if let Err(error) = thread::Builder::new().name("nightfleet".into()).spawn_scoped(scope, body) {
            return Err(Error::Machine(format!("cannot start a thread: {error}")).into());
        }
        let mut raised = None;
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(result) => return raised.map_or_else(|| result.map_err(PyErr::from), Err),
                Err(RecvTimeoutError::Timeout) if raised.is_none() => {
                    raised = Python::attach(|py| py.check_signals().and_then(|()| tell(py))).err();
                    cancel.store(raised.is_some(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Machine("the working thread ended without a result".into()).into());
                }
            }
        }
    })
}

fn defect(panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::Machine(format!("a defect in nightfleet.native, please report it: {message}"))
}

/// Bytes lent by a Python object, not copied.
struct Lent(PyBuffer<u8>);

impl<'py> FromPyObject<'_, 'py> for Lent {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match PyBuffer::<u8>::get(&object) {
            Ok(buffer) if buffer.is_c_contiguous() => Ok(Self(buffer)),
            _ => {
                let kind = object.get_type().name()?;
                let expected = "a contiguous buffer of bytes (bytes, memoryview, a uint8 array)";
                Err(Error::User(format!("expected {expected}; got {kind}")).into())
            }
        }
    }
}

impl Lent {
    fn bytes(&self) -> &[u8] {
        match self.0.as_slice_ptr() {
            // SAFETY: the buffer is contiguous (checked on extraction), exported for as long as `self`
            // lives, so it neither moves nor shrinks, and of bytes, which have no invalid values. As with
            // hashlib, a thread that writes into it meanwhile spoils its own digest.
            Some(slice) if self.0.item_count() > 0 => unsafe { slice.as_ref() },
            _ => &[],
        }
    }

    fn pace(&self, exact: bool) -> Pace {
        let short = if exact { SHORT_BYTES } else { SHORT_CANONICAL_BYTES };
        if self.bytes().len() < short { Pace::Short } else { Pace::Long }
    }
}

struct Seed(u64);

impl<'py> FromPyObject<'_, 'py> for Seed {
    type Error = PyErr;

    fn extract(seed: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let refuse = |_| Error::User(format!("seed must be an integer in [0, 2**64); got {}", &*seed));
        Ok(Self(seed.extract().map_err(refuse)?))
    }
}

/// A whole number that counts something; Python's own overflow would not name the limit.
#[derive(Clone, Copy)]
struct Count(u64);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(count: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let refuse = |_| Error::User(format!("expected an integer in [0, 2**64); got {}", &*count));
        Ok(Self(count.extract().map_err(refuse)?))
    }
}

fn size(count: Count) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}

struct Threads(usize);

impl<'py> FromPyObject<'_, 'py> for Threads {
    type Error = PyErr;

    fn extract(threads: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match threads.extract::<usize>() {
            Ok(count) if (1..=MAX_THREADS).contains(&count) => Ok(Self(count)),
            _ => Err(Error::User(format!("threads must be in [1, {MAX_THREADS}]; got {}", &*threads)).into()),
        }
    }
}

fn framing_from(record: &str) -> Result<Framing, Error> {
    match record {
        "line" => Ok(Framing::Line),
        "output" => Ok(Framing::Output),
        "length" => Ok(Framing::Length),
        "files" => Err(Error::User("record='files' is not one buffer; call hash_files".into())),
        _ => Err(Error::User(format!("record must be 'line', 'output' or 'length'; got '{record}'"))),
    }
}

fn digest_array(py: Python<'_>, digests: Vec<Digest>) -> PyResult<Digests<'_>> {
    let shape = (digests.len(), 2);
    let array = Array2::from_shape_vec(shape, digests.into_flattened());
    Ok(array.map_err(|error| Error::Machine(error.to_string()))?.into_pyarray(py))
}

/// XXH3-128 of each record of a buffer: uint64 of shape (records, 2), rows [high, low].
#[pyfunction]
#[pyo3(
    signature = (data, *, seed, record = "line", canonical = "exact", ignore = None, threads = Threads(1)),
    text_signature = "(data, *, seed, record='line', canonical='exact', ignore=None, threads=1)"
)]
fn hash_records<'py>(
    py: Python<'py>,
    data: Lent,
    seed: Seed,
    record: &str,
    canonical: &str,
    ignore: Option<&str>,
    threads: Threads,
) -> PyResult<Digests<'py>> {
    let recipe = Recipe { framing: framing_from(record)?, canonical: Canonical::new(canonical, ignore)?, seed: seed.0 };
    let bytes = data.bytes();
    let records = door(py, data.pace(recipe.canonical.is_exact()), |cancel| {
        buffer::hash_records(bytes, &recipe, threads.0, cancel)
    })?;
    digest_array(py, records.digests)
}

/// One XXH3-128 for sorted (path, contents) pairs: uint64 of shape (1, 2), [high, low].
#[pyfunction]
#[pyo3(signature = (files, *, seed, canonical = "exact", ignore = None))]
fn hash_files<'py>(
    py: Python<'py>,
    files: Vec<(Vec<u8>, Lent)>,
    seed: Seed,
    canonical: &str,
    ignore: Option<&str>,
) -> PyResult<Digests<'py>> {
    let mut hasher = FilesHasher::new(Canonical::new(canonical, ignore)?, seed.0, MAX_CANONICAL_BYTES);
    let files: Vec<(&[u8], &[u8])> = files.iter().map(|(path, contents)| (&path[..], contents.bytes())).collect();
    let records = door(py, Pace::Long, |cancel| {
        for (path, contents) in files {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            hasher.add(path, contents.len() as u64, contents).map_err(|error| Error::User(error.to_string()))?;
        }
        Ok(hasher.finish())
    })?;
    digest_array(py, records.digests)
}

/// The bytes by which JSON texts are compared, or None when the record is not one.
#[pyfunction]
#[pyo3(signature = (record, /))]
fn canonical_json<'py>(py: Python<'py>, record: Lent) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let bytes = record.bytes();
    let form = door(py, record.pace(false), |_| Ok(canonical::json(bytes)))?;
    Ok(form.map(|form| PyBytes::new(py, &form)))
}

/// Writes one digest a case as a .npy file, at once or not at all; returns its root digest.
#[pyfunction]
fn write_digests(
    py: Python<'_>,
    path: PathBuf,
    cases: &Bound<'_, PyAny>,
    digests: &Bound<'_, PyAny>,
    metadata: Lent,
) -> PyResult<String> {
    let refuse = |name, expected, got: &Bound<'_, PyAny>| {
        let kind = got.get_type();
        let shape = got.getattr("shape").map_or_else(|_| String::new(), |shape| format!(" of shape {shape}"));
        let dtype = got.getattr("dtype").map_or_else(|_| String::new(), |dtype| format!(" and dtype {dtype}"));
        Error::User(format!("{name} must be a contiguous array {expected}; got {kind}{shape}{dtype}"))
    };
    let case_array: Option<PyReadonlyArray1<'_, i64>> = cases.extract().ok();
    let digest_array: Option<PyReadonlyArray2<'_, u64>> = digests.extract().ok();
    let case_slice = case_array.as_ref().and_then(|array| array.as_slice().ok());
    let case_slice = case_slice.ok_or_else(|| refuse("cases", "of shape (n,) and dtype int64", cases))?;
    let digest_slice = digest_array.as_ref().filter(|array| array.as_array().ncols() == 2);
    let digest_slice = digest_slice.and_then(|array| array.as_slice().ok());
    let digest_slice = digest_slice.ok_or_else(|| refuse("digests", "of shape (n, 2) and dtype uint64", digests))?;
    let (pairs, _) = digest_slice.as_chunks::<2>();
    let metadata = metadata.bytes();
    door(py, Pace::Long, |cancel| digests::write(&path, case_slice, pairs, metadata, cancel))
}

/// SHA-256 over the metadata and the rows of a digest file, as 64 hex digits.
#[pyfunction]
fn root_digest(py: Python<'_>, path: PathBuf, metadata: Lent) -> PyResult<String> {
    let metadata = metadata.bytes();
    door(py, Pace::Long, |cancel| digests::root(&path, metadata, cancel))
}

/// Raises UserError unless the file and metadata have this root digest.
#[pyfunction]
fn verify_digests(py: Python<'_>, path: PathBuf, metadata: Lent, root: &str) -> PyResult<()> {
    let metadata = metadata.bytes();
    door(py, Pace::Long, |cancel| digests::verify(&path, metadata, root, cancel))
}

/// Cases, ascending, of shape (n,), and digests of shape (n, 2), [high, low].
#[pyfunction]
fn read_digests(py: Python<'_>, path: PathBuf) -> PyResult<(Cases<'_>, Digests<'_>)> {
    let (cases, digests) = door(py, Pace::Long, |cancel| digests::read(&path, cancel))?;
    Ok((cases.into_pyarray(py), digest_array(py, digests)?))
}

/// Compares two digest files case by case.
#[pyfunction]
#[pyo3(signature = (a, b, *, limit = Count(100)))]
fn diff_digests(py: Python<'_>, a: PathBuf, b: PathBuf, limit: Count) -> PyResult<DigestDiff> {
    let diff = door(py, Pace::Long, |cancel| digests::diff(&a, &b, size(limit), cancel))?;
    let cases = diff.cases.into_pyarray(py).unbind();
    Ok(DigestDiff { differing: diff.differing, only_a: diff.only_a, only_b: diff.only_b, cases })
}

/// How two digest files differ; all counts are complete, however many cases are listed.
#[pyclass(frozen, get_all, module = "nightfleet.native")]
pub(crate) struct DigestDiff {
    differing: u64,
    only_a: u64,
    only_b: u64,
    cases: Py<PyArray1<i64>>,
}

#[pymethods]
impl DigestDiff {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Self { differing, only_a, only_b, cases } = self;
        let cases = cases.bind(py).repr()?;
        Ok(format!("DigestDiff(differing={differing}, only_a={only_a}, only_b={only_b}, cases={cases})"))
    }
}

fn duration(name: &str, seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| Error::User(format!("{name} must be a positive number of seconds; got {seconds}")))
}

fn bounds(timeout_s: f64, output_bytes: u64) -> Result<Bounds, Error> {
    Ok(Bounds { timeout: duration("timeout_s", timeout_s)?, output_bytes })
}

/// A host path, or a pair of a host path and where it appears inside.
#[derive(FromPyObject)]
enum Place {
    Moved(PathBuf, PathBuf),
    Same(PathBuf),
}

fn binds(places: Vec<Place>, writable: bool) -> impl Iterator<Item = Bind> {
    places.into_iter().map(move |place| {
        let (source, target) = match place {
            Place::Moved(source, target) => (source, target),
            Place::Same(path) => {
                // Where the path is relative, so is it inside: the core refuses it by name.
                let target = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
                (path, target)
            }
        };
        Bind { source, target, writable }
    })
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "nightfleet.native")]
struct Sandbox {
    open: Mutex<Option<Shared>>,
    facts: BTreeMap<String, String>,
}

impl Sandbox {
    fn shared(&self) -> Result<Shared, Error> {
        let held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().ok_or_else(|| Error::User("this sandbox is closed".into()))
    }
}

#[pymethods]
impl Sandbox {
    #[new]
    #[pyo3(signature = (tree, *, profile = "trial", read = vec![], write = vec![], env = BTreeMap::new(), cores = vec![],
        network = None, memory_bytes = None, pids = None, file_bytes = None, scratch_bytes = None,
        unsafe_no_sandbox = false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        tree: PathBuf,
        profile: &str,
        read: Vec<Place>,
        write: Vec<Place>,
        env: BTreeMap<String, String>,
        cores: Vec<Count>,
        network: Option<&str>,
        memory_bytes: Option<Count>,
        pids: Option<Count>,
        file_bytes: Option<Count>,
        scratch_bytes: Option<Count>,
        unsafe_no_sandbox: bool,
    ) -> PyResult<Self> {
        let network = network.map(profile::parse_network).transpose()?;
        let options = profile::Options {
            tree,
            profile: profile::Profile::parse(profile)?,
            binds: binds(read, false).chain(binds(write, true)).collect(),
            environment: env,
            cores: cores.into_iter().map(size).collect(),
            network,
            memory_bytes: memory_bytes.map(|count| count.0),
            pids: pids.map(|count| count.0),
            file_bytes: file_bytes.map(|count| count.0),
            scratch_bytes: scratch_bytes.map(|count| count.0),
            unsafe_no_sandbox,
        };
        let opened = door(py, Pace::Long, |cancel| sandbox::Sandbox::open(&options, cancel))?;
        let facts = opened.facts();
        Ok(Self { open: Mutex::new(Some(Arc::new(Mutex::new(opened)))), facts })
    }

    #[getter]
    fn facts(&self) -> BTreeMap<String, String> {
        self.facts.clone()
    }

    #[pyo3(signature = (argv, *, stdin = None, cwd = "/tree", timeout_s = 60.0, output_bytes = Count(67_108_864)))]
    fn run(
        &self,
        py: Python<'_>,
        argv: Vec<String>,
        stdin: Option<Lent>,
        cwd: &str,
        timeout_s: f64,
        output_bytes: Count,
    ) -> PyResult<Completed> {
        profile::check_argv(&argv)?;
        profile::check_directory(cwd)?;
        let shared = self.shared()?;
        let stdin = stdin.as_ref().map_or(&[][..], Lent::bytes);
        let timeout = duration("timeout_s", timeout_s)?;
        let (trial, stdout) = door(py, Pace::Long, |cancel| {
            let plan = Plan { argv: &argv, cwd, stdin, timeout, output_bytes: output_bytes.0, files: false };
            let mut stdout = Vec::new();
            let trial = trial::run(&mut *hold(&shared, cancel)?, &plan, cancel, &mut |bytes| {
                stdout.extend_from_slice(bytes);
                true
            })?;
            Ok((trial, stdout))
        })?;
        Ok(Completed::new(py, trial, &stdout))
    }

    fn close(&self, py: Python<'_>) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(taken));
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, get_all, module = "nightfleet.native")]
struct Completed {
    outcome: &'static str,
    status: i32,
    stdout: Py<PyBytes>,
    stderr: Py<PyBytes>,
    wall_ns: i64,
    cpu_ns: i64,
    peak_bytes: i64,
    switches: i64,
    tasks: i64,
    denied: Vec<String>,
}

impl Completed {
    fn new(py: Python<'_>, trial: Trial, stdout: &[u8]) -> Self {
        Self {
            outcome: trial.outcome.name(),
            status: trial.status,
            stdout: PyBytes::new(py, stdout).unbind(),
            stderr: PyBytes::new(py, &trial.stderr).unbind(),
            wall_ns: trial.wall_ns,
            cpu_ns: trial.cpu_ns,
            peak_bytes: trial.peak_bytes,
            switches: trial.switches,
            tasks: trial.tasks,
            denied: trial.denied.into_iter().map(|(words, _)| words).collect(),
        }
    }
}

#[pymethods]
impl Completed {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Self { outcome, status, wall_ns, cpu_ns, peak_bytes, .. } = self;
        let stderr = self.stderr.bind(py).repr()?;
        Ok(format!(
            "Completed(outcome='{outcome}', status={status}, wall_ns={wall_ns}, cpu_ns={cpu_ns}, \
             peak_bytes={peak_bytes}, stderr={stderr})"
        ))
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "nightfleet.native")]
struct Workload(workload::Workload);

#[pymethods]
impl Workload {
    #[new]
    #[pyo3(signature = (argv, *, feed = "stdin", record = "line", files = "*", canonical = "exact", ignore = None,
        filter = None, manifest = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        argv: Vec<String>,
        feed: &str,
        record: &str,
        files: &str,
        canonical: &str,
        ignore: Option<&str>,
        filter: Option<Vec<String>>,
        manifest: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let words = workload::Words { argv, feed, record, files, canonical, ignore, filter, manifest };
        Ok(Self(workload::Workload::new(words)?))
    }

    #[getter]
    fn filtered(&self) -> bool {
        self.0.has_filter()
    }
}

/// The cases of one block.
struct Block(Vec<i64>);

impl<'py> FromPyObject<'_, 'py> for Block {
    type Error = PyErr;

    fn extract(block: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = block.extract::<PyReadonlyArray1<'_, i64>>() {
            return Ok(Self(array.as_array().to_vec()));
        }
        let refuse = |_| Error::User(format!("a block must be a sequence of integers; got {}", &*block));
        Ok(Self(block.extract().map_err(refuse)?))
    }
}

fn shared(sandboxes: &[Bound<'_, Sandbox>]) -> Result<Vec<Shared>, Error> {
    sandboxes.iter().map(|sandbox| sandbox.get().shared()).collect()
}

#[pyfunction]
#[pyo3(signature = (sides, workload, blocks, *, seed, timeout_s = 60.0, output_bytes = Count(67_108_864), filters = vec![],
    stop_after = None, progress = None))]
#[allow(clippy::too_many_arguments)]
fn run_trials(
    py: Python<'_>,
    sides: Vec<Vec<Bound<'_, Sandbox>>>,
    workload: &Bound<'_, Workload>,
    blocks: Vec<Block>,
    seed: Seed,
    timeout_s: f64,
    output_bytes: Count,
    filters: Vec<Bound<'_, Sandbox>>,
    stop_after: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Trials> {
    let sides = sides.iter().map(|side| shared(side)).collect::<Result<Vec<_>, _>>()?;
    let filters = shared(&filters)?;
    let blocks: Vec<Vec<i64>> = blocks.into_iter().map(|block| block.0).collect();
    let batch = Batch {
        sides: &sides,
        filters: &filters,
        workload: &workload.get().0,
        blocks: &blocks,
        seed: seed.0,
        bounds: bounds(timeout_s, output_bytes.0)?,
        stop_after: stop_after.map(size),
    };
    let through = AtomicUsize::new(0);
    let tell = |py: Python<'_>| match &progress {
        Some(progress) => progress.call1(py, (through.load(Ordering::Relaxed), blocks.len())).map(drop),
        None => Ok(()),
    };
    let results = door_telling(py, Pace::Long, tell, |cancel| batch.run(cancel, &through))?;
    tell(py)?;
    Trials::new(py, results)
}

/// See `_native.pyi`.
#[pyclass(frozen, get_all, module = "nightfleet.native")]
struct Trials {
    digests: Py<PyArray3<u64>>,
    outcome: Vec<Vec<&'static str>>,
    status: Py<PyArray2<i64>>,
    wall_ns: Py<PyArray2<i64>>,
    cpu_ns: Py<PyArray2<i64>>,
    peak_bytes: Py<PyArray2<i64>>,
    switches: Py<PyArray2<i64>>,
    tasks: Py<PyArray2<i64>>,
    done: Vec<bool>,
    denied: BTreeMap<String, u64>,
    stderr: Vec<Vec<Py<PyBytes>>>,
}

impl Trials {
    fn new(py: Python<'_>, results: Results) -> PyResult<Self> {
        let Results { digests, runs, done, denied, .. } = results;
        let shape = (runs.len(), done.len());
        let grid = |value: fn(&Trial) -> i64| -> PyResult<Py<PyArray2<i64>>> {
            let flat = runs.iter().flatten().map(|run| value(&run.trial)).collect();
            let grid = Array2::from_shape_vec(shape, flat).map_err(|error| Error::Machine(error.to_string()))?;
            Ok(grid.into_pyarray(py).unbind())
        };
        let cases = digests.first().map_or(0, Vec::len);
        let flat: Vec<u64> = digests.into_iter().flat_map(Vec::into_flattened).collect();
        let digests = Array3::from_shape_vec((shape.0, cases, 2), flat);
        Ok(Self {
            digests: digests.map_err(|error| Error::Machine(error.to_string()))?.into_pyarray(py).unbind(),
            outcome: runs.iter().map(|side| side.iter().map(|run| run.trial.outcome.name()).collect()).collect(),
            status: grid(|trial| i64::from(trial.status))?,
            wall_ns: grid(|trial| trial.wall_ns)?,
            cpu_ns: grid(|trial| trial.cpu_ns)?,
            peak_bytes: grid(|trial| trial.peak_bytes)?,
            switches: grid(|trial| trial.switches)?,
            tasks: grid(|trial| trial.tasks)?,
            done,
            denied,
            stderr: (runs.iter())
                .map(|side| side.iter().map(|run| PyBytes::new(py, &run.trial.stderr).unbind()).collect())
                .collect(),
        })
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "nightfleet.native")]
struct Lease {
    held: Mutex<Option<lease::Lease>>,
    choice: Choice,
}

#[pymethods]
impl Lease {
    #[staticmethod]
    #[pyo3(signature = (*, cores = Count(1), purpose = "timing", wait_s = None, on_wait = None, runtime_dir = None))]
    fn acquire(
        py: Python<'_>,
        cores: Count,
        purpose: &str,
        wait_s: Option<f64>,
        on_wait: Option<Py<PyAny>>,
        runtime_dir: Option<PathBuf>,
    ) -> PyResult<Self> {
        let wait = wait_s.map(|seconds| duration("wait_s", seconds)).transpose()?;
        let waiting: Mutex<Option<(String, f64)>> = Mutex::new(None);
        let tell = |py: Python<'_>| match (&on_wait, &*waiting.lock().unwrap_or_else(PoisonError::into_inner)) {
            (Some(on_wait), Some(news)) => on_wait.call1(py, news.clone()).map(drop),
            _ => Ok(()),
        };
        let (held, choice) = door_telling(py, Pace::Long, tell, |cancel| {
            let directory = runtime_dir.map_or_else(lease::runtime_dir, Ok)?;
            let note = |holder: &lease::Holder, waited: Duration| {
                let news = (holder.to_string(), waited.as_secs_f64());
                *waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(news);
            };
            let held = lease::Lease::acquire_in(&directory, purpose, wait, note, cancel)?;
            let busy = Load::probe(LOAD_WINDOW, cancel)?.busy();
            Ok((held, Topology::read()?.choose(size(cores), &busy)?))
        })?;
        Ok(Self { held: Mutex::new(Some(held)), choice })
    }

    #[getter]
    fn cores(&self) -> Vec<usize> {
        self.choice.leased.clone()
    }

    #[getter]
    fn siblings(&self) -> Vec<usize> {
        self.choice.siblings.clone()
    }

    #[getter]
    fn harness_cores(&self) -> Vec<usize> {
        self.choice.harness.clone()
    }

    #[getter]
    fn shared_with_harness(&self) -> bool {
        self.choice.harness_shares
    }

    fn release(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.release();
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, module = "nightfleet.native")]
struct PairRunner {
    runner: Mutex<pair::PairRunner>,
    lease: Py<Lease>,
}

#[pymethods]
impl PairRunner {
    #[new]
    #[pyo3(signature = (baseline, candidate, workload, lease, *, seed, timeout_s = 60.0, output_bytes = Count(67_108_864),
        filters = vec![], trim = 0.0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        baseline: Vec<Bound<'_, Sandbox>>,
        candidate: Vec<Bound<'_, Sandbox>>,
        workload: &Bound<'_, Workload>,
        lease: &Bound<'_, Lease>,
        seed: Seed,
        timeout_s: f64,
        output_bytes: Count,
        filters: Vec<Bound<'_, Sandbox>>,
        trim: f64,
    ) -> PyResult<Self> {
        let choice = &lease.get().choice;
        let cores = pair::Cores {
            leased: choice.leased.clone(),
            siblings: choice.siblings.clone(),
            harness: choice.harness.clone(),
        };
        let (baseline, candidate, filters) = (shared(&baseline)?, shared(&candidate)?, shared(&filters)?);
        let sides = pair::Sides { baseline, candidate, filters };
        let terms = pair::Terms { seed: seed.0, bounds: bounds(timeout_s, output_bytes.0)?, trim };
        let workload = workload.get().0.clone();
        let runner = door(py, Pace::Long, |cancel| pair::PairRunner::new(sides, workload, cores, terms, cancel))?;
        Ok(Self { runner: Mutex::new(runner), lease: lease.clone().unbind() })
    }

    fn warm_up(&self, py: Python<'_>, block: Block) -> PyResult<Pair> {
        self.on(py, |runner, cancel| {
            let draw = runner.warm_up(block.0)?;
            runner.run(&draw, cancel)
        })
    }

    #[pyo3(signature = (block, *, wait_s = 60.0))]
    fn draw(&self, py: Python<'_>, block: Block, wait_s: f64) -> PyResult<Draw> {
        let wait = duration("wait_s", wait_s)?;
        self.work(py, |runner, cancel| runner.draw(block.0, wait, cancel)).map(Draw)
    }

    fn resume(&self, py: Python<'_>, draws: Vec<Bound<'_, Draw>>) -> PyResult<()> {
        let draws: Vec<_> = draws.iter().map(|draw| draw.get().0.clone()).collect();
        self.work(py, |runner, _| runner.resume(&draws))
    }

    fn run(&self, py: Python<'_>, draw: &Bound<'_, Draw>) -> PyResult<Pair> {
        let draw = &draw.get().0;
        self.on(py, |runner, cancel| runner.run(draw, cancel))
    }
}

impl PairRunner {
    fn work<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut pair::PairRunner, &AtomicBool) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        match &*self.lease.get().held.lock().unwrap_or_else(PoisonError::into_inner) {
            None => return Err(Error::User("the timing lease was released; acquire it again".into()).into()),
            Some(lease) if !lease.is_current() => {
                return Err(
                    Error::Machine("the timing lease's file was removed; acquire the lease again".into()).into()
                );
            }
            Some(_) => {}
        }
        door(py, Pace::Long, |cancel| {
            let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut runner, cancel)
        })
    }

    fn on(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut pair::PairRunner, &AtomicBool) -> Result<pair::Pair, Error> + Send,
    ) -> PyResult<Pair> {
        let pair = self.work(py, work)?;
        let digests = |run: &BlockRun| digest_array(py, run.digests.clone()).map(Bound::unbind);
        Ok(Pair {
            baseline_digests: digests(&pair.baseline)?,
            candidate_digests: digests(&pair.candidate)?,
            identical: pair.identical(),
            draw: Py::new(py, Draw(pair.draw))?,
            baseline: Py::new(py, Completed::new(py, pair.baseline.trial, &[]))?,
            candidate: Py::new(py, Completed::new(py, pair.candidate.trial, &[]))?,
            diverged: pair.diverged,
            void: pair.void,
        })
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, eq, module = "nightfleet.native")]
#[derive(PartialEq)]
struct Draw(pair::Draw);

#[pymethods]
impl Draw {
    #[new]
    #[pyo3(signature = (*, index, block, candidate_first, baseline_copy, candidate_copy, candidate_cases = None))]
    fn new(
        index: Count,
        block: Block,
        candidate_first: bool,
        baseline_copy: Count,
        candidate_copy: Count,
        candidate_cases: Option<Count>,
    ) -> Self {
        Self(pair::Draw {
            index: index.0,
            candidate_cases: candidate_cases.map_or(block.0.len(), size),
            block: block.0,
            candidate_first,
            baseline_copy: size(baseline_copy),
            candidate_copy: size(candidate_copy),
        })
    }

    #[getter]
    fn index(&self) -> u64 {
        self.0.index
    }

    #[getter]
    fn block<'py>(&self, py: Python<'py>) -> Cases<'py> {
        self.0.block.clone().into_pyarray(py)
    }

    #[getter]
    fn baseline_cases(&self) -> usize {
        self.0.block.len()
    }

    #[getter]
    fn candidate_cases(&self) -> usize {
        self.0.candidate_cases
    }

    #[getter]
    fn candidate_first(&self) -> bool {
        self.0.candidate_first
    }

    #[getter]
    fn baseline_copy(&self) -> usize {
        self.0.baseline_copy
    }

    #[getter]
    fn candidate_copy(&self) -> usize {
        self.0.candidate_copy
    }

    fn __repr__(&self) -> String {
        let pair::Draw { index, block, candidate_cases, candidate_first, baseline_copy, candidate_copy } = &self.0;
        let first = if *candidate_first { "True" } else { "False" };
        let whole = *candidate_cases == block.len();
        let trimmed = if whole { String::new() } else { format!(", candidate_cases={candidate_cases}") };
        format!(
            "Draw(index={index}, block={block:?}, candidate_first={first}, baseline_copy={baseline_copy}, \
             candidate_copy={candidate_copy}{trimmed})"
        )
    }
}

/// See `_native.pyi`.
#[pyclass(frozen, get_all, module = "nightfleet.native")]
struct Pair {
    draw: Py<Draw>,
    baseline: Py<Completed>,
    candidate: Py<Completed>,
    baseline_digests: Py<PyArray2<u64>>,
    candidate_digests: Py<PyArray2<u64>>,
    identical: bool,
    diverged: Vec<i64>,
    void: Option<String>,
}

#[pyfunction]
fn give_tree(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    door(py, Pace::Long, |cancel| sandbox::give_tree(&path, cancel))
}

#[pyfunction(name = "probe")]
fn probe_machine(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let found = door(py, Pace::Long, probe::probe)?;
    let answer = PyDict::new(py);
    answer.set_item("kernel", found.kernel)?;
    answer.set_item("promises", found.promises)?;
    answer.set_item("below_minimum", found.below_minimum)?;
    Ok(answer)
}

/// Lets tests see what the door does with a panic, and with work that only a signal ends.
#[pyfunction(name = "_provoke")]
fn provoke(py: Python<'_>, what: &str, beside: bool) -> PyResult<()> {
    let pace = if beside { Pace::Long } else { Pace::Short };
    door(py, pace, |cancel| match what {
        "panic" => panic!("provoked"),
        "wait" => {
            while !cancel.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            Err(Error::Interrupted)
        }
        _ => Err(Error::User(format!("what must be 'panic' or 'wait'; got '{what}'"))),
    })
}
