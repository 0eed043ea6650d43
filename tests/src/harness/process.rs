//! A server's process: its start, the signals it gets, its end, and its log.

use std::{
    collections::VecDeque,
    env, fs, io,
    os::unix::process::CommandExt,
    path::{self, Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::wait::INTERVAL;

/// A running server, killed when dropped.
pub(super) struct Process {
    child: Child,
    guard: Child,
}

/// Waits for the end of its input, which comes when this process is gone, then kills the server and removes its
/// directory: a process that is killed, or aborts, drops nothing.
const GUARD: &str = r#"read -r _; kill -9 "$1"; rm -rf -- "$2""#;

/// A terminal's Ctrl-C goes to all of a group. It is for the program that uses the server to say what comes of it,
/// and the guard has to outlive that program.
const OWN_GROUP: i32 = 0;

impl Process {
    /// Starts `program` in a directory, by the program `launcher` if there is one; what it writes is appended to `log`.
    pub(super) fn start(
        program: &Path,
        launcher: &[String],
        flags: &[String],
        directory: &Path,
        log: &Log,
    ) -> io::Result<Self> {
        let output = fs::OpenOptions::new().create(true).append(true).open(&log.path)?;
        let program = program_from_here(program)?;
        let mut command = match launcher {
            [] => Command::new(program),
            [launcher, arguments @ ..] => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(program);
                command
            }
        };
        command
            .current_dir(directory)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(OWN_GROUP);
        // etcd takes settings from the environment, ours are all flags.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(name);
        }
        // etcd refuses to run on some processors unless told that the risk is known.
        if env::consts::ARCH == "aarch64" {
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        let mut child = command.spawn()?;
        match guard(&child, directory) {
            Ok(guard) => Ok(Self { child, guard }),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// SIGKILL, and waits for the end.
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// SIGTERM, and waits for the end; `None`, and the process killed, if that takes longer than `patience`.
    pub(super) fn terminate(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        self.signal(Signal::TERM)?;
        // A frozen process would only hear of it once thawed.
        self.signal(Signal::CONT)?;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(INTERVAL);
        }
        self.kill()?;
        Ok(None)
    }

    /// SIGSTOP, and waits until all threads have stopped.
    pub(super) fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        // NOWAIT leaves the state to be seen by others, and an end to be reaped by `Child`.
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT)?;
        Ok(())
    }

    /// SIGCONT.
    pub(super) fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// The child isn't reaped while this exists, so the id can't be another process's.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// A path is meant from here, not from the directory that the program is to run in; a mere name is found on `PATH`.
fn program_from_here(program: &Path) -> io::Result<PathBuf> {
    if program.components().count() > 1 { path::absolute(program) } else { Ok(program.to_owned()) }
}

fn guard(server: &Child, directory: &Path) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, "guard", &server.id().to_string()]).arg(directory);
    command.process_group(OWN_GROUP);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: the server's number can be another's once it is gone. Either may have ended already, and
        // there is nobody to tell.
        let _ = self.guard.kill().and_then(|()| self.guard.wait());
        let _ = self.kill();
    }
}

/// What a server wrote, over all its restarts.
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How much was written so far.
    pub(super) fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |data| data.len())
    }

    /// What was written after the first `length` bytes.
    pub(super) fn since(&self, length: u64) -> String {
        let all = fs::read(&self.path).unwrap_or_default();
        let start = usize::try_from(length).map_or(all.len(), |length| length.min(all.len()));
        String::from_utf8_lossy(&all[start..]).into_owned()
    }

    /// The last `count` lines.
    pub(super) fn tail(&self, count: usize) -> String {
        let text = self.since(0);
        let mut tail = VecDeque::new();
        for line in text.lines() {
            if tail.len() == count {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        Vec::from(tail).join("\n")
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn sleeper(directory: &Path) -> Process {
        let log = Log::new(directory.join("log"));
        Process::start(Path::new("sleep"), &[], &["600".to_owned()], directory, &log).unwrap()
    }

    fn state(process: &Process) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_frozen_process_has_stopped_when_freeze_returns() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = sleeper(directory.path());
        for _ in 0..20 {
            process.freeze().unwrap();
            assert_eq!(state(&process), 'T');
            process.thaw().unwrap();
            super::super::wait_until_blocking("it runs again", Duration::from_secs(10), || {
                state(&process) != 'T'
            });
        }
        process.freeze().unwrap();
        let status = process.terminate(Duration::from_secs(10)).unwrap();
        assert!(status.is_some_and(|status| !status.success()), "a frozen process ends too");
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path().join("log"));
        let script = "trap '' TERM; echo ready; while true; do sleep 1; done".to_owned();
        let mut process =
            Process::start(Path::new("sh"), &[], &["-c".to_owned(), script], directory.path(), &log).unwrap();
        super::super::wait_until_blocking("it ignores SIGTERM", Duration::from_secs(10), || log.length() > 0);
        assert!(process.terminate(Duration::from_millis(100)).unwrap().is_none());
        assert!(process.ended().unwrap().is_some());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_and_its_directory_do_not_outlive_one_that_could_not_drop_it() {
        let directory = tempfile::tempdir().unwrap();
        let owned = directory.path().join("owned");
        fs::create_dir(&owned).unwrap();
        let mut process = sleeper(&owned);
        // What the system does to a process that is gone: its end of the pipe is closed.
        drop(process.guard.stdin.take());
        super::super::wait_until_blocking("the directory is gone", Duration::from_secs(10), || {
            !owned.exists()
        });
        assert_eq!(process.child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_terminal_sends_to_this_program_reaches_neither_the_process_nor_its_guard() {
        use rustix::process::{getpgid, getpgrp};
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(directory.path());
        for child in [&process.child, &process.guard] {
            assert_ne!(getpgid(Some(Pid::from_child(child))).unwrap(), getpgrp());
        }
    }

    #[test]
    fn a_process_that_is_dropped_leaves_its_directory_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(directory.path());
        let (server, guard) = (process.id(), process.guard.id());
        drop(process);
        assert!(directory.path().exists());
        let runs = |id: u32| Path::new(&format!("/proc/{id}")).exists();
        assert!(cfg!(not(target_os = "linux")) || !(runs(server) || runs(guard)));
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path().join("log"));
        assert_eq!(log.tail(2), "");
        fs::write(log.path(), "one\ntwo\nthree\n").unwrap();
        assert_eq!(log.tail(2), "two\nthree");
        assert_eq!(log.tail(5), "one\ntwo\nthree");
        assert_eq!(log.since(4), "two\nthree\n");
    }
}
