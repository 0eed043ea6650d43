//! The fuzz targets without a fuzzer: their corpus, what they once found, and inputs made from those.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use etcd_watch_testkit::fuzz::{TARGETS, Target};

/// Inputs made at random for each target in one run.
const RANDOM_INPUTS: usize = 1500;

/// Chooses other random inputs.
const SEED_VARIABLE: &str = "ETCD_WATCH_FUZZ_SEED";
const DEFAULT_SEED: u64 = 7;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder, by name; none if there is no such folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let read = |path: PathBuf| (path.display().to_string(), fs::read(&path).expect("it can be read"));
    let mut files: Vec<_> = entries.map(|entry| read(entry.expect("it can be listed").path())).collect();
    files.sort();
    files
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// Runs a target on one input; the failure names it.
fn run(target: Target, name: &str, input: &[u8]) {
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(panic) = result {
        panic!("target {} fails with {name}: {}\ninput: {input:02x?}", target.name, text_of(&*panic));
    }
}

fn replay(target: &str) {
    let target = *TARGETS.iter().find(|known| known.name == target).expect("a target");
    let corpus = files(&root().join("corpus").join(target.name));
    assert!(corpus.len() >= 10, "{} has a corpus", target.name);
    let found = files(&root().join("regressions").join(target.name));
    for (name, input) in corpus.iter().chain(&found) {
        run(target, name, input);
    }
    for (name, input) in (target.seeds)() {
        run(target, name, &input);
    }
    let seed = std::env::var(SEED_VARIABLE).ok().map_or(DEFAULT_SEED, |seed| seed.parse().expect("a number"));
    let mut random = fastrand::Rng::with_seed(seed);
    for index in 0..RANDOM_INPUTS {
        let input = made_up(&mut random, &corpus);
        run(target, &format!("random input {index} of {SEED_VARIABLE}={seed}"), &input);
    }
}

/// An input of the corpus with some damage, or with the rest of another.
fn made_up(random: &mut fastrand::Rng, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut input = corpus[random.usize(..corpus.len())].1.clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=input.len());
        match random.u8(..6) {
            0 => input.insert(at, random.u8(..)),
            1 => input.truncate(at),
            2 => input.extend((0..random.usize(1..30)).map(|_| random.u8(..))),
            3 => {
                let other = &corpus[random.usize(..corpus.len())].1;
                input.truncate(at);
                input.extend(&other[random.usize(..=other.len())..]);
            }
            _ if at == input.len() => {}
            4 => drop(input.remove(at)),
            _ => input[at] = random.u8(..),
        }
    }
    input
}

#[test]
fn frames_of_bytes() {
    replay("frames");
}

#[test]
fn sequences_of_calls() {
    replay("calls");
}

#[test]
fn mirrors() {
    replay("mirror");
}

#[test]
fn the_decoder_against_prost() {
    replay("decoder");
}

#[test]
fn endpoints_and_json() {
    replay("endpoints");
}

#[test]
fn requests_to_the_model() {
    replay("model");
}

#[test]
fn every_target_has_a_binary_and_every_binary_a_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let stem = |(path, _): (String, Vec<u8>)| {
        Path::new(&path).file_stem().expect("a file").to_string_lossy().into_owned()
    };
    let binaries: BTreeSet<String> = files(&root().join("fuzz_targets")).into_iter().map(stem).collect();
    assert_eq!(binaries, targets);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("it can be read");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
