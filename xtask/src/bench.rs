//! `cargo xtask bench`: how fast watches are, beside other clients.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use etcd_watch_binaries::{GoTools, target_dir};

use crate::{
    etcd,
    run::{cargo, program, run, succeeds},
    tool::{Tool, tools},
};

/// Stands in for `protoc` where there is none.
const PROTOX: &str = "0.9.1";

/// Builds the programs and measures; `arguments` are those of the program `bench`. Without `with_peers` only programs of
/// this workspace are compared.
pub(crate) fn measure(with_peers: bool, arguments: &[String]) -> Result<()> {
    // It may also stand among the arguments of the program.
    let (no_peers, arguments): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| *argument == "--no-peers");
    let with_peers = with_peers && no_peers.is_empty();
    etcd::run(&[])?;
    for package in ["etcd-watch-bench", "etcd-watch-bench-scrape"] {
        // Each by itself: together they would share features, and the bench's clients are to be without metrics.
        run(&mut cargo(&["build", "--release", "--package", package, "--bins"]))?;
    }
    let release = target_dir().join("release");
    let mut bench = program(&executable(&release, "bench"), &[]);
    bench.arg("--scrape").arg(executable(&release, "etcd-watch-bench-scrape"));
    if with_peers {
        let go = GoTools::from_env().prepare(&mut |line| println!("{line}"));
        bench
            .arg("--interop")
            .arg(go.context("preparing the Go client of etcd; or run with --no-peers")?.program);
        let peers = peers().context("building the program around etcd-client; or run with --no-peers")?;
        bench.arg("--etcd-client").arg(peers);
    }
    run(bench.args(arguments))
}

fn executable(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// Builds the program around the crate etcd-client, whose build needs protoc.
fn peers() -> Result<PathBuf> {
    let folder = target_dir().join("peers");
    let mut build = cargo(&["build", "--release", "--locked", "--manifest-path", "bench/peers/Cargo.toml"]);
    build.arg("--target-dir").arg(&folder);
    if env::var_os("PROTOC").is_none() && !succeeds(program("protoc", &[]).arg("--version")) {
        build.env("PROTOC", protox()?);
    }
    run(&mut build)?;
    Ok(executable(&folder.join("release"), "etcd-watch-bench-peers"))
}

/// A compiler of .proto files in Rust, that takes the arguments of protoc. Built once.
fn protox() -> Result<PathBuf> {
    let protox = Tool {
        package: "protox",
        executable: "protox",
        // Older checkouts have a directory `protox` of another shape.
        directory: "protox-cli",
        version: PROTOX.to_owned(),
        arguments: &["--features", "bin"],
    };
    println!("protoc is not installed: protox stands in for it");
    protox.provide(&tools())
}
