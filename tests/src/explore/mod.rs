//! Every interleaving of a small world around the real machine.
//!
//! A [`Plan`] says what there is: watches, writes, a server with its manners, and what may go wrong how
//! often. [`explore`] visits every state that can come of it, whatever happens in whatever order, and holds
//! each to the [`Promise`]s. What it finds broken it tells with a shortest run that leads there.
//!
//! | file | what |
//! |---|---|
//! | `plan` | what a world is made of |
//! | `worlds` | the worlds that are searched |
//! | `step`, `moves` | what can happen, and what of it can happen next |
//! | `world` | a state, and how a step changes it |
//! | `store`, `server`, `wire` | the truth, the server's end of a stream, what it says |
//! | `consumer`, `closing`, `violation` | what is promised, in every state and at the end |
//! | `fingerprint` | when two states count as one |
//! | `search` | going through them all |
//!
//! What can happen, in any order: each write; each request reaching the server; each of its replies, events
//! and notifications reaching the client; the stream opening; the read of the current revision finding any
//! revision that there was since it was asked for; consumers taking, asking and cancelling; and the faults.
//! A cut loses what is under way in both directions, before or after the server has acted on it.
//!
//! Time stands still between steps. That the machine's next deadline passes is a step of its own: a server
//! that is slower than a deadline is one that does nothing meanwhile. So of two deadlines that run at once the
//! earlier one passes first, as if everything else took no time.

mod closing;
mod consumer;
mod fingerprint;
mod moves;
mod plan;
mod search;
mod server;
mod step;
mod store;
mod violation;
mod wire;
mod world;
mod worlds;

pub use plan::{Bug, Consumers, Faults, ManualProgress, Plan, ServerPlan, WatchPlan};
pub use search::{Report, explore};
pub use violation::{Promise, Violation};
pub use worlds::{all_worlds, small_worlds};
