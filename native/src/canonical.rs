//! Canonical forms: what of a record is compared.
//!
//! `json` maps equal JSON values to equal bytes and different values to different bytes. The form is
//! prefix-free, so no two values share one:
//!
//! | value | canonical bytes |
//! |---|---|
//! | `null`, `true`, `false` | `n`, `t`, `f` |
//! | integer (no fraction, no exponent) | `i` text `;` with `-0` written `0` |
//! | number with a fraction or exponent | `d` and the 16 hex digits of its f64 bits (so `-0.0` is not `0.0`) |
//! | string | `s` UTF-8 length in decimal `:` UTF-8 bytes |
//! | array | `[` values `]` |
//! | object | `{` key (as a string) and value, by key bytes, `}` |
//!
//! Not JSON here, because two readers could disagree about the value: duplicate keys, lone surrogates,
//! `NaN`, `Infinity`, numbers beyond the range of f64, numbers with more than 4300 digits before any
//! fraction (jiter's limit, and Python's), more than [`MAX_DEPTH`] nested containers.
//! An invalid record is hashed raw under a tag of its own, so it never equals a valid one.

use std::ops::Range;

use jiter::{Jiter, Peek};
use regex::bytes::{Regex, RegexBuilder};

use crate::error::Error;

/// Containers that may be open at once (fixed: it bounds the parser's stack).
pub const MAX_DEPTH: usize = 128;

/// First byte of what is hashed for a valid JSON record; canonical bytes follow.
pub const TAG_VALID: u8 = b'j';
/// First byte of what is hashed for a record that is not JSON; its raw bytes follow.
pub const TAG_INVALID: u8 = b'!';

/// Which bytes of a record are hashed.
#[derive(Debug, Clone, Default)]
pub struct Canonical {
    json: bool,
    ignore: Option<Regex>,
}

impl Canonical {
    /// All bytes, as they are.
    pub fn exact() -> Self {
        Self::default()
    }

    /// `form` is `exact` or `json`. Matches of `ignore` are removed first.
    ///
    /// # Errors
    /// `User` when the form is unknown, or the pattern is not one, or it can match the empty string.
    pub fn new(form: &str, ignore: Option<&str>) -> Result<Self, Error> {
        let json = match form {
            "exact" => false,
            "json" => true,
            _ => return Err(Error::User(format!("canonical must be 'exact' or 'json'; got '{form}'"))),
        };
        let ignore = ignore.map(compile).transpose()?;
        Ok(Self { json, ignore })
    }

    /// Whether records are hashed as they are, so that they need not be held in memory.
    pub fn is_exact(&self) -> bool {
        !self.json && self.ignore.is_none()
    }

    /// Leaves in `forms.hashed` the bytes to hash for `record`; returns whether the record was valid.
    pub fn apply(&self, record: &[u8], forms: &mut Forms) -> bool {
        let Forms { kept, hashed, json } = forms;
        let record = match &self.ignore {
            Some(pattern) => {
                remove(pattern, record, kept);
                kept.as_slice()
            }
            None => record,
        };
        hashed.clear();
        if !self.json {
            hashed.extend_from_slice(record);
            return true;
        }
        hashed.push(TAG_VALID);
        if json.write(record, hashed).is_some() {
            return true;
        }
        hashed.clear();
        hashed.push(TAG_INVALID);
        hashed.extend_from_slice(record);
        false
    }
}

/// Buffers reused from record to record.
#[derive(Debug, Default)]
pub struct Forms {
    kept: Vec<u8>,
    /// What [`Canonical::apply`] produced.
    pub hashed: Vec<u8>,
    json: JsonForm,
}

/// The canonical bytes of one JSON text, or `None` when it is not JSON.
pub fn json(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    JsonForm::default().write(text, &mut out)?;
    Some(out)
}

fn compile(pattern: &str) -> Result<Regex, Error> {
    let invalid = |reason: String| Error::User(format!("ignore is not a regular expression: {reason}"));
    // `^` and `$` match at lines in every framing; Python's `re` agrees with that reading (MULTILINE)
    // and with no other one, so the independent twin can follow.
    let hir = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .multi_line(true)
        .build()
        .parse(pattern)
        .map_err(|e| invalid(e.to_string()))?;
    if hir.properties().minimum_len().is_none_or(|bytes| bytes == 0) {
        return Err(Error::User(format!(
            "ignore must not match the empty string; got '{pattern}' (write + where you wrote *)"
        )));
    }
    RegexBuilder::new(pattern).unicode(false).multi_line(true).build().map_err(|e| invalid(e.to_string()))
}

fn remove(pattern: &Regex, record: &[u8], kept: &mut Vec<u8>) {
    kept.clear();
    let mut end = 0;
    for found in pattern.find_iter(record) {
        kept.extend_from_slice(&record[end..found.start()]);
        end = found.end();
    }
    kept.extend_from_slice(&record[end..]);
}

/// One member of an object in the output: where its key's text, and all of it, lie.
#[derive(Debug, Clone)]
struct Member {
    key: Range<usize>,
    all: Range<usize>,
}

#[derive(Debug, Default)]
struct JsonForm {
    tape: Vec<u8>,
    members: Vec<Member>,
    unsorted: Vec<u8>,
}

impl JsonForm {
    fn write(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.members.clear();
        let input = Jiter::with_tape(text, std::mem::take(&mut self.tape));
        let mut writer = Writer { input, out, members: &mut self.members, unsorted: &mut self.unsorted };
        let done = writer.document();
        self.tape = writer.input.into_tape();
        done
    }
}

struct Writer<'t, 'o> {
    input: Jiter<'t>,
    out: &'o mut Vec<u8>,
    /// A stack: an object's members lie above those of the objects around it.
    members: &'o mut Vec<Member>,
    unsorted: &'o mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn document(&mut self) -> Option<()> {
        let first = self.input.peek().ok()?;
        self.value(first, 0)?;
        self.input.finish().ok()
    }

    fn value(&mut self, first: Peek, depth: usize) -> Option<()> {
        match first {
            Peek::Null => {
                self.input.known_null().ok()?;
                self.out.push(b'n');
            }
            Peek::True | Peek::False => {
                let truth = self.input.known_bool(first).ok()?;
                self.out.push(if truth { b't' } else { b'f' });
            }
            Peek::String => {
                let text = self.input.known_str().ok()?;
                string(text, self.out);
            }
            Peek::Array | Peek::Object if depth == MAX_DEPTH => return None,
            Peek::Array => self.array(depth + 1)?,
            Peek::Object => self.object(depth + 1)?,
            _ if first.is_num() => number(self.input.known_number_bytes(first).ok()?, self.out)?,
            _ => return None,
        }
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.out.push(b'[');
        let mut next = self.input.known_array().ok()?;
        while let Some(first) = next {
            self.value(first, depth)?;
            next = self.input.array_step().ok()?;
        }
        self.out.push(b']');
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.out.push(b'{');
        let (body, outer) = (self.out.len(), self.members.len());
        let mut next = self.input.known_object().ok()?;
        while let Some(text) = next {
            let start = self.out.len();
            string(text, self.out);
            let end = self.out.len();
            let key = end - text.len()..end;
            let value = self.input.peek().ok()?;
            self.value(value, depth)?;
            self.members.push(Member { key, all: start..self.out.len() });
            next = self.input.next_key().ok()?;
        }
        self.sort(body, outer)?;
        self.members.truncate(outer);
        self.out.push(b'}');
        Some(())
    }

    /// Puts the members above `outer`, written from `body` on, in the order of their keys' bytes.
    fn sort(&mut self, body: usize, outer: usize) -> Option<()> {
        let members = &mut self.members[outer..];
        let out = &*self.out;
        let key = |member: &Member| &out[member.key.clone()];
        if members.is_sorted_by(|a, b| key(a) < key(b)) {
            return Some(());
        }
        members.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        if members.windows(2).any(|pair| key(&pair[0]) == key(&pair[1])) {
            return None;
        }
        self.unsorted.clear();
        self.unsorted.extend_from_slice(&out[body..]);
        self.out.truncate(body);
        for member in members {
            self.out.extend_from_slice(&self.unsorted[member.all.start - body..member.all.end - body]);
        }
        Some(())
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b's');
    decimal(text.len(), out);
    out.push(b':');
    out.extend_from_slice(text.as_bytes());
}

fn decimal(mut value: usize, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out[start..].reverse();
}

fn number(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        out.push(b'i');
        out.extend_from_slice(if text == b"-0" { b"0" } else { text });
        out.push(b';');
        return Some(());
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    out.push(b'd');
    for nibble in (0..16).rev() {
        out.push(b"0123456789abcdef"[(value.to_bits() >> (4 * nibble)) as usize & 15]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<String> {
        json(text.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("canonical bytes of text are text"))
    }

    #[test]
    fn every_kind_of_value_has_its_documented_form() {
        let text = r#" {"b": [1, -0, 1.5, "x\u00e9", null], "a": {"z": true, "": false}} "#;
        let expected = "{s1:a{s0:fs1:zt}s1:b[i1;i0;d3ff8000000000000s3:xén]}";
        assert_eq!(form(text).as_deref(), Some(expected));
    }

    #[test]
    fn equal_values_share_a_form_and_unequal_ones_do_not() {
        assert_eq!(form(r#"{"a":1,"b":2}"#), form(r#"{ "b" : 2, "\u0061":1 }"#));
        assert_eq!(form("1e2"), form("100.0"));
        assert_ne!(form("100"), form("100.0"));
        assert_ne!(form("0.0"), form("-0.0"));
        assert_ne!(form("[[1],2]"), form("[[1,2]]"));
        assert_ne!(form("123456789012345678901234567890"), form("123456789012345678901234567891"));
    }

    #[test]
    fn what_readers_could_disagree_about_is_invalid() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "-1e999",
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            r#"{"a":1,"a":1}"#,
            r#"{"b":1,"a":2,"\u0062":3}"#,
            "1 2",
            "tru",
            "'a'",
            "\u{feff}1",
            "\"\n\"",
        ] {
            assert_eq!(form(text), None, "{text:?}");
        }
        assert_eq!(json(b"\"\xff\""), None);
        assert_eq!(json(b"\"\xed\xa0\x80\""), None);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(form(&nested(MAX_DEPTH)).is_some());
        assert!(form(&nested(MAX_DEPTH + 1)).is_none());
        assert!(form(&nested(1_000_000)).is_none());
    }

    #[test]
    fn digits_are_bounded() {
        for rest in ["", ".5", "e1"] {
            assert_eq!(form(&("-".to_owned() + &"1".repeat(4300) + rest)).is_some(), rest.is_empty());
            assert!(form(&("1".repeat(4301) + rest)).is_none());
        }
    }

    #[test]
    fn an_invalid_record_keeps_its_raw_bytes_under_its_own_tag() {
        let canonical = Canonical::new("json", None).expect("known form");
        let mut forms = Forms::default();
        assert!(canonical.apply(b"[1]\n", &mut forms));
        assert_eq!(forms.hashed, b"j[i1;]");
        assert!(!canonical.apply(b"[i1;]", &mut forms));
        assert_eq!(forms.hashed, b"![i1;]");
    }

    #[test]
    fn ignored_matches_are_removed_before_anything_else() {
        let canonical = Canonical::new("json", Some(r#""ms": \d+,"#)).expect("valid pattern");
        let mut forms = Forms::default();
        assert!(canonical.apply(br#"{"ms": 12, "a": 1}"#, &mut forms));
        assert_eq!(forms.hashed, b"j{s1:ai1;}");
        let raw = Canonical::new("exact", Some(r"\xff+$")).expect("patterns are over bytes");
        raw.apply(b"a\xff\xff\nb\xffc\n", &mut forms);
        assert_eq!(forms.hashed, b"a\nb\xffc\n");
    }

    #[test]
    fn refusals_say_what_to_type() {
        let message = |form, ignore| Canonical::new(form, ignore).expect_err("must be refused").to_string();
        assert!(message("yaml", None).contains("'exact' or 'json'; got 'yaml'"));
        assert!(message("json", Some("a*")).contains("must not match the empty string; got 'a*'"));
        assert!(message("json", Some(r"\b")).contains("must not match the empty string"));
        assert!(message("json", Some("(")).contains("not a regular expression"));
        assert!(message("exact", Some("(?<=a)b")).contains("not a regular expression"));
    }
}
