//! Runs this program under callgrind.

use std::{collections::BTreeMap, env, fs, io, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::workload::{Case, OPTIONS};

/// The C library's functions that Rust's allocator asks for memory.
const ALLOCATE: [&str; 4] = ["malloc", "calloc", "realloc", "posix_memalign"];

/// What was counted in all counted calls of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) instructions: u64,
    /// How often the allocator was asked for memory.
    pub(crate) allocations: u64,
}

/// Runs a workload and counts.
///
/// # Errors
/// Valgrind is missing or fails, or has counted nothing.
pub(crate) fn count(case: Case) -> Result<Totals> {
    let name = case.to_string();
    let folder = tempfile::tempdir().context("can't make a folder for callgrind's output")?;
    let output = folder.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").args(OPTIONS);
    command.arg(format!("--callgrind-out-file={}", output.display()));
    command.arg(env::current_exe().context("can't find this program's own file")?);
    command.args(["--run", &name]);
    let ended = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "valgrind is not installed: install it with the system's package manager (apt install valgrind)"
            )
        }
        ended => ended.context("can't run valgrind")?,
    };
    let text = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{name} failed under valgrind ({}):\n{text}", ended.status);
    let report = fs::read_to_string(&output).context("can't read callgrind's output")?;
    let instructions =
        instructions(&report).with_context(|| format!("callgrind's output has no total:\n{text}"))?;
    ensure!(instructions > 0, "callgrind has counted nothing: is the program stripped of its symbols?");
    Ok(Totals { instructions, allocations: allocations(&report) })
}

/// The first number of the report's line of totals: instructions.
fn instructions(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How often the functions that allocate were entered.
///
/// The report tells how often each instruction ran, function by function, with the address first and the count last:
/// ```text
/// ob=/lib/libc.so.6
/// fn=malloc
/// 0x4a5f0 3281 100
/// ```
/// What ran at a function's lowest address is its entry. (The report's own counts of calls are of no use: calls that are
/// not counted are among them.) The line after one that begins with `calls=` is of the function called.
fn allocations(report: &str) -> u64 {
    let mut entries = BTreeMap::new();
    let (mut object, mut function) = ("", "");
    let mut lines = report.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            lines.next();
        } else if ALLOCATE.contains(&function)
            && let Some((address, count)) = at_address(line)
        {
            let entry = entries.entry((object, function)).or_insert((address, count));
            if address < entry.0 {
                *entry = (address, count);
            }
        }
    }
    entries.into_values().map(|(_, count)| count).sum()
}

/// The address of a line of the report, and the count there.
fn at_address(line: &str) -> Option<(u64, u64)> {
    let mut words = line.strip_prefix("0x")?.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((address, words.last()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_first_number_of_its_line() {
        assert_eq!(instructions("events: Ir\nfn=(1) main\n3 40\n\ntotals: 7081\n"), Some(7081));
        assert_eq!(instructions("totals: 12 3 4\n"), Some(12));
        assert_eq!(instructions("summary: 12\n"), None);
    }

    #[test]
    fn entries_into_functions_that_allocate_are_counted() {
        let report = "ob=/bin/counts\nfn=main\n0x10 3 40\ncob=/lib/libc.so.6\ncfn=malloc\ncalls=7 0x50 1\n0x14 3 99\n\
                      ob=/lib/libc.so.6\nfn=malloc\n0x54 2 3\n0x50 1 3\ncfn=_int_malloc\ncalls=2 0x90 4\n0x40 2 60\n\
                      fn=_int_malloc\n0x90 4 9\nfn=realloc\n0x70 8 4\n0x72 9 4\n\
                      ob=/lib/ld.so\nfn=malloc\n0x20 5 100\n";
        assert_eq!(allocations(report), 107);
        assert_eq!(allocations("fn=free\n0x20 5 100\n"), 0);
    }
}
