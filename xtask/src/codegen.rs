//! Generates the Rust code of `etcd-watch-proto` from its `.proto` files.
//!
//! The result is checked in; `--check` (and this module's test) proves that it is what the `.proto`
//! files say. Compiling them is done in Rust, so nobody needs `protoc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Put on top of every generated file.
const BANNER: &str =
    "// Generated from proto/proto by `cargo xtask codegen`; edit the .proto files instead.\n";

/// Writes the generated files, or with `check` only compares them with what is there.
///
/// # Errors
///
/// A `.proto` file that doesn't compile, a file that can't be read or written, and, with `check`,
/// any difference: the message lists the files.
pub(crate) fn run(check: bool) -> Result<()> {
    let folder = crate_root().join("src/generated");
    let wanted = generate()?;
    let present = read_rust_files(&folder)?;
    let differing = differences(&wanted, &present);
    if check {
        if differing.is_empty() {
            return Ok(());
        }
        bail!(
            "generated code is out of date, run `cargo xtask codegen`; differing files in {}: {}",
            folder.display(),
            differing.join(", ")
        );
    }
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for name in differing {
        let path = folder.join(&name);
        match wanted.get(&name) {
            Some(code) => fs::write(&path, code).with_context(|| format!("writing {}", path.display()))?,
            None => fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?,
        }
    }
    Ok(())
}

/// The folder of the crate `etcd-watch-proto`.
fn crate_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto")
}

/// The generated files, by name.
fn generate() -> Result<BTreeMap<String, String>> {
    let root = crate_root().join("proto");
    let mut sources = Vec::new();
    find_protos(&root, &mut sources)?;
    sources.sort();
    let descriptors = protox::compile(&sources, [&root]).context("compiling the .proto files")?;

    let out = tempfile::tempdir().context("creating a temporary folder")?;
    tonic_prost_build::configure()
        .out_dir(out.path())
        .emit_rerun_if_changed(false)
        .bytes(".")
        .build_transport(false)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .compile_fds(descriptors)
        .context("generating Rust code")?;
    let mut files = read_rust_files(out.path())?;
    for code in files.values_mut() {
        code.insert_str(0, BANNER);
    }
    Ok(files)
}

fn find_protos(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// The Rust files of a folder, by name; none if there is no such folder.
fn read_rust_files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(".rs") {
            let code = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            files.insert(name.to_owned(), code);
        }
    }
    Ok(files)
}

/// Names of the files that are missing, superfluous or not the same, in order.
fn differences(wanted: &BTreeMap<String, String>, present: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<&String> = wanted.keys().chain(present.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().filter(|name| wanted.get(*name) != present.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, code)| ((*name).to_owned(), (*code).to_owned())).collect()
    }

    #[test]
    fn regenerating_changes_nothing() {
        run(true).expect("checked-in code is what the .proto files say");
    }

    #[test]
    fn a_changed_a_missing_and_a_superfluous_file_are_each_listed() {
        let wanted = files(&[("a.rs", "1"), ("b.rs", "1"), ("d.rs", "1")]);
        let present = files(&[("a.rs", "2"), ("c.rs", "1"), ("d.rs", "1")]);
        assert_eq!(differences(&wanted, &present), ["a.rs", "b.rs", "c.rs"]);
    }
}
