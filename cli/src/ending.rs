//! How a command ends, as whoever started it is told.

use std::process::ExitCode;

use crate::signals::Signal;

/// The end of a command that did not fail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// It has done what it was asked for.
    Done,
    /// It has a status of its own.
    Status(ExitCode),
    /// A signal has ended it.
    Signal(Signal),
}

impl Ending {
    /// The status to end the process with. Does not return if a signal has ended the command: the process
    /// ends by that signal as well.
    pub(crate) fn status(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Status(status) => status,
            Self::Signal(signal) => signal.end_process(),
        }
    }
}
