//! Everything that can happen in a world, one at a time.

use std::fmt;

/// One thing that happens. Watches are named by their number in the plan, the server's watches by the order
/// of their creation on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next write is made.
    Write,
    /// The application opens a watch.
    Watch { watch: u8 },
    /// The driver has opened the stream.
    Opened,
    /// The server handles the oldest request.
    Handle,
    /// The server drops the oldest request, which asks for progress while a watch is catching up.
    Drop,
    /// The oldest reply to a request reaches the client.
    Control,
    /// The oldest progress notification behind events reaches the client.
    Progress,
    /// A watch's events up to a revision reach the client; of these, only so many if there is a number, and
    /// the rest will follow.
    Events { slot: u8, to: u8, cut: Option<u8> },
    /// What follows of a response that was cut.
    Rest { slot: u8, cut: Option<u8> },
    /// A watch is told that it is compacted.
    Compacted { slot: u8 },
    /// The read of the current revision is answered.
    Answer { revision: u8 },
    /// The machine's next deadline passes.
    Timeout,
    /// The consumer takes one delivery.
    Take { watch: u8 },
    /// The server makes a periodic progress notification.
    Notify { slot: u8 },
    /// The consumer asks for progress.
    Ask { watch: u8 },
    /// The consumer cancels its watch.
    Cancel { watch: u8 },
    /// The store is compacted.
    Compact { revision: u8 },
    /// The connection is lost, or can't be made.
    Cut,
    /// The read of the current revision fails.
    FailRead,
    /// What a cut stream had left to say is told as its successor's.
    Stale,
    /// A watch's events up to a revision are lost.
    Lose { slot: u8, to: u8 },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write => f.write_str("the store is written"),
            Self::Watch { watch } => write!(f, "watch {watch} is opened"),
            Self::Opened => f.write_str("the stream is open"),
            Self::Handle => f.write_str("the server handles the next request"),
            Self::Drop => f.write_str("the server drops the progress request: a watch is catching up"),
            Self::Control => f.write_str("the server's next reply arrives"),
            Self::Progress => f.write_str("the server's next progress notification arrives"),
            Self::Events { slot, to, cut: None } => {
                write!(f, "the server's watch {slot} sends events up to revision {to}")
            }
            Self::Events { slot, to, cut: Some(events) } => {
                write!(f, "the server's watch {slot} sends the first {events} events up to revision {to}")
            }
            Self::Rest { slot, cut: None } => {
                write!(f, "the server's watch {slot} sends the rest of the response")
            }
            Self::Rest { slot, cut: Some(events) } => {
                write!(f, "the server's watch {slot} sends {events} events more of the response")
            }
            Self::Compacted { slot } => write!(f, "the server's watch {slot} says that it is compacted"),
            Self::Answer { revision } => write!(f, "the read is answered: revision {revision}"),
            Self::Timeout => f.write_str("the machine's next deadline passes"),
            Self::Take { watch } => write!(f, "the consumer of watch {watch} takes"),
            Self::Notify { slot } => write!(f, "the server's watch {slot} makes a progress notification"),
            Self::Ask { watch } => write!(f, "the consumer of watch {watch} asks for progress"),
            Self::Cancel { watch } => write!(f, "the consumer cancels watch {watch}"),
            Self::Compact { revision } => write!(f, "the store is compacted at revision {revision}"),
            Self::Cut => f.write_str("the connection is lost"),
            Self::FailRead => f.write_str("the read fails"),
            Self::Stale => f.write_str("the driver takes a response of the lost stream for the new one's"),
            Self::Lose { slot, to } => {
                write!(f, "the driver loses the events of the server's watch {slot} up to revision {to}")
            }
        }
    }
}
