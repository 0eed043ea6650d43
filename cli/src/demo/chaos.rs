//! What goes wrong with the connections.

use std::{fmt, time::Duration};

use etcd_watch_testkit::proxy::{Cut, FaultProxy};
use fastrand::Rng;
use tokio::time::sleep;

/// Time without any fault between two, in ms.
const CALM: std::ops::Range<u64> = 100..350;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Every connection ends.
    Cut(Cut),
    /// The next connection to carry so many bytes ends there, within a frame as likely as not.
    CutAfter(u64, Cut),
    /// For a while no connection carries more than so many bytes.
    CutEachAfter(u64, Cut, Duration),
    /// Everything takes longer.
    Delay(Duration, Duration),
    /// The way is narrow: so many bytes a second.
    Throttle(u64, Duration),
    /// Nothing arrives, then everything at once.
    Hold(Duration),
    /// Half-open: what is sent is swallowed, until the connections break.
    BlackHole(Duration),
    /// Every connection ends, and nobody can connect.
    Refuse(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(cut) => write!(f, "{}", how(*cut)),
            Self::CutAfter(bytes, cut) => write!(f, "{} after {bytes} bytes", how(*cut)),
            Self::CutEachAfter(bytes, cut, _) => write!(f, "{} every {bytes} bytes", how(*cut)),
            Self::Delay(delay, _) => write!(f, "{} ms late", delay.as_millis()),
            Self::Throttle(rate, _) => write!(f, "{} KB/s", rate / 1000),
            Self::Hold(time) => write!(f, "held for {} ms", time.as_millis()),
            Self::BlackHole(time) => write!(f, "black hole for {} ms", time.as_millis()),
            Self::Refuse(time) => write!(f, "refused for {} ms", time.as_millis()),
        }
    }
}

fn how(cut: Cut) -> &'static str {
    match cut {
        Cut::Reset => "reset",
        Cut::Close => "closed",
    }
}

impl Fault {
    /// The next thing to go wrong; two of three are cuts.
    fn choose(rng: &mut Rng) -> Self {
        let cut = if rng.bool() { Cut::Reset } else { Cut::Close };
        let mut millis = |range| Duration::from_millis(rng.u64(range));
        match millis(0..100).as_millis() {
            0..25 => Self::Cut(cut),
            25..50 => Self::CutAfter(rng.u64(1..20_000), cut),
            50..60 => Self::CutEachAfter(rng.u64(500..50_000), cut, Duration::from_millis(rng.u64(200..600))),
            60..70 => Self::Delay(millis(5..80), millis(200..800)),
            70..78 => Self::Throttle(rng.u64(100_000..600_000), Duration::from_millis(rng.u64(200..600))),
            78..86 => Self::Hold(millis(100..500)),
            86..93 => Self::BlackHole(millis(100..400)),
            _ => Self::Refuse(millis(50..400)),
        }
    }

    /// Does it, and takes it back once its time is over; cuts go on until they have happened.
    async fn inflict(self, proxy: &FaultProxy) {
        match self {
            Self::Cut(cut) => {
                proxy.cut_all(cut);
            }
            Self::CutAfter(bytes, cut) => proxy.cut_next_after_bytes(bytes, cut),
            Self::CutEachAfter(bytes, cut, time) => {
                proxy.cut_each_after_bytes(bytes, cut);
                sleep(time).await;
                proxy.restore();
            }
            Self::Delay(delay, time) => {
                proxy.set_delay(delay);
                sleep(time).await;
                proxy.set_delay(Duration::ZERO);
            }
            Self::Throttle(rate, time) => {
                proxy.throttle(rate);
                sleep(time).await;
                proxy.restore();
            }
            Self::Hold(time) => {
                proxy.hold();
                sleep(time).await;
                proxy.release();
            }
            Self::BlackHole(time) => {
                proxy.black_hole();
                sleep(time).await;
                proxy.restore();
                proxy.cut_all(Cut::Reset);
            }
            Self::Refuse(time) => {
                proxy.refuse();
                proxy.cut_all(Cut::Reset);
                sleep(time).await;
                proxy.restore();
            }
        }
    }
}

/// Does one thing after another to the connections, for ever, and says what. Dropping it leaves the last one on.
pub(super) async fn rage(proxy: &FaultProxy, seed: u64, say: impl Fn(Fault)) {
    let mut rng = Rng::with_seed(seed ^ 0x000c_4a05);
    loop {
        sleep(Duration::from_millis(rng.u64(CALM))).await;
        let fault = Fault::choose(&mut rng);
        say(fault);
        fault.inflict(proxy).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64) -> Vec<Fault> {
        let mut rng = Rng::with_seed(seed);
        std::iter::repeat_with(|| Fault::choose(&mut rng)).take(200).collect()
    }

    #[test]
    fn a_seed_decides_what_goes_wrong() {
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
    }

    #[test]
    fn everything_goes_wrong_sooner_or_later() {
        let faults = faults(1);
        let kinds: std::collections::BTreeSet<_> =
            faults.iter().map(|fault| format!("{fault:?}").split('(').next().map(str::to_owned)).collect();
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }
}
