//! A workload: how cases go into a program and how its records come out, run block by block.

use std::io::Cursor;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use globset::{Glob, GlobMatcher};

use crate::canonical::Canonical;
use crate::error::{Error, Result};
use crate::files::FilesHasher;
use crate::profile::check_argv;
use crate::records::{Digest, Framing, RecordHasher};
use crate::sandbox::Sandbox;
use crate::trial::{self, Outcome, Plan, Trial};

/// In a command that is fed by argument, what is replaced by the case.
pub const CASE: &str = "{case}";
/// The working directory of every trial.
const TREE: &str = "/tree";
/// A length that stands for "no regular file" on the pipe for output files.
const NOT_A_FILE: u64 = u64::MAX;

/// How cases are given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Feed {
    /// One a line on standard input.
    Stdin,
    /// In the command, one process a case.
    Argument,
}

/// What is hashed.
#[derive(Clone, Debug)]
pub enum Record {
    /// Standard output, cut by a framing.
    Stream(Framing),
    /// The files under /out that match.
    Files(GlobMatcher),
}

/// A validated workload.
#[derive(Clone, Debug)]
pub struct Workload {
    argv: Vec<String>,
    feed: Feed,
    record: Record,
    canonical: Canonical,
    filter: Option<Vec<String>>,
    manifest: Option<Vec<String>>,
}

/// The words of a workload before validation.
#[derive(Clone, Debug, Default)]
pub struct Words<'a> {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `stdin` or `argument`.
    pub feed: &'a str,
    /// `line`, `output`, `length` or `files`.
    pub record: &'a str,
    /// Which files under /out, for `files`.
    pub files: &'a str,
    /// `exact` or `json`.
    pub canonical: &'a str,
    /// A pattern whose matches are removed before hashing.
    pub ignore: Option<&'a str>,
    /// A frozen command that the output goes through first.
    pub filter: Option<Vec<String>>,
    /// Lines that stand for the cases 0, 1, 2, …
    pub manifest: Option<Vec<String>>,
}

/// Limits of each run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the launch to the end.
    pub timeout: Duration,
    /// Standard output, standard error, all output files: each at most this.
    pub output_bytes: u64,
}

/// One block on one sandbox.
#[derive(Clone, Debug, Default)]
pub struct BlockRun {
    /// What the process did.
    pub trial: Trial,
    /// One digest a record, as many as were complete.
    pub digests: Vec<Digest>,
}

/// A run whose output has yet to go through the filter; without a filter, the whole of it.
#[derive(Clone, Debug, Default)]
pub struct Unsifted {
    run: BlockRun,
    output: Vec<u8>,
}

impl Workload {
    /// Validates. Errors: `User`, naming the word that is wrong and what may stand there.
    pub fn new(words: Words) -> Result<Self> {
        check_argv(&words.argv)?;
        let feed = match words.feed {
            "stdin" => Feed::Stdin,
            "argument" => Feed::Argument,
            other => return Err(none_of("feed", other, "stdin, argument")),
        };
        if (feed == Feed::Argument) != words.argv.iter().any(|word| word.contains(CASE)) {
            return Err(Error::User(format!(
                "argv: {CASE} stands in the command exactly when feed is \"argument\"; feed is {:?}",
                words.feed
            )));
        }
        let record = match words.record {
            "line" => Record::Stream(Framing::Line),
            "output" => Record::Stream(Framing::Output),
            "length" => Record::Stream(Framing::Length),
            "files" => Record::Files(matcher(words.files)?),
            other => return Err(none_of("record", other, "line, output, length, files")),
        };
        let canonical = Canonical::new(words.canonical, words.ignore)?;
        if let Some(filter) = &words.filter {
            check_argv(filter)?;
            if matches!(record, Record::Files(_)) {
                return Err(Error::User("filter: works on standard output, not on files".to_owned()));
            }
        }
        if let Some(bad) = words.manifest.iter().flatten().find(|line| line.contains(['\n', '\0'])) {
            return Err(Error::User(format!(
                "manifest: {bad:?} has a newline or a NUL, so it cannot be fed as a case"
            )));
        }
        Ok(Self { argv: words.argv, feed, record, canonical, filter: words.filter, manifest: words.manifest })
    }

    /// Whether runs need a sandbox for the frozen filter.
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Checks that a block can be run. Errors: `User`, naming the case.
    pub fn check_block(&self, block: &[i64]) -> Result<()> {
        if block.is_empty() {
            return Err(Error::User("block: has no cases; the least is 1".to_owned()));
        }
        if self.one_case_a_process() && block.len() != 1 {
            return Err(Error::User(format!(
                "block: has {} cases; this workload runs one process a case (feed by argument, or a whole output or \
                 files as the record), so blocks of 1",
                block.len()
            )));
        }
        let end = self.manifest.as_ref().map_or(1 << 31, |lines| lines.len() as i64);
        match block.iter().find(|case| !(0..end).contains(*case)) {
            Some(case) => Err(Error::User(format!("block: case {case} is outside [0, {end})"))),
            None => Ok(()),
        }
    }

    fn one_case_a_process(&self) -> bool {
        self.feed == Feed::Argument || !matches!(self.record, Record::Stream(Framing::Line | Framing::Length))
    }

    /// Whether a block with fewer cases is another block, with the same records for those that are left.
    pub fn can_be_trimmed(&self) -> bool {
        self.feed == Feed::Stdin && !self.one_case_a_process()
    }

    fn case_text(&self, case: i64) -> String {
        let line = usize::try_from(case).ok().and_then(|i| self.manifest.as_ref()?.get(i));
        line.cloned().unwrap_or_else(|| case.to_string())
    }

    fn command(&self, block: &[i64]) -> Vec<String> {
        match self.feed {
            Feed::Stdin => self.argv.clone(),
            Feed::Argument => {
                let case = self.case_text(block[0]);
                self.argv.iter().map(|word| word.replace(CASE, &case)).collect()
            }
        }
    }

    fn input(&self, block: &[i64]) -> Vec<u8> {
        match self.feed {
            Feed::Stdin => block.iter().flat_map(|case| (self.case_text(*case) + "\n").into_bytes()).collect(),
            Feed::Argument => Vec::new(),
        }
    }

    /// Runs one block and hashes its records under `seed`. A wrong number of records, or an output
    /// that is none, makes the outcome `Records`. Errors: as [`trial::run`].
    pub fn run(
        &self,
        sandbox: &mut Sandbox,
        filter: Option<&mut Sandbox>,
        block: &[i64],
        seed: u64,
        bounds: Bounds,
        cancel: &AtomicBool,
    ) -> Result<BlockRun> {
        let unsifted = self.run_unsifted(sandbox, block, seed, bounds, cancel)?;
        self.sift(unsifted, filter, block.len(), seed, bounds, cancel)
    }

    /// The program's part of [`Workload::run`]: its output is kept for the filter, or hashed where there is none.
    pub fn run_unsifted(
        &self,
        sandbox: &mut Sandbox,
        block: &[i64],
        seed: u64,
        bounds: Bounds,
        cancel: &AtomicBool,
    ) -> Result<Unsifted> {
        let argv = self.command(block);
        let stdin = self.input(block);
        let plan = Plan { files: matches!(self.record, Record::Files(_)), ..plan(&argv, &stdin, bounds) };
        let whole = |run| Unsifted { run, output: Vec::new() };
        match (&self.record, &self.filter) {
            (Record::Files(wanted), _) => self.run_files(wanted, sandbox, &plan, seed, cancel).map(whole),
            (Record::Stream(framing), None) => {
                self.run_stream(*framing, sandbox, &plan, block.len(), seed, cancel).map(whole)
            }
            (Record::Stream(_), Some(_)) => {
                let mut output = Vec::new();
                let trial = trial::run(sandbox, &plan, cancel, &mut |bytes| {
                    output.extend_from_slice(bytes);
                    true
                })?;
                Ok(Unsifted { run: BlockRun { trial, digests: Vec::new() }, output })
            }
        }
    }

    /// The filter's part of [`Workload::run`]: the output of a run that ended well goes through it, and what comes
    /// out is hashed. Without a filter the run is whole as it is. Errors: as [`trial::run`].
    pub fn sift(
        &self,
        unsifted: Unsifted,
        filter: Option<&mut Sandbox>,
        records: usize,
        seed: u64,
        bounds: Bounds,
        cancel: &AtomicBool,
    ) -> Result<BlockRun> {
        let Unsifted { run, output } = unsifted;
        let (Record::Stream(framing), Some(command)) = (&self.record, &self.filter) else { return Ok(run) };
        let Some(filter) = filter else {
            return Err(Error::User("filters: this workload has a filter and needs a sandbox for it".to_owned()));
        };
        if run.trial.outcome != Outcome::Ok {
            return Ok(run);
        }
        let filtered = self.run_stream(*framing, filter, &plan(command, &output, bounds), records, seed, cancel)?;
        Ok(after_filter(run.trial, filtered))
    }

    fn run_stream(
        &self,
        framing: Framing,
        sandbox: &mut Sandbox,
        plan: &Plan,
        expected: usize,
        seed: u64,
        cancel: &AtomicBool,
    ) -> Result<BlockRun> {
        let most = usize::try_from(plan.output_bytes).unwrap_or(usize::MAX);
        let mut hasher = RecordHasher::new(framing, self.canonical.clone(), seed, most).with_max_records(expected);
        let mut wrong = None;
        let mut trial = trial::run(sandbox, plan, cancel, &mut |bytes| match hasher.push(bytes) {
            Ok(()) => true,
            Err(error) => {
                wrong = Some(error.to_string());
                false
            }
        })?;
        let complete = hasher.records().digests.clone();
        let finished = hasher.finish();
        if wrong.is_none() && trial.outcome == Outcome::Ok {
            wrong = match &finished {
                Err(error) => Some(error.to_string()),
                Ok(records) if records.digests.len() != expected => {
                    Some(format!("{} records for {expected} cases", records.digests.len()))
                }
                Ok(records) if records.invalid > 0 => Some(format!("{} records are not JSON", records.invalid)),
                Ok(_) => None,
            };
        }
        if let Some(why) = wrong {
            blame(&mut trial, &why);
        }
        Ok(BlockRun { trial, digests: finished.map_or(complete, |records| records.digests) })
    }

    fn run_files(
        &self,
        wanted: &GlobMatcher,
        sandbox: &mut Sandbox,
        plan: &Plan,
        seed: u64,
        cancel: &AtomicBool,
    ) -> Result<BlockRun> {
        if !sandbox.setup.isolate {
            return Err(Error::User("record: \"files\" needs the sandbox's own /out".to_owned()));
        }
        let mut trial = trial::run(sandbox, plan, cancel, &mut |_| true)?;
        let sent = std::mem::take(&mut trial.files);
        let mut digests = Vec::new();
        if trial.outcome == Outcome::Ok {
            match self.hash_files(wanted, &sent, seed) {
                Ok(digest) => digests = digest,
                Err(why) => blame(&mut trial, &why),
            }
        }
        Ok(BlockRun { trial, digests })
    }

    fn hash_files(&self, wanted: &GlobMatcher, sent: &[u8], seed: u64) -> std::result::Result<Vec<Digest>, String> {
        let mut hasher = FilesHasher::new(self.canonical.clone(), seed, sent.len());
        let mut rest = Cursor::new(sent);
        let mut matched = 0;
        while let Some((name, content)) = next_file(&mut rest)? {
            let path = String::from_utf8_lossy(name);
            if !wanted.is_match(path.as_ref()) {
                continue;
            }
            let content = content.ok_or_else(|| format!("/out/{path} is not a regular file"))?;
            hasher.add(name, content.len() as u64, content).map_err(|error| error.to_string())?;
            matched += 1;
        }
        if matched == 0 {
            return Err(format!("no file under /out matches {:?}", wanted.glob().glob()));
        }
        Ok(hasher.finish().digests)
    }
}

fn plan<'a>(argv: &'a [String], stdin: &'a [u8], bounds: Bounds) -> Plan<'a> {
    let Bounds { timeout, output_bytes } = bounds;
    Plan { argv, cwd: TREE, stdin, timeout, output_bytes, files: false }
}

/// The next file of the stream that a trial's init sends: path, and content where it is a regular file.
type SentFile<'a> = (&'a [u8], Option<&'a [u8]>);

fn next_file<'a>(rest: &mut Cursor<&'a [u8]>) -> std::result::Result<Option<SentFile<'a>>, String> {
    let cut = || "the list of output files is cut".to_owned();
    if rest.position() == rest.get_ref().len() as u64 {
        return Ok(None);
    }
    let name_bytes = next_number(rest).ok_or_else(cut)?;
    let name = next_bytes(rest, name_bytes).ok_or_else(cut)?;
    let length = next_number(rest).ok_or_else(cut)?;
    if length == NOT_A_FILE {
        return Ok(Some((name, None)));
    }
    Ok(Some((name, Some(next_bytes(rest, length).ok_or_else(cut)?))))
}

fn next_number(rest: &mut Cursor<&[u8]>) -> Option<u64> {
    next_bytes(rest, 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

fn next_bytes<'a>(rest: &mut Cursor<&'a [u8]>, length: u64) -> Option<&'a [u8]> {
    let start = usize::try_from(rest.position()).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let bytes = rest.get_ref().get(start..end)?;
    rest.set_position(end as u64);
    Some(bytes)
}

/// Marks a run whose records are wrong, and says why where its standard error is read.
fn blame(trial: &mut Trial, why: &str) {
    trial.outcome = Outcome::Records;
    trial.stderr.extend_from_slice(format!("nightfleet: {why}\n").as_bytes());
}

/// The run is the program's, the records are the filter's; a filter that fails on this output is the
/// output's fault, because the filter is frozen.
fn after_filter(mut trial: Trial, filtered: BlockRun) -> BlockRun {
    if filtered.trial.outcome != Outcome::Ok {
        let name = filtered.trial.outcome.name();
        trial.stderr.extend_from_slice(&filtered.trial.stderr);
        blame(&mut trial, &format!("the filter ended with {name:?} ({}) on this output", filtered.trial.status));
    }
    BlockRun { trial, digests: filtered.digests }
}

fn none_of(what: &str, value: &str, known: &str) -> Error {
    Error::User(format!("{what}: {value:?} is none; choose one of {known}"))
}

fn matcher(pattern: &str) -> Result<GlobMatcher> {
    let glob = Glob::new(pattern).map_err(|error| Error::User(format!("files: {error}")))?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words<'static> {
        Words {
            argv: vec!["cat".into()],
            feed: "stdin",
            record: "line",
            files: "*",
            canonical: "exact",
            ..Words::default()
        }
    }

    fn refusal(words: Words) -> String {
        Workload::new(words).expect_err("must be refused").to_string()
    }

    #[test]
    fn impossible_workloads_say_what_may_stand_there() {
        assert!(refusal(Words { argv: vec![], ..words() }).contains("argv"));
        assert!(refusal(Words { feed: "file", ..words() }).contains("stdin, argument"));
        assert!(refusal(Words { feed: "argument", ..words() }).contains(CASE));
        assert!(refusal(Words { argv: vec!["{case}".into()], ..words() }).contains("argument"));
        assert!(refusal(Words { record: "word", ..words() }).contains("length, files"));
        assert!(refusal(Words { record: "files", files: "[", ..words() }).contains("files"));
        assert!(refusal(Words { ignore: Some("("), ..words() }).contains("ignore"));
        assert!(refusal(Words { filter: Some(vec![]), ..words() }).contains("argv"));
    }

    #[test]
    fn blocks_are_checked_against_the_pool() {
        let lines = Workload::new(words()).unwrap();
        assert!(lines.check_block(&[0, 5, (1 << 31) - 1]).is_ok());
        assert!(lines.check_block(&[]).is_err());
        assert!(lines.check_block(&[1 << 31]).unwrap_err().to_string().contains("2147483648"));
        let whole = Workload::new(Words { record: "output", ..words() }).unwrap();
        assert!(whole.check_block(&[1]).is_ok() && whole.check_block(&[1, 2]).is_err());
        let named = Workload::new(Words { manifest: Some(vec!["a".into(), "b".into()]), ..words() }).unwrap();
        assert!(named.check_block(&[2]).is_err());
        assert_eq!(named.input(&[1, 0]), b"b\na\n");
    }

    #[test]
    fn a_cut_list_of_files_is_an_error_and_never_a_panic() {
        let mut sent = Vec::new();
        for (name, content) in [(&b"a"[..], &b"one"[..]), (b"b/c", b"")] {
            sent.extend_from_slice(&(name.len() as u64).to_le_bytes());
            sent.extend_from_slice(name);
            sent.extend_from_slice(&(content.len() as u64).to_le_bytes());
            sent.extend_from_slice(content);
        }
        let workload = Workload::new(Words { record: "files", files: "**", ..words() }).unwrap();
        let Record::Files(all) = &workload.record else { panic!("files") };
        assert_eq!(workload.hash_files(all, &sent, 0).unwrap().len(), 1);
        let boundary = 8 + 1 + 8 + 3;
        for length in (1..sent.len()).filter(|length| *length != boundary) {
            assert!(workload.hash_files(all, &sent[..length], 0).is_err(), "{length}");
        }
        assert!(workload.hash_files(all, &[0xff; 40], 0).is_err());
    }
}
