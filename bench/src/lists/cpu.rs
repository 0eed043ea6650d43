//! Processor time, as Linux tells it.

use anyhow::{Context, Result};

/// Linux counts it in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where the times are among the fields behind the name of the program.
const OWN: [usize; 2] = [11, 12];
const CHILDRENS: [usize; 2] = [13, 14];

/// What the processes took, in seconds, that this one started and that have ended.
pub(super) fn of_children() -> Result<f64> {
    seconds("self", CHILDRENS)
}

/// What a process has taken, in seconds.
pub(super) fn of_process(id: u32) -> Result<f64> {
    seconds(&id.to_string(), OWN)
}

fn seconds(process: &str, fields: [usize; 2]) -> Result<f64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{process}/stat")).context("only Linux tells of processes")?;
    let (_, behind_name) = stat.rsplit_once(") ").context("the name ends")?;
    let words: Vec<&str> = behind_name.split(' ').collect();
    let mut ticks = 0.0;
    for field in fields {
        ticks += words.get(field).context("there are times")?.parse::<f64>()?;
    }
    Ok(ticks / TICKS_PER_SECOND)
}
