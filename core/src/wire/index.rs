//! The index over a frame: where its keys and values are, and the numbers beside them.

use alloc::{boxed::Box, vec::Vec};
use core::ops::{Deref, DerefMut};

/// A stretch of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    pub(crate) fn new(start: u32, len: u32) -> Self {
        Self { start, len }
    }

    #[inline]
    pub(crate) fn range(self) -> core::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }

    #[inline]
    pub(crate) fn of(self, frame: &[u8]) -> &[u8] {
        &frame[self.range()]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Leaves the first bytes out.
    pub(crate) fn cut(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.len);
        self.start += bytes;
        self.len -= bytes;
    }
}

/// etcd's `KeyValue`, as an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KvIndex {
    pub(crate) key: Span,
    pub(crate) value: Span,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// etcd's `Event`, as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventIndex {
    pub(crate) kv: KvIndex,
    /// The wire's number: 0 put, 1 delete, others are for a later etcd.
    pub(crate) kind: i32,
    /// Where in the frame's list of previous pairs, `NO_PREV` for none.
    pub(crate) prev: u32,
}

pub(crate) const NO_PREV: u32 = u32::MAX;

impl EventIndex {
    /// The same event where its frame begins at this place of a buffer.
    pub(crate) fn moved(&self, offset: u32) -> Self {
        let mut moved = *self;
        moved.kv.key.start += offset;
        moved.kv.value.start += offset;
        moved
    }
}

impl Default for EventIndex {
    fn default() -> Self {
        Self { kv: KvIndex::default(), kind: 0, prev: NO_PREV }
    }
}

/// The index over the events of a frame. Many frames have one event, whose index takes no memory of its own.
#[derive(Clone, Debug)]
pub(crate) enum Events {
    /// One event.
    One(EventIndex),
    /// Any number of them.
    Many(Vec<EventIndex>),
}

impl Events {
    /// The revision of the first event; 0 without events.
    pub(crate) fn first_revision(&self) -> i64 {
        self.first().map_or(0, |event| event.kv.mod_revision)
    }

    /// The revision of the last event; 0 without events.
    pub(crate) fn last_revision(&self) -> i64 {
        self.last().map_or(0, |event| event.kv.mod_revision)
    }

    /// For how many events there is room.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(events) => events.capacity(),
        }
    }

    /// Leaves the first events out.
    pub(crate) fn drop_first(&mut self, count: usize) {
        match self {
            Self::One(_) if count > 0 => *self = Self::default(),
            Self::One(_) => {}
            Self::Many(events) => drop(events.drain(..count)),
        }
    }

    /// Cuts off the events from this place on.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::One(_) if at == 0 => core::mem::take(self),
            Self::One(_) => Self::default(),
            Self::Many(events) => Self::Many(events.split_off(at)),
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Deref for Events {
    type Target = [EventIndex];

    #[inline]
    fn deref(&self) -> &[EventIndex] {
        match self {
            Self::One(event) => core::slice::from_ref(event),
            Self::Many(events) => events,
        }
    }
}

impl DerefMut for Events {
    fn deref_mut(&mut self) -> &mut [EventIndex] {
        match self {
            Self::One(event) => core::slice::from_mut(event),
            Self::Many(events) => events,
        }
    }
}

impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Events {}

/// The index over the previous pairs of a frame's events. Few watches ask for those, so it is a pointer only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prevs(Option<Box<PrevList>>);

/// A list of its own type: behind a pointer on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PrevList(Vec<KvIndex>);

impl Prevs {
    pub(crate) fn as_slice(&self) -> &[KvIndex] {
        self.0.as_ref().map_or(&[], |list| &list.0)
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [KvIndex] {
        self.0.as_mut().map_or(&mut [], |list| &mut list.0)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.0.capacity())
    }

    /// Whether there is a list.
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The list, to add to.
    pub(super) fn list(&mut self) -> &mut Vec<KvIndex> {
        &mut self.0.get_or_insert_default().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mod_revision: i64) -> EventIndex {
        EventIndex { kv: KvIndex { mod_revision, ..KvIndex::default() }, ..EventIndex::default() }
    }

    #[test]
    fn one_event_is_the_same_as_a_list_of_one() {
        let [one, many] = [Events::One(event(7)), Events::Many(Vec::from([event(7)]))];
        assert_eq!(one, many);
        for at in [0, 1] {
            let (mut one, mut many) = (one.clone(), many.clone());
            assert_eq!(one.split_off(at), many.split_off(at));
            assert_eq!((&one, one.len()), (&many, at));
            let [mut one, mut many] = [Events::One(event(7)), Events::Many(Vec::from([event(7)]))];
            one.drop_first(at);
            many.drop_first(at);
            assert_eq!((&one, one.len()), (&many, 1 - at));
        }
        let mut changed = one.clone();
        changed.iter_mut().for_each(|event| event.kind = 1);
        assert_ne!(changed, one);
    }
}
