use super::*;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const CAP: usize = 1 << 20;

fn one(bytes: &[u8]) -> Digest {
    split(XxHash3_128::oneshot_with_seed(SEED, bytes))
}

fn hash(framing: Framing, pieces: &[&[u8]]) -> Result<Records, FramingError> {
    let mut hasher = RecordHasher::new(framing, Canonical::exact(), SEED, CAP);
    for piece in pieces {
        hasher.push(piece)?;
    }
    hasher.finish()
}

fn digests(framing: Framing, data: &[u8]) -> Vec<Digest> {
    hash(framing, &[data]).expect("well-framed").digests
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_le_bytes(), payload].concat()
}

#[test]
fn a_published_vector_holds() {
    // XXH3-128 of nothing under seed 0, from the reference implementation's documentation of XXH128.
    let empty = RecordHasher::new(Framing::Output, Canonical::exact(), 0, CAP).finish().expect("one record");
    assert_eq!(empty.digests, [[0x99aa_06d3_0147_98d8, 0x6001_c324_468d_497f]]);
}

#[test]
fn lines_keep_their_newline_and_the_last_one_may_lack_it() {
    assert_eq!(digests(Framing::Line, b"a\n\nb"), [one(b"a\n"), one(b"\n"), one(b"b")]);
    assert_ne!(digests(Framing::Line, b"a"), digests(Framing::Line, b"a\n"));
    assert!(digests(Framing::Line, b"").is_empty());
}

#[test]
fn an_output_is_always_one_record() {
    assert_eq!(digests(Framing::Output, b""), [one(b"")]);
    assert_eq!(digests(Framing::Output, b"a\nb"), [one(b"a\nb")]);
}

#[test]
fn frames_carry_any_bytes() {
    let data = [frame(b"a\n"), frame(b""), frame(&[0; 5000])].concat();
    assert_eq!(digests(Framing::Length, &data), [one(b"a\n"), one(b""), one(&[0; 5000])]);
    assert!(digests(Framing::Length, b"").is_empty());
}

#[test]
fn pieces_do_not_matter() {
    let lines: Vec<u8> = [3, 64, 239, 240, 241, 300, 4095, 4096, 4097, 9000]
        .iter()
        .flat_map(|&length: &usize| (0..length).map(|i| b'a' + (i % 26) as u8).chain([b'\n']))
        .collect();
    let frames = [frame(&lines), frame(b""), frame(&lines[..100])].concat();
    for (framing, data) in [(Framing::Line, &lines), (Framing::Output, &lines), (Framing::Length, &frames)] {
        for step in [1, 2, 3, 5, 63, 64, 1000, 4096, 5000] {
            let pieces: Vec<&[u8]> = data.chunks(step).collect();
            let whole = hash(framing, &[data]).expect("well-framed");
            assert_eq!(hash(framing, &pieces).expect("well-framed"), whole, "{framing:?} in {step}s");
        }
    }
}

#[test]
fn cut_frames_and_long_ones_are_errors() {
    let truncated = |part, expected, received| FramingError::Truncated { record: 1, part, expected, received };
    let cut = [frame(b"abc"), frame(b"de")].concat();
    assert_eq!(hash(Framing::Length, &[&cut[..9]]), Err(truncated("length", 4, 2)));
    assert_eq!(hash(Framing::Length, &[&cut[..11]]), Err(truncated("payload", 2, 0)));
    assert_eq!(hash(Framing::Length, &[&cut[..12]]), Err(truncated("payload", 2, 1)));
    let long = hash(Framing::Length, &[&u32::MAX.to_le_bytes()]);
    assert_eq!(long, Err(FramingError::TooLong { record: 0, bytes: u32::MAX as usize, limit: CAP }));
}

#[test]
fn endless_output_stops_at_the_expected_number_of_records() {
    let mut hasher = RecordHasher::new(Framing::Line, Canonical::exact(), SEED, CAP).with_max_records(2);
    hasher.push(b"a\nb\nc").expect("an open third record is not yet one too many");
    assert_eq!(hasher.push(b"\n"), Err(FramingError::TooMany { limit: 2 }));
    assert_eq!(hasher.records().digests, [one(b"a\n"), one(b"b\n")]);
    let mut hasher = RecordHasher::new(Framing::Line, Canonical::exact(), SEED, CAP).with_max_records(2);
    assert_eq!(hasher.push(b"a\nb\nc\nd\n"), Err(FramingError::TooMany { limit: 2 }));
    assert_eq!(hasher.records().digests, [one(b"a\n"), one(b"b\n")]);
}

#[test]
fn long_exact_records_are_never_held() {
    let mut hasher = RecordHasher::new(Framing::Line, Canonical::exact(), SEED, 10);
    for _ in 0..1000 {
        hasher.push(&[b'x'; 1000]).expect("exact lines may be of any length");
    }
    assert!(hasher.open.carry.capacity() <= 2 * CARRY_BYTES);
    assert_eq!(hasher.finish().expect("one line").digests, [one(&vec![b'x'; 1_000_000])]);
}

#[test]
fn canonicalised_records_are_held_up_to_the_limit() {
    let json = Canonical::new("json", None).expect("known form");
    let mut hasher = RecordHasher::new(Framing::Line, json.clone(), SEED, 8);
    hasher.push(b"[1,2]\n[1").expect("short enough");
    let long = Err(FramingError::TooLong { record: 1, bytes: 9, limit: 8 });
    assert_eq!(hasher.push(b",2,   3"), long);
    let mut hasher = RecordHasher::new(Framing::Line, json, SEED, 8);
    hasher.push(b"[1, 2]\n").expect("short enough");
    hasher.push(b"[1,").expect("short enough");
    hasher.push(b"2]\nnope\n").expect("short enough");
    let records = hasher.finish().expect("three records");
    assert_eq!(records.digests, [one(b"j[i1;i2;]"), one(b"j[i1;i2;]"), one(b"!nope\n")]);
    assert_eq!(records.invalid, 1);
}

#[test]
fn errors_read_as_sentences() {
    assert_eq!(FramingError::TooMany { limit: 200 }.to_string(), "more than the 200 expected records");
    let cut = FramingError::Truncated { record: 3, part: "payload", expected: 10, received: 4 };
    assert_eq!(cut.after(2).to_string(), "record 5 is cut: its payload has 4 of 10 bytes");
    let long = FramingError::TooLong { record: 0, bytes: 20, limit: 10 };
    assert_eq!(long.to_string(), "record 0 has at least 20 bytes; the limit is 10");
}
