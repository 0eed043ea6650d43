//! What a watch received, compared with what it had to receive.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A change of a key, as little of it as can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) key: Box<[u8]>,
    /// A digest of everything else about it.
    pub(super) content: u64,
}

impl Change {
    /// `content` is whatever else has to be as it was written: kind, value, version, the pair before.
    pub(super) fn new(revision: i64, key: &[u8], content: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self { revision, key: key.into(), content: hasher.finish() }
    }
}

/// What came in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The changes of a response.
    Changes(Vec<Change>),
    /// Word that everything up to a revision has come.
    Progress(i64),
}

/// How what was received differs from what had to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Changes that had to come.
    pub(super) expected: u64,
    /// Changes that came, repeats included.
    pub(super) received: u64,
    /// Had to come and did not.
    pub(super) lost: u64,
    /// Came again.
    pub(super) duplicated: u64,
    /// Came after a later change, or after word that everything up to them had come.
    pub(super) reordered: u64,
    /// Came in another response than the first of their revision did.
    pub(super) split: u64,
    /// Came with other content than was written (the previous pair is part of it), or had no business to come.
    pub(super) wrong: u64,
}

impl Tally {
    pub(super) fn is_flawless(&self) -> bool {
        (self.lost, self.duplicated, self.reordered, self.split, self.wrong) == (0, 0, 0, 0, 0)
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            expected: self.expected + other.expected,
            received: self.received + other.received,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            split: self.split + other.split,
            wrong: self.wrong + other.wrong,
        }
    }
}

/// Compares what was received with `expected`, which is in the order of the store's history.
pub(super) fn check(expected: &[Change], received: &[Received]) -> Tally {
    let mut tally = Tally { expected: expected.len() as u64, ..Tally::default() };
    // In which response each expected change came first.
    let mut came: Vec<Option<usize>> = vec![None; expected.len()];
    let mut next = 0;
    let mut progress = 0;
    for (response, received) in received.iter().enumerate() {
        let changes = match received {
            Received::Changes(changes) => changes,
            Received::Progress(revision) => {
                progress = progress.max(*revision);
                continue;
            }
        };
        for change in changes {
            tally.received += 1;
            let Some(at) = position(expected, change) else {
                tally.wrong += 1;
                continue;
            };
            if came[at].is_some() {
                tally.duplicated += 1;
                continue;
            }
            came[at] = Some(response);
            tally.wrong += u64::from(expected[at].content != change.content);
            tally.reordered += u64::from(at < next || change.revision <= progress);
            tally.split += u64::from(elsewhere(expected, &came, at, response));
            next = next.max(at + 1);
        }
    }
    tally.lost = came.iter().filter(|response| response.is_none()).count() as u64;
    tally
}

/// Where in `expected` the change is, by revision and key.
fn position(expected: &[Change], change: &Change) -> Option<usize> {
    let first = expected.partition_point(|other| other.revision < change.revision);
    let of_revision = expected[first..].iter().take_while(|other| other.revision == change.revision);
    of_revision.enumerate().find(|(_, other)| other.key == change.key).map(|(offset, _)| first + offset)
}

/// Whether another change of the same revision came in another response before.
fn elsewhere(expected: &[Change], came: &[Option<usize>], at: usize, response: usize) -> bool {
    let revision = expected[at].revision;
    let first = expected.partition_point(|other| other.revision < revision);
    let end = expected.partition_point(|other| other.revision <= revision);
    came[first..end].iter().flatten().any(|&other| other != response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, key: &str) -> Change {
        Change::new(revision, key.as_bytes(), (revision, key))
    }

    /// Single changes at 2, 3 and 5, and a transaction on `a` and `b` at 4.
    fn history() -> Vec<Change> {
        [(2, "a"), (3, "b"), (4, "a"), (4, "b"), (5, "a")].map(|(r, k)| change(r, k)).into()
    }

    fn one(change: Change) -> Received {
        Received::Changes(vec![change])
    }

    fn faithful() -> Vec<Received> {
        let history = history();
        vec![
            Received::Changes(history[..2].to_vec()),
            Received::Progress(3),
            Received::Changes(history[2..4].to_vec()),
            Received::Changes(history[4..].to_vec()),
            Received::Progress(5),
        ]
    }

    fn flaws(received: &[Received]) -> [u64; 5] {
        let tally = check(&history(), received);
        assert_eq!(
            tally.is_flawless(),
            tally == Tally { expected: 5, received: tally.received, ..Tally::default() }
        );
        [tally.lost, tally.duplicated, tally.reordered, tally.split, tally.wrong]
    }

    #[test]
    fn history_as_it_was_is_flawless() {
        assert_eq!(flaws(&faithful()), [0; 5]);
        assert_eq!(flaws(&[Received::Changes(history())]), [0; 5]);
        assert_eq!(check(&history(), &faithful()).received, 5);
    }

    #[test]
    fn a_lost_change_is_found() {
        let mut received = faithful();
        received[0] = one(change(2, "a"));
        assert_eq!(flaws(&received), [1, 0, 0, 0, 0]);
        assert_eq!(flaws(&[]), [5, 0, 0, 0, 0]);
        // Of a revision with two changes, too.
        let mut received = faithful();
        received[2] = one(change(4, "b"));
        assert_eq!(flaws(&received), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_duplicated_change_is_found() {
        let mut received = faithful();
        received.push(one(change(5, "a")));
        received.push(one(change(2, "a")));
        assert_eq!(flaws(&received), [0, 2, 0, 0, 0]);
    }

    #[test]
    fn a_reordered_change_is_found() {
        let [two, three] = [change(2, "a"), change(3, "b")];
        let mut received = faithful();
        received[0] = Received::Changes(vec![three, two]);
        assert_eq!(flaws(&received), [0, 0, 1, 0, 0]);
        // Within a revision, too.
        let mut received = faithful();
        received[2] = Received::Changes(vec![change(4, "b"), change(4, "a")]);
        assert_eq!(flaws(&received), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_change_behind_progress_that_covers_it_is_found() {
        let mut received = faithful();
        received.swap(3, 4);
        assert_eq!(flaws(&received), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_split_revision_is_found() {
        let mut received = faithful();
        received[2] = one(change(4, "a"));
        received.insert(3, one(change(4, "b")));
        assert_eq!(flaws(&received), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn wrong_content_is_found() {
        // The pair before the change is content like any other.
        let with_prev = |prev: &str| Change::new(2, b"a", ("value", Some(prev)));
        let tally = check(&[with_prev("old")], &[one(with_prev("older"))]);
        assert_eq!(tally, Tally { expected: 1, received: 1, wrong: 1, ..Tally::default() });
    }

    #[test]
    fn a_change_that_never_was_is_found() {
        for stranger in [change(4, "c"), change(6, "a"), change(1, "a")] {
            let mut received = faithful();
            received.push(one(stranger));
            assert_eq!(flaws(&received), [0, 0, 0, 0, 1]);
        }
    }
}
