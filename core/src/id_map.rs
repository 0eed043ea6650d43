//! A map for ids that are counted up.

use alloc::{boxed::Box, vec::Vec};
use core::{cmp::Ordering, fmt};

/// How many ids a chunk is for.
const SLOTS: usize = 32;

/// How many of an id's lower bits are its place in the chunk.
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

/// Room for so many chunks is kept when there are fewer.
const KEPT_CHUNKS: usize = 8;

/// A map for ids that are mostly counted up, in which an id is found in a few steps however many there are.
///
/// It has a chunk for each run of [`SLOTS`] ids of which one is there, in order. So the memory it takes is in
/// proportion to the number of ids in it, also where one that stays is far away from those that come and go. Where no
/// chunk is missing between an id's and the last one, their distance tells the place; otherwise a binary search does.
#[derive(Clone)]
pub(crate) struct IdMap<V> {
    chunks: Vec<Chunk<V>>,
    len: usize,
}

#[derive(Clone)]
struct Chunk<V> {
    /// The upper bits of its ids.
    number: i64,
    /// How many of its slots are in use.
    used: usize,
    slots: Box<[Option<V>; SLOTS]>,
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<V> IdMap<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.get(id).is_some()
    }

    pub(crate) fn get(&self, id: i64) -> Option<&V> {
        let (number, slot) = split(id);
        let at = self.find(number).ok()?;
        self.chunks.get(at)?.slots.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut V> {
        let (number, slot) = split(id);
        let at = self.find(number).ok()?;
        self.chunks.get_mut(at)?.slots.get_mut(slot)?.as_mut()
    }

    /// Puts a value under an id, in place of the one that is there.
    pub(crate) fn insert(&mut self, id: i64, value: V) {
        let (number, slot) = split(id);
        let at = match self.find(number) {
            Ok(at) => at,
            Err(at) => {
                let slots = Box::new([const { None }; SLOTS]);
                self.chunks.insert(at, Chunk { number, used: 0, slots });
                at
            }
        };
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        if let Some(slot) = chunk.slots.get_mut(slot)
            && slot.replace(value).is_none()
        {
            chunk.used += 1;
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: i64) -> Option<V> {
        let (number, slot) = split(id);
        let at = self.find(number).ok()?;
        let chunk = self.chunks.get_mut(at)?;
        let value = chunk.slots.get_mut(slot)?.take()?;
        chunk.used -= 1;
        self.len -= 1;
        if chunk.used == 0 {
            self.chunks.remove(at);
            if self.chunks.capacity() > KEPT_CHUNKS.max(4 * self.chunks.len()) {
                self.chunks.shrink_to(KEPT_CHUNKS.max(2 * self.chunks.len()));
            }
        }
        Some(value)
    }

    /// All values, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &V)> {
        values_of(&self.chunks)
    }

    /// The values with greater ids than this one, in the order of their ids.
    pub(crate) fn iter_after(&self, id: i64) -> impl Iterator<Item = (i64, &V)> {
        let (Ok(at) | Err(at)) = self.find(split(id).0);
        values_of(self.chunks.get(at..).unwrap_or_default()).skip_while(move |&(other, _)| other <= id)
    }

    /// The place of a chunk, or where it would have to be.
    #[inline(always)]
    fn find(&self, number: i64) -> Result<usize, usize> {
        let chunks = &self.chunks[..];
        if let [others @ .., last] = chunks {
            // The ids that are used most are behind the last gap.
            let from_last = last.number.wrapping_sub(number).cast_unsigned();
            #[allow(clippy::cast_possible_truncation)] // The chunk's number tells whether it is the one.
            let at = others.len().wrapping_sub(from_last as usize);
            if chunks.get(at).is_some_and(|chunk| chunk.number == number) {
                return Ok(at);
            }
        }
        self.search(number)
    }

    #[inline(never)]
    fn search(&self, number: i64) -> Result<usize, usize> {
        match self.chunks.last().map(|last| number.cmp(&last.number)) {
            Some(Ordering::Less | Ordering::Equal) => {
                self.chunks.binary_search_by_key(&number, |chunk| chunk.number)
            }
            Some(Ordering::Greater) | None => Err(self.chunks.len()),
        }
    }
}

/// The values of chunks, in the order of their ids.
fn values_of<V>(chunks: &[Chunk<V>]) -> impl Iterator<Item = (i64, &V)> {
    chunks.iter().flat_map(|chunk| {
        let slots = chunk.slots.iter().zip(0_i64..);
        slots.filter_map(|(slot, at)| Some(((chunk.number << SLOT_BITS) + at, slot.as_ref()?)))
    })
}

/// The number of an id's chunk, and the id's slot there.
fn split(id: i64) -> (i64, usize) {
    (id >> SLOT_BITS, id.cast_unsigned() as usize % SLOTS)
}

impl<V: fmt::Debug> fmt::Debug for IdMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, format, vec::Vec};

    use super::*;

    #[test]
    fn it_holds_what_an_ordered_map_holds() {
        let mut rng = fastrand::Rng::with_seed(1);
        for reach in [10, 100, 5_000, i64::MAX] {
            let (mut map, mut model) = (IdMap::default(), BTreeMap::new());
            for step in 0..20_000_i64 {
                let id = if rng.u8(..) < 250 { rng.i64(-reach..reach) } else { rng.i64(..) };
                if rng.i64(..20_000) < 20_000 - step {
                    map.insert(id, step);
                    model.insert(id, step);
                } else {
                    let id = model.range(id..).next().map_or(id, |(&id, _)| id);
                    assert_eq!(
                        (map.contains(id), map.remove(id)),
                        (model.contains_key(&id), model.remove(&id))
                    );
                }
                let id = rng.i64(-reach..reach);
                assert_eq!((map.get(id).copied(), map.len()), (model.get(&id).copied(), model.len()));
                assert_eq!(map.get_mut(id), model.get_mut(&id));
            }
            assert!(map.iter().eq(model.iter().map(|(&id, value)| (id, value))));
            let some = model.keys().copied().step_by(model.len() / 32 + 1);
            for id in some.chain([i64::MIN, -reach, -1, 0, reach, i64::MAX]) {
                let greater = model.iter().filter(|&(&other, _)| other > id);
                assert!(map.iter_after(id).eq(greater.map(|(&id, value)| (id, value))), "after {id}");
            }
            assert_eq!(format!("{map:?}"), format!("{model:?}"));
            let ids: Vec<i64> = model.into_keys().collect();
            ids.into_iter().for_each(|id| assert!(map.remove(id).is_some()));
            assert!(map.is_empty() && map.chunks.is_empty() && map.chunks.capacity() <= KEPT_CHUNKS);
        }
    }

    #[test]
    fn the_lowest_and_the_highest_id_are_ids_like_others() {
        let mut map = IdMap::default();
        for id in [i64::MAX, -1, 0, i64::MIN] {
            assert_eq!(map.get(id), None);
            map.insert(id, id);
        }
        assert!(
            map.iter().map(|(id, &value)| (id, value)).eq([i64::MIN, -1, 0, i64::MAX].map(|id| (id, id)))
        );
    }

    #[test]
    fn room_is_given_back_when_less_than_a_quarter_is_used_and_then_twice_what_is_used_is_kept() {
        let mut map = IdMap::default();
        let id = |chunk: i64| chunk * SLOTS as i64;
        (0..1_000).for_each(|chunk| map.insert(id(chunk), ()));
        for chunk in (0..1_000).rev() {
            let before = map.chunks.capacity();
            map.remove(id(chunk));
            let left = map.chunks.len();
            let is_too_much = before > KEPT_CHUNKS && before > 4 * left;
            let kept = if is_too_much { KEPT_CHUNKS.max(2 * left) } else { before };
            assert_eq!(map.chunks.capacity(), kept, "{left} chunks, with room for {before}");
        }
    }

    #[test]
    fn one_that_stays_does_not_keep_room_for_those_that_have_gone() {
        let mut map = IdMap::default();
        map.insert(0, ());
        for id in 1..100_000 {
            map.insert(id, ());
            map.remove(id - 40);
            map.insert(0, ());
        }
        let slots = map.chunks.len() * SLOTS;
        assert!(slots <= 4 * SLOTS && map.chunks.capacity() <= 2 * KEPT_CHUNKS, "{slots} slots");
        assert!(map.contains(0) && map.contains(99_999) && !map.contains(50_000));
    }
}
