//! Short stories to begin from: a byte for the settings, then operations with the bytes they read.

use super::{
    CANCEL, CLOSED, CUT, ENDED, EVENTS, FAILED, FEED, OLD_PAGE, PAGE, PROGRESS, REQUEST, SLEEP, TAKE, TIMEOUT,
};

pub(in super::super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    // Two keys and no more; a key and more to come.
    let (whole, part) = ([PAGE, 2, 1, 0, 0, 1, 0], [PAGE, 9, 1, 0, 0]);
    let (rest, none) = ([PAGE, 1, 0, 2, 0], [PAGE, 0, 1]);
    let (take, feed, ring) = ([TAKE, 3], [FEED], [TIMEOUT]);
    let (put, delete) = ([EVENTS, 0, 2, 1, 0], [EVENTS, 0, 0, 1, 1]);
    let progress = [PROGRESS, 1];
    let ended = |which: u8| [CLOSED, 9, which];
    let compacted = [ENDED, 50, 7];
    let failed = |text: u8, code: u8| [FAILED, text, code];
    let listed: Vec<&[u8]> = vec![&whole, &take, &take];
    let watched: Vec<&[u8]> =
        vec![&whole, &take, &take, &put, &delete, &feed, &take, &feed, &take, &progress, &feed, &take];
    let story = |settings: u8, first: &[&[u8]], then: &[&[u8]]| {
        [&[settings][..], &first.concat(), &then.concat()].concat()
    };
    vec![
        ("listed", story(0x0c, &listed, &[])),
        ("watched", story(0x0c, &watched, &[])),
        ("watched-without-index", story(0x1e, &watched, &[&compacted, &feed, &whole, &take, &take])),
        ("pages", story(0, &[&part, &take, &rest, &take, &take], &[&put, &feed, &take])),
        ("one-key", story(0x0d, &[&none, &take, &take], &[&put, &feed, &take])),
        ("empty", story(0x0e, &[&none, &take, &take], &[&put, &feed, &take])),
        ("compacted", story(0x0c, &watched, &[&compacted, &feed, &none, &take, &take, &take])),
        (
            "lagged",
            story(0x2c, &listed, &[&put, &put, &put, &put, &feed, &take, &feed, &take, &feed, &whole, &take]),
        ),
        ("store-changed", story(0x0c, &watched, &[&ended(2), &whole, &take, &take])),
        (
            "store-regressed",
            story(0x0c, &watched, &[&ended(3), &ring, &[PAGE, 2, 0xff, 5, 0, 0, 1, 0], &take, &take]),
        ),
        (
            "interrupted",
            story(0, &[&part, &take, &failed(0, 11), &whole, &take, &take, &ring], &[&whole, &take]),
        ),
        (
            "future-revision",
            story(0, &[&part, &take, &failed(1, 11), &ring, &failed(1, 11)], &[&ring, &rest, &take]),
        ),
        ("token-refused", story(0, &[&failed(2, 16), &ring, &whole, &take, &take], &[])),
        ("too-large", story(0x0c, &[&failed(3, 8), &failed(7, 19), &whole, &take, &take], &[])),
        (
            "no-leader",
            story(0x4c, &[&failed(4, 14), &ring, &failed(4, 14), &ring, &[SLEEP, 200]], &[&ring, &take]),
        ),
        ("denied", story(0, &[&failed(5, 7), &take], &[])),
        ("cut", story(0x0c, &watched, &[&[CUT, 7, 17], &ring, &put, &feed, &take])),
        ("cancelled", story(0x0c, &watched, &[&[REQUEST], &[CANCEL, 0x5d], &take])),
        ("old-page", story(0, &[&part, &take, &[OLD_PAGE, 1, 2, 1, 0, 0, 1, 0], &rest, &take], &[])),
        ("unlawful-page", story(0x0c, &[&[PAGE, 0x12, 1, 1, 0, 0, 0], &ring, &whole, &take, &take], &[])),
    ]
}
