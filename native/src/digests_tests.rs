use std::fs;

use super::*;

static GO: AtomicBool = AtomicBool::new(false);

/// A directory of its own for each test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightfleet-digests-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a writable temporary directory");
        Self(path)
    }

    fn file(&self, name: &str, rows: &[(i64, u64)]) -> PathBuf {
        let path = self.0.join(name);
        let (cases, digests) = arrays(rows);
        write(&path, &cases, &digests, b"m", &GO).expect("valid rows");
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it exists");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn arrays(rows: &[(i64, u64)]) -> (Vec<i64>, Vec<Digest>) {
    rows.iter().map(|&(case, low)| (case, [!low, low])).unzip()
}

fn message<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::User(message)) => message,
        Err(error) => panic!("the user owns this one, not {error:?}"),
        Ok(_) => panic!("must be refused"),
    }
}

#[test]
fn rows_come_back_sorted_by_case() {
    let directory = Directory::new("sorted");
    let path = directory.file("a.npy", &[(7, 1), (0, 2), (CASE_END - 1, 3)]);
    assert_eq!(read(&path, &GO), Ok(arrays(&[(0, 2), (7, 1), (CASE_END - 1, 3)])));
    let empty = directory.file("empty.npy", &[]);
    assert_eq!(read(&empty, &GO), Ok(arrays(&[])));
    assert_eq!(directory.names().len(), 2, "nothing else may stay");
}

#[test]
fn chunks_do_not_show() {
    let directory = Directory::new("chunks");
    for count in [CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 3 * CHUNK_ROWS] {
        let rows: Vec<(i64, u64)> = (0..count as i64).rev().map(|case| (3 * case, case as u64)).collect();
        let path = directory.file("a.npy", &rows);
        let sorted: Vec<(i64, u64)> = rows.into_iter().rev().collect();
        assert_eq!(read(&path, &GO), Ok(arrays(&sorted)));
        assert_eq!(diff(&path, &path, 9, &GO), Ok(Diff::default()));
    }
}

#[test]
fn the_root_is_over_the_documented_bytes() {
    let directory = Directory::new("root");
    let path = directory.0.join("a.npy");
    let (cases, digests) = arrays(&[(5, 1), (2, 9)]);
    let written = write(&path, &cases, &digests, b"meta", &GO).expect("valid rows");
    let data = &fs::read(&path).expect("just written")[HEADER_BYTES..];
    let bytes = [&b"nightfleet digests 1\n\x04\0\0\0\0\0\0\0meta"[..], data].concat();
    let expected: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, expected);
    assert_eq!(root(&path, b"meta", &GO), Ok(expected.clone()));
    assert_eq!(verify(&path, b"meta", &expected, &GO), Ok(()));
    assert!(message(verify(&path, b"mete", &expected, &GO)).ends_with(&format!("expected {expected}")));
}

#[test]
fn impossible_cases_are_refused_and_leave_no_file() {
    let directory = Directory::new("refused");
    let path = directory.0.join("a.npy");
    let refused = |cases: &[i64], count: usize| message(write(&path, cases, &vec![[0, 0]; count], b"", &GO));
    assert_eq!(refused(&[1, 2], 1), "there are 2 cases but 1 digests");
    assert_eq!(refused(&[1, -1], 2), "cases must be in [0, 2**31); cases[1] is -1");
    assert_eq!(refused(&[CASE_END], 1), "cases must be in [0, 2**31); cases[0] is 2147483648");
    assert_eq!(refused(&[4, 3, 4], 3), "cases must be distinct; 4 appears twice");
    assert!(message(write(&directory.0, &[], &[], b"", &GO)).contains("does not name a file"));
    assert!(message(write(&path.join("x"), &[], &[], b"", &GO)).contains("cannot write"));
    assert!(directory.names().is_empty());
}

#[test]
fn foreign_and_damaged_files_are_named_with_what_was_expected() {
    let directory = Directory::new("damaged");
    let path = directory.file("a.npy", &[(1, 1), (2, 2)]);
    let good = fs::read(&path).expect("just written");
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("writable");
        let found = message(root(&path, b"", &GO));
        assert!(found.starts_with(&format!("{} is not a digest file: expected ", path.display())), "{found}");
        assert_eq!(message(read(&path, &GO)), found);
        assert_eq!(message(diff(&path, &path, 1, &GO)), found);
        found
    };
    assert!(refused(b"").contains("at least 192 bytes, found 0"));
    assert!(refused(&good[..good.len() - 1]).contains("240 bytes for its 2 cases, found 239"));
    assert!(refused(&[&good[..], b"x"].concat()).contains("240 bytes for its 2 cases, found 241"));
    assert!(refused(&[0; 500]).contains("the header {"));
    for at in 0..HEADER_BYTES {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        refused(&bytes);
    }
    let swapped = [&good[..HEADER_BYTES], &good[HEADER_BYTES + 24..], &good[HEADER_BYTES..HEADER_BYTES + 24]].concat();
    assert!(refused(&swapped).contains("a case above 2 and below 2**31 in row 1, found 1"));
    let repeated = [&good[..HEADER_BYTES + 24], &good[HEADER_BYTES..HEADER_BYTES + 24]].concat();
    assert!(refused(&repeated).contains("a case above 1 and below 2**31 in row 1, found 1"));
    let mut large = good.clone();
    large[HEADER_BYTES + 24 + 5] = 1;
    assert!(refused(&large).contains("row 1, found 1099511627778"));
    assert!(message(root(&directory.0.join("none"), b"", &GO)).contains("cannot read"));
    assert!(message(root(&directory.0, b"", &GO)).contains("expected a regular file"));
}

#[test]
fn any_changed_row_changes_the_root() {
    let directory = Directory::new("flip");
    let path = directory.file("a.npy", &[(1, 1), (3, 2)]);
    let (good, expected) = (fs::read(&path).expect("just written"), root(&path, b"m", &GO).expect("valid"));
    for at in HEADER_BYTES..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("writable");
        assert_ne!(root(&path, b"m", &GO), Ok(expected.clone()), "byte {at}");
    }
}

#[test]
fn a_diff_counts_all_and_lists_some() {
    let directory = Directory::new("diff");
    let a = directory.file("a.npy", &[(0, 0), (1, 1), (2, 2), (4, 4), (5, 5), (9, 9)]);
    let b = directory.file("b.npy", &[(1, 1), (2, 0), (3, 3), (4, 0), (5, 0)]);
    let expected = Diff { differing: 3, only_a: 2, only_b: 1, cases: vec![2, 4] };
    assert_eq!(diff(&a, &b, 2, &GO), Ok(expected.clone()));
    assert_eq!(diff(&b, &a, 2, &GO), Ok(Diff { only_a: 1, only_b: 2, ..expected }));
    assert!(diff(&a, &b, 0, &GO).expect("valid").cases.is_empty());
}

#[test]
fn an_interrupted_write_keeps_the_old_file() {
    let directory = Directory::new("interrupted");
    let path = directory.file("a.npy", &[(1, 1)]);
    let set = AtomicBool::new(true);
    assert_eq!(write(&path, &[2], &[[0, 0]], b"m", &set), Err(Error::Interrupted));
    assert_eq!(read(&path, &GO), Ok(arrays(&[(1, 1)])));
    assert_eq!(directory.names(), ["a.npy"]);
    assert_eq!(root(&path, b"m", &set), Err(Error::Interrupted));
    assert_eq!(diff(&path, &path, 1, &set), Err(Error::Interrupted));
}
