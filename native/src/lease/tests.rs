use super::*;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::process::{Child, Command, Stdio};

const CHILD_DIRECTORY: &str = "NIGHTFLEET_TEST_LEASE";

/// A private directory that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = env::temp_dir().join(format!("nightfleet-lease-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Scratch(path)
    }

    fn take(&self, wait: Option<Duration>) -> Result<Lease> {
        Lease::acquire_in(&self.0, "test", wait, |_, _| {}, &AtomicBool::new(false))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Not a test by itself: the other process of the tests below, which run this binary again.
#[test]
fn holder_process() {
    let Some(directory) = env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let lease =
        Lease::acquire_in(Path::new(&directory), "ch\u{1b}ild", None, |_, _| {}, &AtomicBool::new(false)).unwrap();
    // libtest captures `print!` but not this.
    std::io::stdout().write_all(b"\nheld\n").unwrap();
    // Ends with our parent, whatever becomes of it.
    let _ = std::io::stdin().read(&mut [0]);
    drop(lease);
}

fn holder_process_in(directory: &Path) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "lease::tests::holder_process", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(std::io::Result::ok).any(|line| line == "held"), "the child never held the lease");
    child
}

#[test]
fn two_open_files_exclude_each_other_until_the_first_is_dropped() {
    let scratch = Scratch::new("two");
    let first = scratch.take(Some(Duration::ZERO)).unwrap();
    assert!(first.is_current());
    let Err(Error::Machine(message)) = scratch.take(Some(Duration::ZERO)) else { panic!("two leases") };
    assert!(message.contains(&format!("held by process {} (test)", std::process::id())), "{message}");
    drop(first);
    assert_eq!(fs::read(scratch.0.join(FILE)).unwrap(), b"", "a released lease names nobody");
    scratch.take(Some(Duration::ZERO)).unwrap();
}

#[test]
fn another_process_is_named_and_its_death_by_sigkill_frees_the_lease() {
    let scratch = Scratch::new("kill");
    let mut child = holder_process_in(&scratch.0);
    assert!(scratch.take(Some(Duration::ZERO)).is_err());
    let mut heard = None;
    let lease = Lease::acquire_in(
        &scratch.0,
        "test",
        None,
        |holder, _| {
            if heard.is_none() {
                heard = Some(holder.clone());
                child.kill().unwrap();
            }
        },
        &AtomicBool::new(false),
    );
    lease.unwrap();
    let holder = heard.expect("the child held it");
    assert_eq!(holder.purpose, "child", "without the escape character");
    assert_eq!(holder.owner.unwrap().pid, child.id() as i32);
    child.wait().unwrap();
    assert!(!holder.owner.unwrap().may_be_alive());
}

#[test]
fn a_wait_can_be_cancelled() {
    let scratch = Scratch::new("cancel");
    let _held = scratch.take(None).unwrap();
    let cancel = AtomicBool::new(false);
    let mut calls = 0;
    let wait = Lease::acquire_in(
        &scratch.0,
        "test",
        None,
        |_, _| {
            calls += 1;
            cancel.store(calls == 2, Ordering::Relaxed);
        },
        &cancel,
    );
    assert_eq!((wait.unwrap_err(), calls), (Error::Interrupted, 2));
}

#[test]
fn a_forked_copy_does_not_free_the_lease() {
    let scratch = Scratch::new("fork");
    let mut held = scratch.take(None).unwrap();
    // Stands for the copy in a forked child, whose pid differs from the one that took the lease.
    held.process = 0;
    let copy = held.file.try_clone().unwrap();
    drop(held);
    assert!(scratch.take(Some(Duration::ZERO)).is_err());
    drop(copy);
    // Waits: another test that is just between its fork and its exec holds a copy too.
    scratch.take(None).unwrap();
}

#[test]
fn a_lease_whose_file_was_replaced_is_not_current() {
    let scratch = Scratch::new("replaced");
    let lease = scratch.take(None).unwrap();
    fs::remove_file(lease.path()).unwrap();
    assert!(!lease.is_current());
    let second = scratch.take(Some(Duration::ZERO)).unwrap();
    assert!(second.is_current() && !lease.is_current());
}

#[test]
fn a_planted_file_is_refused() {
    let scratch = Scratch::new("planted");
    let (file, other) = (scratch.0.join(FILE), scratch.0.join("other"));
    fs::write(&other, "").unwrap();
    symlink(&other, &file).unwrap();
    assert!(matches!(scratch.take(None), Err(Error::Machine(_))), "a link");
    fs::remove_file(&file).unwrap();
    fs::hard_link(&other, &file).unwrap();
    let refused = || scratch.take(None).unwrap_err().to_string();
    assert!(refused().contains("not a plain file"), "a second name");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, Mode::from_bits_truncate(0o600)).unwrap();
    assert!(refused().contains("not a plain file"), "a pipe");
}

#[test]
fn a_lock_on_a_file_that_was_removed_meanwhile_is_no_lease() {
    let scratch = Scratch::new("moved");
    let file = open(&scratch.0).unwrap();
    fs::remove_file(scratch.0.join(FILE)).unwrap();
    let attempt = Lease::take(file, &scratch.0, "test").unwrap();
    assert!(matches!(attempt, Attempt::Moved));
    scratch.take(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_strange_file_still_means_that_someone_holds_it() {
    let scratch = Scratch::new("strange");
    let lease = scratch.take(None).unwrap();
    for text in ["", "{", "[]", "\u{202e}"] {
        fs::write(lease.path(), text).unwrap();
        let message = scratch.take(Some(Duration::ZERO)).unwrap_err().to_string();
        assert!(message.contains("a process that has not said its name"), "{message}");
    }
}
