//! Reads case numbers, one per line, runs one episode for each, and writes one record per line.

mod episode;
mod paths;
mod policy;
mod rng;
mod warehouse;

use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;

/// Case numbers are integers in [0, 2^31).
const CASE_LIMIT: u64 = 1 << 31;

fn main() -> ExitCode {
    match run(io::stdin().lock(), BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for line in input.lines() {
        let case = parse_case(&line?)?;
        let summary = episode::run(case);
        writeln!(output, "{}", summary.record())?;
    }
    output.flush()
}

fn parse_case(line: &str) -> io::Result<u64> {
    match line.trim().parse::<u64>() {
        Ok(case) if case < CASE_LIMIT => Ok(case),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a case is an integer from 0 to {}, got {line:?}", CASE_LIMIT - 1),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_does_not_depend_on_the_cases_before_it() {
        let mut together = Vec::new();
        run("7\n8\n2147483647\n".as_bytes(), &mut together).unwrap();
        let mut alone = Vec::new();
        for case in ["7", "8", "2147483647"] {
            run(case.as_bytes(), &mut alone).unwrap();
        }
        assert_eq!(together, alone);
    }

    #[test]
    fn what_is_no_case_number_is_refused() {
        for line in ["", "-1", "2147483648", "seven"] {
            assert!(parse_case(line).is_err(), "{line:?}");
        }
    }
}
