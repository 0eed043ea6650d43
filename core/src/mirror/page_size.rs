//! How large pages are: what is wanted is a size in bytes, and what can be asked for is a number of keys.
//!
//! A server counts all keys that are left of the range for each page (etcd 3.4 to 3.7), so pages of a fixed
//! number of keys make a list quadratic. The first page is small, since nobody knows yet how large values are. Each
//! page's size then says how many keys the next may have.

use crate::failure::Oversize;

/// The most keys of the first page.
const FIRST_KEYS: usize = 128;

/// What a pair is taken for until one has come.
const FIRST_PAIR_BYTES: usize = 64 << 10;

/// A page may have at most so many times the keys of the page before it. Pages grow quickly, and yet a single page of small
/// values can't decide alone.
const GROWTH: usize = 64;

/// A page may be at most so many times as large as the size wanted. A page is larger than wanted where values are larger than those
/// before them.
const BOUND: usize = 4;

/// The most keys that are ever asked for.
const MOST_KEYS: usize = u32::MAX as usize;

/// How many keys the next page is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize {
    /// The size wanted, in bytes.
    target: usize,
    keys: usize,
}

impl PageSize {
    pub(super) fn new(target: usize) -> Self {
        Self { target, keys: (target / FIRST_PAIR_BYTES).clamp(1, FIRST_KEYS) }
    }

    /// How many keys to ask for.
    pub(super) fn keys(self) -> usize {
        self.keys
    }

    /// The size wanted, in bytes.
    pub(super) fn target(self) -> usize {
        self.target
    }

    /// The size in bytes over which a page is to be refused. A single key can't be asked for in parts.
    pub(super) fn bound(self) -> usize {
        if self.keys == 1 { usize::MAX } else { self.target.saturating_mul(BOUND) }
    }

    /// A page has come, of so many keys and bytes.
    pub(super) fn came(&mut self, keys: usize, bytes: usize) {
        if keys > 0 {
            let most = self.keys.saturating_mul(GROWTH).min(MOST_KEYS);
            self.keys = scaled(keys, self.target, bytes).clamp(1, most);
        }
    }

    /// A page was over a limit: the next has at most half of its keys, and fewer still if its size says so. Whether that
    /// is possible.
    pub(super) fn refused(&mut self, Oversize { bytes, limit }: Oversize) -> bool {
        if self.keys == 1 {
            return false;
        }
        let half = self.keys / 2;
        let fitting = |limit| scaled(self.keys, limit, bytes);
        let fewer = if bytes == 0 { half } else { fitting(self.target.min(limit.max(1))) };
        self.keys = fewer.clamp(1, half);
        true
    }
}

/// How many keys there are in `wanted` bytes, if there are so many in `bytes`.
fn scaled(keys: usize, wanted: usize, bytes: usize) -> usize {
    let many = keys as u128 * wanted as u128 / (bytes as u128).max(1);
    usize::try_from(many).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn pages_grow_from_a_small_one_to_the_size_wanted_in_few_steps() {
        let mut size = PageSize::new(8 * MIB);
        let mut pages = Vec::new();
        for _ in 0..4 {
            pages.push(size.keys());
            size.came(size.keys(), size.keys() * 128);
        }
        assert_eq!(pages, [128, 128 * 64, 65_536, 65_536]);
    }

    #[test]
    fn pages_of_large_values_are_as_small_as_it_takes() {
        let mut size = PageSize::new(8 * MIB);
        size.came(128, 128 * MIB);
        assert_eq!(size.keys(), 8);
        size.came(8, 80 * MIB);
        assert_eq!(size.keys(), 1, "a page has a key at least");
        size.came(1, MIB);
        assert_eq!(size.keys(), 8);
    }

    #[test]
    fn only_a_page_that_came_says_anything() {
        let mut size = PageSize::new(8 * MIB);
        size.came(0, 40);
        assert_eq!(size.keys(), FIRST_KEYS);
        size.came(3, 3);
        assert_eq!(size.keys(), FIRST_KEYS * GROWTH, "however small its values");
    }

    #[test]
    fn a_page_over_the_bound_is_followed_by_one_of_the_size_wanted() {
        let mut size = PageSize::new(8 * MIB);
        size.came(128, 128 * 128);
        assert_eq!((size.keys(), size.bound()), (8192, 32 * MIB));
        // They have 100 KiB each all of a sudden.
        let too_large = Oversize { bytes: (8192 * 100) << 10, limit: 32 * MIB };
        assert!(size.refused(too_large));
        assert_eq!(size.keys(), 81);
    }

    #[test]
    fn what_is_refused_without_its_size_is_halved_down_to_a_key() {
        let mut size = PageSize::new(5 * FIRST_PAIR_BYTES);
        let unknown = Oversize { bytes: 0, limit: 0 };
        let mut pages = Vec::from([size.keys()]);
        while size.refused(unknown) {
            pages.push(size.keys());
        }
        assert_eq!(pages, [5, 2, 1]);
        assert_eq!(size.bound(), usize::MAX);
    }

    #[test]
    fn a_limit_of_the_server_is_minded_and_a_size_below_it_is_no_reason_to_ask_for_more() {
        let mut size = PageSize::new(8 * MIB);
        assert!(size.refused(Oversize { bytes: 8 * MIB, limit: MIB }));
        assert_eq!(size.keys(), 16);
        assert!(size.refused(Oversize { bytes: 1, limit: MIB }));
        assert_eq!(size.keys(), 8);
    }

    #[test]
    fn the_smallest_target_and_the_largest_make_pages() {
        let mut size = PageSize::new(1);
        size.came(1, 100);
        assert_eq!(size.keys(), 1);
        let mut size = PageSize::new(u32::MAX as usize);
        for _ in 0..9 {
            size.came(size.keys(), 1);
        }
        assert_eq!(size.keys(), MOST_KEYS);
    }
}
