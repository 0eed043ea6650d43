//! Runs this program under callgrind.

use std::{env, fs, io, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::workload::{Case, OPTIONS};

/// Instructions in all counted calls of a workload.
///
/// # Errors
/// Valgrind is missing or fails, or has counted nothing.
pub(crate) fn count(case: Case) -> Result<u64> {
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
    let total = total(&report).with_context(|| format!("callgrind's output has no total:\n{text}"))?;
    ensure!(total > 0, "callgrind has counted nothing: is the program stripped of its symbols?");
    Ok(total)
}

/// The first number of the report's line of totals: instructions.
fn total(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_first_number_of_its_line() {
        assert_eq!(total("events: Ir\nfn=(1) main\n3 40\n\ntotals: 7081\n"), Some(7081));
        assert_eq!(total("totals: 12 3 4\n"), Some(12));
        assert_eq!(total("summary: 12\n"), None);
    }
}
