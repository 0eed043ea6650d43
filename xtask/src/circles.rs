//! Looks for circles of files in the client: files that can only be understood together, because each uses another.
//!
//! The arrows are read from the sources: what a file imports by `use`, and the paths from `crate::` and `super::` in its
//! code. A re-export (`pub use`) is only a name: whoever uses the name uses the file that it stands for. Tests don't
//! count, nor do files of tests (`driver_tests.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};

mod graph;
mod source;

use graph::Graph;
use source::Source;

/// The folder that is looked at.
const CLIENT: &str = "client/src";

/// The rooms of the client, from the ground up: a file may use files of its own room and of the rooms earlier in this
/// list. A room is a folder or a file. What is in none of them (`lib.rs`, `error.rs`, ...) may be used by all.
const ROOMS: [&[&str]; 11] = [
    &["sync"],
    &["runtime"],
    &["health"],
    &["transport"],
    &["cluster", "auth"],
    &["calls"],
    &["admin"],
    &["watch"],
    &["upkeep"],
    &["client", "builder", "mirror.rs", "pages.rs"],
    &["recipes"],
];

/// Fails if files of the client use each other in a circle, or a room uses one that stands on it.
pub(crate) fn check(root: &Path) -> Result<()> {
    println!("> looking for circles of files in {CLIENT}");
    let graph = read(&root.join(CLIENT))?;
    ensure!(graph.arrows().count() > 0, "no arrows between the files of {CLIENT} were found");
    let complaints = complaints(&graph);
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// The files below a folder, and the arrows between them.
fn read(folder: &Path) -> Result<Graph> {
    let mut files = BTreeMap::new();
    collect(folder, "", &mut files)?;
    Ok(Source::graph(files.into_iter().map(|(name, text)| Source::parse(&name, &text)).collect()))
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files)?;
        } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
            files.insert(format!("{prefix}{name}"), text);
        }
    }
    Ok(())
}

/// Everything that is wrong, one line each.
fn complaints(graph: &Graph) -> Vec<String> {
    let circles = graph.circles().into_iter();
    let upward: BTreeSet<(&str, &str)> = graph.arrows().filter(|&(from, to)| is_upward(from, to)).collect();
    circles
        .map(|circle| format!("a circle of files: {}", circle.join(", ")))
        .chain(
            upward.iter().map(|(from, to)| format!("{from} uses {to}, whose room stands on that of {from}")),
        )
        .collect()
}

/// Whether an arrow leads from a room to one that stands on it.
fn is_upward(from: &str, to: &str) -> bool {
    matches!((level(from), level(to)), (Some(from), Some(to)) if from < to)
}

fn level(file: &str) -> Option<usize> {
    let room = file.split('/').next().unwrap_or(file);
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        Source::graph(files.iter().map(|(name, text)| Source::parse(name, text)).collect())
    }

    #[test]
    fn the_client_is_in_order() {
        check(&crate::run::workspace()).expect("its arrows are as they should be");
    }

    const HOUSE: [(&str, &str); 4] = [
        ("lib.rs", "mod sync;\nmod watch;\npub use watch::handle::{Watch, WatchError as Ended};\n"),
        ("sync/mod.rs", "pub(crate) fn lock() {}\n"),
        ("watch/mod.rs", "pub(crate) mod handle;\nmod hub;\n"),
        (
            "watch/handle.rs",
            "use std::sync::Arc;\nuse crate::{\n    sync::lock,\n    watch::hub::{self, Hub},\n};\n",
        ),
    ];

    #[test]
    fn a_house_whose_arrows_all_point_down_is_in_order() {
        let hub = (
            "watch/hub.rs",
            "use crate::sync; // not crate::Watch\n#[cfg(test)]\nmod tests { use crate::Watch; }\n",
        );
        let graph = graph(&[&HOUSE[..], &[hub]].concat());
        let arrows: Vec<_> = graph.arrows().collect();
        assert_eq!(
            arrows,
            [
                ("watch/handle.rs", "sync/mod.rs"),
                ("watch/handle.rs", "watch/hub.rs"),
                ("watch/hub.rs", "sync/mod.rs")
            ]
        );
        assert_eq!(complaints(&graph), [""; 0]);
    }

    #[test]
    fn a_circle_is_found_through_re_exports_paths_and_parents() {
        for text in [
            "use crate::Watch;",
            "use crate::{Ended as E};",
            "use super::handle::*;",
            "fn f() -> crate::watch::handle::Watch {}",
            "fn f() { super::handle::f(); }",
        ] {
            let graph = graph(&[&HOUSE[..], &[("watch/hub.rs", text)]].concat());
            assert_eq!(complaints(&graph), ["a circle of files: watch/handle.rs, watch/hub.rs"], "{text}");
        }
    }

    #[test]
    fn a_room_that_uses_one_above_it_is_found_without_a_circle() {
        let sync = ("sync/latch.rs", "use crate::watch::hub;");
        let graph = graph(&[&HOUSE[..], &[sync, ("watch/hub.rs", "")]].concat());
        assert_eq!(
            complaints(&graph),
            ["sync/latch.rs uses watch/hub.rs, whose room stands on that of sync/latch.rs"]
        );
    }
}
