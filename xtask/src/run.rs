//! Running other programs.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// The Cargo that runs this xtask, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    program(&env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")), arguments)
}

/// A program, by its path or its name on PATH, in the workspace's root.
pub(crate) fn program(path: &(impl AsRef<OsStr> + ?Sized), arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).current_dir(workspace());
    command
}

/// A duration as text, in seconds.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Prints a command and runs it; what it writes goes where this program's output goes.
///
/// # Errors
/// If it can't be started, or ends with a failure.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    println!("> {line}");
    let status = command.status().with_context(|| format!("can't run `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Whether a command can be started and ends well; what it writes is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables = set.map(|(name, value)| format!("{}='{}' ", name.display(), value.display()));
    let words: Vec<_> =
        std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    variables.collect::<String>() + &words.join(" ")
}
