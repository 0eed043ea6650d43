//! What `lock` runs while it holds the lock.

use std::{
    ffi::OsString,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use etcd_watch_tokio::concurrency::MutexGuard;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    child,
    ending::Ending,
    signals::{Signal, Signals},
};

/// How long a command whose lock is lost may take to end by itself: short, since somebody else may have the
/// lock by now.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the command to its end, and returns its status.
///
/// # Errors
/// A command that can't be started, or a lock that is lost meanwhile: the command is killed then.
pub(crate) async fn run(
    command: &[OsString],
    guard: &MutexGuard,
    signals: &mut Signals,
) -> anyhow::Result<Ending> {
    let [program, arguments @ ..] = command else { bail!("no command to run") };
    let mut command = Command::new(program);
    child::keep_passwords_from(&mut command);
    command
        .args(arguments)
        .env("ETCD_LOCK_KEY", os_string(guard.key()))
        .env("ETCD_LOCK_REV", guard.fencing_token().to_string())
        .kill_on_drop(true);
    let is_own = own_group(&mut command);
    let mut child = command.spawn().with_context(|| format!("can't run {program:?}"))?;
    let processes = Processes { id: child.id(), is_own };
    let mut asked = None;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(ending(status?, asked)),
            lost = guard.lost() => {
                processes.end(&mut child).await;
                return Err(anyhow!(lost).context(format!("the lock is lost: {program:?} was killed")));
            }
            // The lock is held until the command has ended, whatever it makes of the signal.
            signal = signals.next() => {
                asked = Some(signal);
                processes.pass_on(signal);
            }
        }
    }
}

/// The command's own status; or its signal, if that is the one which the tool was sent as well.
fn ending(status: ExitStatus, asked: Option<Signal>) -> Ending {
    #[cfg(unix)]
    if let Some(asked) = asked
        && std::os::unix::process::ExitStatusExt::signal(&status) == Some(asked.number())
    {
        return Ending::Signal(asked);
    }
    let _ = asked;
    Ending::Status(code(status))
}

/// The status a shell would tell.
fn code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// On a terminal another group would be in the background: without Ctrl-C, and not allowed to read.
#[cfg(unix)]
fn own_group(command: &mut Command) -> bool {
    use std::io::{IsTerminal, stdin};
    let is_own = !stdin().is_terminal();
    if is_own {
        command.process_group(0);
    }
    is_own
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) -> bool {
    false
}

/// The command, and what it has started if it has a process group of its own.
#[derive(Clone, Copy)]
struct Processes {
    id: Option<u32>,
    is_own: bool,
}

#[cfg(unix)]
impl Processes {
    async fn end(self, child: &mut Child) {
        use rustix::process::Signal;
        self.kill(Signal::TERM);
        let ended = timeout(GRACE, child.wait()).await.is_ok();
        // The rest of its group may be there still; while it is, its number is nobody else's.
        if self.is_own || !ended {
            self.kill(Signal::KILL);
        }
        let _ = child.wait().await;
    }

    fn pass_on(self, signal: Signal) {
        match signal {
            Signal::Terminate => self.kill(rustix::process::Signal::TERM),
            // A terminal has sent it to the command as well.
            Signal::Interrupt if self.is_own => self.kill(rustix::process::Signal::INT),
            Signal::Interrupt => {}
        }
    }

    fn kill(self, signal: rustix::process::Signal) {
        use rustix::process::{Pid, kill_process, kill_process_group};
        let Some(pid) = self.id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else { return };
        // One that has just ended can't be signalled, and needn't be.
        let _ = if self.is_own { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
    }
}

#[cfg(not(unix))]
impl Processes {
    async fn end(self, child: &mut Child) {
        let _ = timeout(GRACE, child.kill()).await;
    }

    fn pass_on(self, _: Signal) {}
}
