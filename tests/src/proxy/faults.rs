//! Which faults are on.

use std::time::Duration;

use super::Cut;

/// Which faults are on; commands change it, connections watch it.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) way: Way,
    /// How many black holes there were: a connection that is older than the last one is dead.
    pub(super) black_holes: u64,
    pub(super) delay: Duration,
    /// In bytes per second.
    pub(super) rate: Option<u64>,
    pub(super) refuse: bool,
    pub(super) cut_after: Option<CutAfter>,
    /// How many cuts after a number of bytes were asked for.
    cuts_asked: u64,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They are forwarded.
    Open,
    /// They are kept.
    Held,
    /// They are lost.
    BlackHole,
}

/// A cut that comes after a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutAfter {
    pub(super) bytes: u64,
    pub(super) cut: Cut,
    /// Every connection, or the first one only.
    pub(super) each: bool,
    /// Tells this command from earlier ones, so that connections start to count anew.
    pub(super) number: u64,
}

impl Faults {
    pub(super) fn none() -> Self {
        Self {
            way: Way::Open,
            black_holes: 0,
            delay: Duration::ZERO,
            rate: None,
            refuse: false,
            cut_after: None,
            cuts_asked: 0,
        }
    }

    /// Cuts connections after so many more bytes: each, or the first one to get there.
    pub(super) fn cut_after(&mut self, bytes: u64, cut: Cut, each: bool) {
        self.cuts_asked += 1;
        self.cut_after = Some(CutAfter { bytes, cut, each, number: self.cuts_asked });
    }

    /// Takes all faults away; dead connections stay dead.
    pub(super) fn restore(&mut self) {
        *self = Self { black_holes: self.black_holes, cuts_asked: self.cuts_asked, ..Self::none() };
    }
}
