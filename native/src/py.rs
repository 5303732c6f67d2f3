//! The only file that knows Python: arguments in, one [`door`] to the work, results and errors out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::buffer::PyBuffer;
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{self, MAX_CANONICAL_BYTES, Recipe};
use crate::canonical::{self, Canonical};
use crate::digests;
use crate::error::Error;
use crate::files::FilesHasher;
use crate::records::{Digest, Framing};

/// How often work that runs beside the calling thread lets Python's signal handlers run.
const POLL: Duration = Duration::from_millis(50);
/// Less than this is hashed within some milliseconds as it is; starting a thread would show.
const SHORT_BYTES: usize = 4 << 20;
/// The same for canonical forms, which are slower, an ignored pattern by much.
const SHORT_CANONICAL_BYTES: usize = 64 << 10;
/// More threads than any machine that this was tried on has cores.
const MAX_THREADS: usize = 256;

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

#[pymodule]
mod _native {
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::{
        DigestDiff, MachineError, UserError, canonical_json, diff_digests, hash_files, hash_records, provoke,
        read_digests, root_digest, verify_digests, write_digests,
    };
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::User(message) => UserError::new_err(message),
            Error::Machine(message) => MachineError::new_err(message),
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
pub(crate) fn door<T, W>(py: Python<'_>, pace: Pace, work: W) -> PyResult<T>
where
    T: Send,
    W: FnOnce(&AtomicBool) -> Result<T, Error> + Send,
{
    py.detach(|| {
        let cancel = AtomicBool::new(false);
        let guarded = || catch_unwind(AssertUnwindSafe(|| work(&cancel))).unwrap_or_else(|panic| Err(defect(&*panic)));
        match pace {
            Pace::Short => guarded().map_err(PyErr::from),
            Pace::Long => beside(guarded, &cancel),
        }
    })
}

/// Runs `work` on a thread of its own while this one lets signal handlers run (only Python's main
/// thread does; on others the work simply goes on). What a handler raises wins over the work's result.
fn beside<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send, cancel: &AtomicBool) -> PyResult<T> {
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
                    raised = Python::attach(|py| py.check_signals()).err();
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
#[pyo3(signature = (a, b, *, limit = 100))]
fn diff_digests(py: Python<'_>, a: PathBuf, b: PathBuf, limit: usize) -> PyResult<DigestDiff> {
    let diff = door(py, Pace::Long, |cancel| digests::diff(&a, &b, limit, cancel))?;
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
