//! Ctrl-C and SIGTERM.

use std::time::Duration;

use tokio::sync::oneshot;

/// How long what was going on may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// What asked the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// Ends the process at once, by this signal: a shell tells status 130 or 143. A mere exit status of 130
    /// would not end a shell's loop around the command, because bash goes on after a command that has exited.
    pub(crate) fn end_process(self) -> ! {
        self.raise();
        std::process::exit(self.status())
    }

    /// Ends the process as the signal does where nothing handles it.
    #[cfg(unix)]
    fn raise(self) {
        // The first process of a container is not ended by its own signals.
        if std::process::id() == 1 {
            return;
        }
        // If that is not possible, the exit status tells the same.
        let _ = signal_hook::low_level::emulate_default_handler(self.number());
    }

    /// The number that the system has for it.
    #[cfg(unix)]
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Interrupt => signal_hook::consts::SIGINT,
            Self::Terminate => signal_hook::consts::SIGTERM,
        }
    }

    #[cfg(not(unix))]
    fn raise(self) {}

    /// The status that a shell tells for this signal.
    fn status(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Whether the process has been asked to end.
pub(crate) struct Stop(oneshot::Receiver<Signal>);

impl Stop {
    /// Completes with the first signal, once.
    pub(crate) async fn asked(&mut self) -> Signal {
        match (&mut self.0).await {
            Ok(signal) => signal,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Listens for signals. After the first, whatever goes on has until the next to end, and with `hurry` no
/// more than 3 seconds: output that nobody reads mustn't keep the process.
pub(crate) fn listen(hurry: bool) -> Stop {
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let signal = next().await;
        // Nobody waits for it: then nothing has to end.
        let _ = tell.send(signal);
        let patience = async {
            if !hurry {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _ = next() => {}
            () = patience => {}
        }
        signal.end_process();
    });
    Stop(told)
}

async fn next() -> Signal {
    Signals::listen().next().await
}

/// The signals themselves, every one, for those who do more than end.
#[cfg(unix)]
pub(crate) struct Signals(Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>);

#[cfg(unix)]
impl Signals {
    /// Hears every signal from now on.
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        // Without handlers signals end the process, which is what they are for.
        Self(if let (Ok(interrupt), Ok(terminate)) = handlers { Some((interrupt, terminate)) } else { None })
    }

    /// Completes with the next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        let Some((interrupt, terminate)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = interrupt.recv() => Signal::Interrupt,
            _ = terminate.recv() => Signal::Terminate,
        }
    }
}

/// The signals themselves, every one, for those who do more than end.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Hears every signal from now on.
    pub(crate) fn listen() -> Self {
        Self
    }

    /// Completes with the next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
