//! Whether calls, as clients saw them, are what one store can have answered.
//!
//! A [`Recorder`] writes down what clients ask and are told, and when. What really happened is a [`Truth`]: every change
//! of the store, from a watch that has none of our client in it. [`check`] holds the one against the other.
//!
//! etcd's answers say at which revision they were made, and every write has a revision of its own. So the order of the
//! operations need not be searched for, as for a register of which nothing is known (Wing and Gong's search is
//! exponential in the operations that overlap): it is read off, and what is left is to replay it. The sequential
//! specification is [`ModelEtcd`](crate::model::ModelEtcd), one operation at a time.
//!
//! | rule | what it demands |
//! |---|---|
//! | [`Answer`](Rule::Answer) | an answer is what the store gives at the answer's revision, in every field |
//! | [`Effect`](Rule::Effect) | a write changes what it says, at the revision it says, and nothing else |
//! | [`Current`](Rule::Current) | whatever is linearizable sees all that anybody was told before it was asked |
//! | [`Causal`](Rule::Causal) | nobody sees a write that has not been asked for, and no revision that is not there |
//! | [`Lost`](Rule::Lost) | a write that was acknowledged is in the history |
//! | [`Once`](Rule::Once) | a write takes effect once |
//! | [`NotExecuted`](Rule::NotExecuted) | an error that says so is right: the call had no effect |
//! | [`Unasked`](Rule::Unasked) | nothing changes that nobody has asked to change |
//! | [`Lease`](Rule::Lease) | keys hang on leases that exist, and go with them, all at one revision, and not before its time |
//! | [`Refusal`](Rule::Refusal) | what is refused for a lease or a revision that isn't there has none |
//! | [`Truth`](Rule::Truth) | the history itself has no gap, and every change in it fits what was there before |
//!
//! Serializable reads may be stale: of these rules only `Current` leaves them out. So are transactions that only read, if
//! all their reads are serializable, and those that do nothing but compare.
//!
//! A write whose fate its client doesn't know is an interval that is open: it may take effect at any time after it was
//! asked for, or never. Which of the history's changes it made is told by the values it puts, so each is to have one of
//! its own. Deletes have none; they are matched with what is left over, as many of them as possible.
//!
//! | file | owns |
//! |---|---|
//! | `history` | what clients ask and are told |
//! | `truth` | what really happened |
//! | `order` | real time: what had been seen before an operation began |
//! | `spec` | what one operation does to a state |
//! | `checker`, `checked` | the replay, and what was looked at |
//! | `claims` | which operation claims which revision |
//! | `unclaimed` | who made the revisions that nobody claims |
//! | `leases` | leases: when they begin and end |
//! | `recorder`, `cached`, `translate` | a client whose calls are written down |
//! | `workload` | calls at random |

mod cached;
mod checked;
mod checker;
mod claims;
mod history;
mod leases;
mod order;
mod recorder;
mod spec;
mod translate;
mod truth;
mod unclaimed;
mod workload;

#[cfg(test)]
mod tests;

use std::fmt;

pub use checked::Checked;
pub use checker::check;
pub use history::{Answer, Demand, Operation, Outcome, Request};
pub use recorder::{RecordedClient, Recorder};
pub use translate::{range_request, range_response};
pub use truth::Truth;
pub use workload::{Kinds, Workload};

/// What calls must keep to; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An answer that the store can't have given at its revision.
    Answer,
    /// A revision that is not what its write does.
    Effect,
    /// A state from before what was known already.
    Current,
    /// A state from the future.
    Causal,
    /// A write that was acknowledged and isn't there.
    Lost,
    /// A write that was made twice, or a revision that two writes claim.
    Once,
    /// A write that was not to be executed, and was.
    NotExecuted,
    /// A change that nobody has asked for.
    Unasked,
    /// A key that hangs on a lease that isn't there, outlives its lease, or goes too early.
    Lease,
    /// A refusal for a reason that there wasn't.
    Refusal,
    /// A history that can't be.
    Truth,
}

/// A rule that was broken, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The operation's place in the history, unless it is about a change that nobody asked for.
    pub operation: Option<usize>,
    /// The revision.
    pub revision: i64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} was broken at revision {}", self.rule, self.revision)?;
        if let Some(operation) = self.operation {
            write!(f, " by operation {operation}")?;
        }
        write!(f, ": {}", self.what)
    }
}
