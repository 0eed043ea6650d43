//! What fuzzers run: each target takes any bytes, and panics if they show a bug.
//!
//! The bodies are here, so that tests replay the corpus (`fuzz/corpus`) and what was once found
//! (`fuzz/regressions`) without a fuzzer. With one, `cargo xtask fuzz` runs them; `fuzz/README.md` says how a
//! corpus is made and kept.
//!
//! | target | what it holds |
//! |---|---|
//! | `frames` | server frames as raw bytes into the [`Watcher`](etcd_watch_core::Watcher) |
//! | `calls` | any sequence of calls and of frames that decode, against a driver that keeps books |
//! | `mirror` | the same for the [`Mirror`](etcd_watch_core::Mirror), with a consumer that folds |
//! | `decoder` | the core's decoder against prost's: the same accepted, with the same fields |
//! | `endpoints` | endpoint strings, ranges in namespaces, the JSON of discovery and of configurations |
//! | `model` | requests to the [model etcd](crate::model) |

mod calls;
mod decoder;
mod driver;
mod endpoints;
mod frames;
mod input;
mod mirror;
mod model;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its binary in `fuzz/`, and of its folders there.
    pub name: &'static str,
    /// Runs it on one input.
    ///
    /// # Panics
    /// If the input shows a bug.
    pub run: fn(&[u8]),
    /// Inputs to begin from, by name, made by hand.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// Every target.
pub const TARGETS: [Target; 6] = [
    Target { name: "frames", run: frames::run, seeds: frames::seeds },
    Target { name: "calls", run: calls::run, seeds: calls::seeds },
    Target { name: "mirror", run: mirror::run, seeds: mirror::seeds },
    Target { name: "decoder", run: decoder::run, seeds: decoder::seeds },
    Target { name: "endpoints", run: endpoints::run, seeds: endpoints::seeds },
    Target { name: "model", run: model::run, seeds: model::seeds },
];

/// The target of that name, to be run on one input.
///
/// # Panics
/// If there is none, or if the input shows a bug.
pub fn run(target: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|known| known.name == target).expect("there is a target of that name");
    (target.run)(data);
}
