//! Short stories to begin from, each operation with the bytes it reads.

use super::Operation as Op;

pub(in super::super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const ALL: (Op, &[u8]) = (Op::Watch, &[0, 1, 3, 0]);
    const FROM_NOW: (Op, &[u8]) = (Op::Watch, &[2, 0, 3, 0]);
    const PAUSED: (Op, &[u8]) = (Op::Watch, &[0, 1, 0, 0x0a]);
    const FAILING: (Op, &[u8]) = (Op::Watch, &[0, 1, 0, 0x0b]);
    const SETTLE: (Op, &[u8]) = (Op::Settle, &[]);
    const PUT: (Op, &[u8]) = (Op::Events, &[0, 0, 1, 0, 0, 0]);
    const LARGE: (Op, &[u8]) = (Op::Events, &[0, 0, 7, 0, 0, 0]);
    const PART: (Op, &[u8]) = (Op::Events, &[0, 5, 1, 0, 0, 1, 0, 0]);
    const NEXT: (Op, &[u8]) = (Op::Next, &[0, 3]);
    const CUT: (Op, &[u8]) = (Op::Failed, &[0, 17, 1]);
    const RING: (Op, &[u8]) = (Op::Timeout, &[]);
    type Story = &'static [(Op, &'static [u8])];
    let stories: [(&'static str, u8, Story); 20] = [
        ("events", 0, &[ALL, SETTLE, PUT, NEXT, PUT, NEXT]),
        ("from-now", 0, &[FROM_NOW, SETTLE, SETTLE, PUT, NEXT]),
        ("cut", 0, &[ALL, SETTLE, PUT, CUT, RING, SETTLE, PUT, NEXT, NEXT]),
        ("many-cuts", 5, &[PAUSED, SETTLE, LARGE, CUT, RING, SETTLE, LARGE, CUT, RING, SETTLE, LARGE, NEXT]),
        ("fragments", 0, &[ALL, SETTLE, PART, PART, CUT, RING, SETTLE, PART, PUT, NEXT]),
        ("overflow", 0, &[ALL, SETTLE, LARGE, LARGE, LARGE, NEXT, NEXT, SETTLE, PUT, NEXT]),
        ("pause", 0, &[PAUSED, SETTLE, LARGE, LARGE, NEXT, NEXT, LARGE]),
        ("lagged", 0, &[FAILING, SETTLE, LARGE, LARGE, LARGE, NEXT, NEXT]),
        ("progress", 0, &[ALL, SETTLE, (Op::RequestProgress, &[0]), (Op::Progress, &[0, 0, 0xfe]), NEXT]),
        (
            "lying-progress",
            0,
            &[ALL, SETTLE, (Op::Progress, &[0xfd, 50, 0, 0xfe]), PUT, NEXT, CUT, RING, SETTLE],
        ),
        ("compacted", 0, &[ALL, SETTLE, (Op::Ended, &[0, 0, 1, 9, 0, 0]), NEXT]),
        (
            "denied-with-token",
            0,
            &[
                ALL,
                (Op::Opened, &[0, 61, 1]),
                (Op::Answer, &[0, 0, 4, 2]),
                (Op::RangeDone, &[0, 0, 9, 1]),
                RING,
                SETTLE,
            ],
        ),
        (
            "token-refused",
            0,
            &[ALL, SETTLE, (Op::Failed, &[0, 16, 3]), RING, SETTLE, (Op::Failed, &[0, 16, 3]), RING],
        ),
        ("no-leader", 1, &[ALL, SETTLE, (Op::Ended, &[0, 4, 0, 0, 0]), RING, RING, RING, NEXT]),
        (
            "proxy",
            0,
            &[ALL, ALL, (Op::Opened, &[0, 0xff, 0]), (Op::Answer, &[0, 0, 3, 5]), SETTLE, PUT, NEXT],
        ),
        ("cancel-while-creating", 0, &[ALL, (Op::Opened, &[0, 61, 0]), (Op::Cancel, &[0]), SETTLE, NEXT]),
        ("moved", 1, &[ALL, ALL, ALL, ALL, SETTLE, (Op::Move, &[0]), (Op::Move, &[1]), SETTLE, PUT, NEXT]),
        ("behind", 1, &[(Op::Watch, &[0, 40, 3, 0x40, 1, 60]), SETTLE, RING, RING, SETTLE, RING, RING, NEXT]),
        (
            "end-of-time",
            3,
            &[
                ALL,
                SETTLE,
                (Op::Raw, &[0, 1, 0]),
                (Op::Sleep, &[255, 255, 255, 255, 255, 255, 255, 255, 255]),
                SETTLE,
                (Op::Raw, &[0, 1, 0]),
                RING,
                RING,
            ],
        ),
        ("shut-down", 1, &[ALL, SETTLE, PUT, (Op::Shutdown, &[0x5d]), ALL, PUT, NEXT, NEXT]),
    ];
    let write = |(name, choice, story): (&'static str, u8, Story)| {
        let mut bytes = vec![choice];
        for &(operation, arguments) in story {
            bytes.push(operation as u8);
            bytes.extend(arguments);
        }
        (name, bytes)
    };
    stories.into_iter().map(write).collect()
}
