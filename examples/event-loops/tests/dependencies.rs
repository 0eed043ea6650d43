//! What the loops are built of: of tokio there are only the traits that `h2` reads and writes by.

use std::{collections::BTreeSet, env, process::Command};

/// The features of tokio that `h2` asks for.
const ALLOWED: [&str; 4] = ["bytes", "default", "io-util", "sync"];

/// Every package that the programs are built of, with its features.
fn packages() -> Vec<(String, BTreeSet<String>)> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "-p", env!("CARGO_PKG_NAME"), "-e", "normal", "--prefix", "none"])
        .args(["--no-dedupe", "--format", "{p}|{f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = |line: &str| {
        let (package, features) = line.split_once('|').expect("the format asked for");
        let name = package.split(' ').next().unwrap_or_default().to_owned();
        (name, features.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(package).collect()
}

#[test]
fn no_runtime_of_tokio_is_among_the_dependencies() {
    let packages = packages();
    let features: BTreeSet<&str> = packages
        .iter()
        .filter(|(name, _)| name == "tokio")
        .flat_map(|(_, features)| features.iter().map(String::as_str))
        .collect();
    assert!(features.contains("io-util"), "h2 asks for it, so the list is read wrongly: {features:?}");
    assert!(features.iter().all(|feature| ALLOWED.contains(feature)), "{features:?}");
}

#[test]
fn neither_the_client_nor_tonic_nor_hyper_is_among_the_dependencies() {
    let names: BTreeSet<String> = packages().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains("etcd-watch-core") && names.contains("h2"), "{names:?}");
    for unwanted in ["etcd-watch-client", "hyper", "tonic", "tower"] {
        assert!(!names.contains(unwanted), "{unwanted} is among {names:?}");
    }
}
