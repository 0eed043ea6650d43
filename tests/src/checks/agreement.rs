//! Whether watches agree on the history that they were told.
//!
//! What two watches both have to receive, they have to receive alike, whatever stream, member, version or runtime it
//! comes by. No store's history is needed for that. [`agree`] compares each two [`WatchLog`]s over what both asked for:
//! the keys in both ranges, the kinds that neither filters out, and the revisions from the later start on to where both
//! have come. A revision is one piece in both: how many revisions travel in a response is the server's affair, but none
//! is in two.
//!
//! Watches that agree so far may do so because one of them has stopped. So each has to have reached a revision, that of
//! the store some time after faults have stopped; otherwise the verdict is [`Unknown`](Verdict::Unknown), which is no
//! success.

use std::fmt;

use super::{Change, Received, Watched};

/// A watch, and what it has received from its start and over all its reconnects.
#[derive(Clone, Debug)]
pub struct WatchLog {
    name: String,
    watched: Watched,
    received: Vec<Received>,
    /// The last revision of which something has come, or that a bookmark has passed.
    last: i64,
    /// It is known where it begins.
    has_begun: bool,
    has_ended: bool,
}

impl WatchLog {
    /// Of a watch that begins at [`Watched::from`](field@Watched::from). The name tells it from others where they disagree.
    #[must_use]
    pub fn new(name: impl Into<String>, watched: Watched) -> Self {
        Self { name: name.into(), watched, received: Vec::new(), last: 0, has_begun: true, has_ended: false }
    }

    /// Of a watch from now on: it begins after the bookmark of its first response, which is that of its creation.
    #[must_use]
    pub fn from_now(name: impl Into<String>, watched: Watched) -> Self {
        Self { has_begun: false, ..Self::new(name, watched) }
    }

    /// Adds a response.
    pub fn push(&mut self, response: Received) {
        if !self.has_begun {
            let event = response.events.first().map(|event| Change::from(event).revision());
            self.watched.from = response.bookmark.map(|bookmark| bookmark + 1).or(event).unwrap_or_default();
            self.has_begun = true;
        }
        let events = response.events.iter().map(|event| Change::from(event).revision());
        self.last = events.chain(response.bookmark).fold(self.last, i64::max);
        self.received.push(response);
    }

    /// The watch has ended as it may, as one does whose next revision is compacted: it need not get any further.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether it [has ended](Self::end).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What the watch is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the watch asked for.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// What it has received.
    #[must_use]
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// Everything that it has to receive up to this revision has come, as far as it knows; 0 before it has begun.
    #[must_use]
    pub fn reached(&self) -> i64 {
        if self.has_begun { self.last.max(self.watched.from - 1) } else { 0 }
    }

    /// Whether it has come to a revision, or need not.
    #[must_use]
    pub fn is_through(&self, revision: i64) -> bool {
        self.has_ended || self.reached() >= revision
    }

    /// Its events that the other one has to have, too, in pieces: the events of a revision in a response.
    fn pieces(&self, other: &Watched, from: i64, through: i64) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        for response in &self.received {
            let events = response.events.iter().map(Change::from);
            let of_both = events.filter(|event| {
                let revision = event.revision();
                from <= revision && revision <= through && self.watched.passes(event) && other.passes(event)
            });
            let of_both: Vec<_> = of_both.collect();
            let by_revision = of_both.chunk_by(|one, other| one.revision() == other.revision());
            pieces.extend(
                by_revision.map(|events| Piece { revision: events[0].revision(), events: events.to_vec() }),
            );
        }
        pieces
    }
}

/// The events of a revision in one response.
#[derive(Clone, Debug)]
struct Piece<'a> {
    revision: i64,
    events: Vec<Change<'a>>,
}

/// What two watches disagree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// Only the first one has an event.
    Missing,
    /// The second one has a revision in parts, twice, or after a later one.
    Parts,
    /// Both have the events of a revision, and they are not the same, or not in the same order.
    Content,
}

/// Two watches that disagree, and where they first do so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The name of the first watch.
    pub one: String,
    /// The name of the second one.
    pub other: String,
    /// The revision.
    pub revision: i64,
    /// What they disagree on.
    pub difference: Difference,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { one, other, revision, difference } = self;
        write!(f, "{one} and {other} disagree at revision {revision}: ")?;
        match difference {
            Difference::Missing => write!(f, "{other} lacks an event of it"),
            Difference::Parts => write!(f, "{other} has it in parts, twice or too late"),
            Difference::Content => write!(f, "they have other events of it"),
        }
    }
}

/// A watch that has not come to where it had to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The watch's name.
    pub name: String,
    /// [`WatchLog::reached`].
    pub reached: i64,
}

/// Whether watches agree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// They do, up to the revision.
    Agreed {
        /// How many pairs of watches had events in common.
        pairs: usize,
        /// How many events were compared, over all pairs.
        events: usize,
    },
    /// They agree as far as they have come, which is not far enough for some of them.
    Unknown(Vec<Behind>),
    /// Pairs disagree.
    Disagreed(Vec<Disagreement>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed { pairs, events } => write!(f, "{pairs} pairs agree on {events} events"),
            Self::Unknown(behind) => {
                f.write_str("unknown whether they agree:")?;
                behind.iter().try_for_each(|Behind { name, reached }| write!(f, " {name} is at {reached};"))
            }
            Self::Disagreed(pairs) => {
                write!(f, "{} pairs disagree", pairs.len())?;
                pairs.iter().try_for_each(|pair| write!(f, "; {pair}"))
            }
        }
    }
}

/// Compares each two watches over what both asked for. Each of them has to have come to the revision, unless it has
/// ended.
pub fn agree(logs: &[WatchLog], revision: i64) -> Verdict {
    let (mut pairs, mut events, mut disagreements) = (0, 0, Vec::new());
    for (number, one) in logs.iter().enumerate() {
        for other in &logs[number + 1..] {
            let compared = compare(one, other, &mut disagreements);
            pairs += usize::from(compared > 0);
            events += compared;
        }
    }
    if !disagreements.is_empty() {
        return Verdict::Disagreed(disagreements);
    }
    let behind = logs.iter().filter(|log| !log.is_through(revision));
    let behind: Vec<_> =
        behind.map(|log| Behind { name: log.name.clone(), reached: log.reached() }).collect();
    if behind.is_empty() { Verdict::Agreed { pairs, events } } else { Verdict::Unknown(behind) }
}

/// How many events were compared until the first difference.
fn compare(one: &WatchLog, other: &WatchLog, disagreements: &mut Vec<Disagreement>) -> usize {
    let from = one.watched.from.max(other.watched.from);
    let through = one.reached().min(other.reached());
    let has_prev = one.watched.prev_kv && other.watched.prev_kv;
    let ours = one.pieces(&other.watched, from, through);
    let theirs = other.pieces(&one.watched, from, through);
    let mut compared = 0;
    for at in 0..ours.len().max(theirs.len()) {
        let found = match (ours.get(at), theirs.get(at)) {
            (Some(our), Some(their)) if is_same(our, their, has_prev) => {
                compared += our.events.len();
                continue;
            }
            (Some(our), Some(their)) if our.revision == their.revision => {
                let revision = our.revision;
                let goes_on =
                    |pieces: &[Piece<'_>]| pieces.get(at + 1).is_some_and(|next| next.revision == revision);
                let (ours_has_more, theirs_has_more) =
                    (our.events.len() > their.events.len(), our.events.len() < their.events.len());
                match (goes_on(&ours), goes_on(&theirs)) {
                    (_, true) => (false, revision, Difference::Parts),
                    (true, false) => (true, revision, Difference::Parts),
                    _ if ours_has_more => (false, revision, Difference::Missing),
                    _ if theirs_has_more => (true, revision, Difference::Missing),
                    _ => (false, revision, Difference::Content),
                }
            }
            // One of them has a piece that the other one doesn't have in this place.
            (our, their) => {
                let is_ours = match (our, their) {
                    (Some(our), Some(their)) => our.revision < their.revision,
                    _ => our.is_some(),
                };
                let pieces = if is_ours { &ours } else { &theirs };
                let revision = pieces[at].revision;
                let is_late = pieces[..at].iter().any(|before| before.revision >= revision);
                if is_late {
                    (is_ours, revision, Difference::Parts)
                } else {
                    (!is_ours, revision, Difference::Missing)
                }
            }
        };
        let (is_ours_to_blame, revision, difference) = found;
        let (first, second) = if is_ours_to_blame { (other, one) } else { (one, other) };
        let (one, other) = (first.name.clone(), second.name.clone());
        disagreements.push(Disagreement { one, other, revision, difference });
        break;
    }
    compared
}

fn is_same(one: &Piece<'_>, other: &Piece<'_>, has_prev: bool) -> bool {
    let is_same = |(one, other): (&Change<'_>, &Change<'_>)| {
        // The pair before may be compacted for one of them.
        let is_prev_same = one.prev == other.prev || one.prev.is_none() || other.prev.is_none();
        one.is_delete == other.is_delete && one.kv == other.kv && (!has_prev || is_prev_same)
    };
    one.revision == other.revision
        && one.events.len() == other.events.len()
        && one.events.iter().zip(&other.events).all(is_same)
}
