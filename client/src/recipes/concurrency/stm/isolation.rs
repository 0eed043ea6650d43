//! How far transactions are kept apart.

/// How far transactions are kept apart. The levels are those of `clientv3/concurrency`, with the same meaning.
///
/// | level | reads of one attempt | committed only if |
/// |---|---|---|
/// | `SerializableSnapshot` | the store at one revision, that of the first read | nothing it read, and nothing it writes, was changed since that revision |
/// | `Serializable` | the store at one revision, that of the first read | nothing it read was changed since |
/// | `RepeatableReads` | each key at the revision at which it was first read | nothing it read was changed since |
/// | `ReadCommitted` | each key at the revision at which it was first read | always |
///
/// Lost updates and write skew are impossible but for `ReadCommitted`: what was read is checked when the transaction is
/// committed. What tells the first three apart:
/// - Only with `SerializableSnapshot` does a transaction conflict with another that wrote the same key, if it did not read
///   that key. (A key that was deleted meanwhile, without having been read, is not noticed: etcd keeps nothing of it
///   to compare.)
/// - With `RepeatableReads` an attempt may see one key before another transaction and a second key after it. Such an
///   attempt is not committed, unless what it saw first was left as it was, but until then its code has seen a mix. Its
///   reads are answered by the member that is asked, from its own store: they cost less, and may be older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "these are the levels of clientv3")]
pub enum Isolation {
    /// Reads of one revision; conflicts with what was read and with what is written.
    #[default]
    SerializableSnapshot,
    /// Reads of one revision; conflicts with what was read.
    Serializable,
    /// Each key is read once; conflicts with what was read.
    RepeatableReads,
    /// Each key is read once; no conflicts.
    ReadCommitted,
}

impl Isolation {
    /// Whether all reads of an attempt are of one revision.
    pub(super) fn is_of_one_revision(self) -> bool {
        matches!(self, Self::SerializableSnapshot | Self::Serializable)
    }

    /// Whether what was read must be unchanged.
    pub(super) fn checks_reads(self) -> bool {
        self != Self::ReadCommitted
    }

    /// Whether what is written must be unchanged.
    pub(super) fn checks_writes(self) -> bool {
        self == Self::SerializableSnapshot
    }
}
