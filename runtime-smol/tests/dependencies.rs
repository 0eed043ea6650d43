//! No tokio runtime is compiled in: of tokio there are only the parts that need none (hyper and h2 use its
//! channels and I/O traits).

use std::{env, process::Command};

/// The features of tokio that belong to a runtime, or bring one.
const OF_A_RUNTIME: [&str; 10] =
    ["rt", "rt-multi-thread", "net", "time", "process", "signal", "fs", "full", "io-std", "test-util"];

/// Which features of tokio a crate is built with; its development dependencies don't count.
fn tokio_features(package: &str, features: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--frozen", "--package", package, "--features", features])
        .args(["--edges", "features,no-dev", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let tree = String::from_utf8(output.stdout).expect("names are text");
    let feature = |line: &str| Some(line.strip_prefix("tokio feature \"")?.split_once('"')?.0.to_owned());
    let found: Vec<String> = tree.lines().filter_map(feature).collect();
    assert!(!found.is_empty(), "h2 uses tokio: the tree was not understood:\n{tree}");
    found
}

fn of_a_runtime(package: &str, features: &str) -> Vec<String> {
    let mut found = tokio_features(package, features);
    found.retain(|feature| OF_A_RUNTIME.contains(&&feature[..]));
    found.sort();
    found.dedup();
    found
}

#[test]
fn nothing_of_a_tokio_runtime_is_compiled_in() {
    let none: [&str; 0] = [];
    for features in ["tls-ring", "async-std,tls-ring", "async-std,metrics,tls-ring"] {
        assert_eq!(of_a_runtime("etcd-watch-smol", features), none, "with {features}");
    }
}

#[test]
fn a_tokio_runtime_would_be_seen() {
    assert_eq!(of_a_runtime("etcd-watch-tokio", "tls-ring"), ["net", "rt", "time"]);
}
