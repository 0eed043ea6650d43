//! What a file of a crate imports.

use std::collections::BTreeMap;

use super::graph::Graph;

/// The names between the `::`.
type Path = Vec<String>;

/// A file, the module that it is, and the paths in it.
#[derive(Debug)]
pub(super) struct Source {
    file: String,
    module: Path,
    /// The names that it re-exports, and what they stand for.
    re_exports: Vec<(String, Path)>,
    /// What it uses, as it is written there.
    used: Vec<Path>,
}

impl Source {
    pub(super) fn parse(file: &str, text: &str) -> Self {
        let code = code_of(text);
        let (mut re_exports, mut used, mut rest) = (Vec::new(), Vec::new(), String::new());
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let Some((is_public, start)) = use_on(line) else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            let mut tree = start.to_owned();
            while !tree.contains(';')
                && let Some(line) = lines.next()
            {
                tree.push_str(line);
            }
            let mut found = Vec::new();
            flatten(tree.split(';').next().unwrap_or_default(), &[], &mut found);
            if is_public {
                re_exports.extend(found);
            } else {
                used.extend(found.into_iter().map(|(_, path)| path));
            }
        }
        used.extend(paths_in(&rest));
        Self { file: file.to_owned(), module: module_of(file), re_exports, used }
    }

    /// The arrows between the files of a crate.
    pub(super) fn graph(sources: Vec<Self>) -> Graph {
        let by_module: BTreeMap<&[String], &Self> =
            sources.iter().map(|source| (&source.module[..], source)).collect();
        let mut graph = Graph::default();
        for source in &sources {
            for path in &source.used {
                if let Some(to) = resolve(&by_module, &source.module, path, 0) {
                    graph.add(&source.file, to);
                }
            }
        }
        graph
    }
}

/// How many re-exports may follow each other.
const MOST_RE_EXPORTS: usize = 16;

/// The file that a path leads to from a module; `None` for other crates.
fn resolve<'a>(
    sources: &BTreeMap<&[String], &'a Source>,
    from: &[String],
    path: &[String],
    depth: usize,
) -> Option<&'a str> {
    let (mut module, mut rest) = match path.first()?.as_str() {
        "crate" => (Path::new(), &path[1..]),
        "self" => (from.to_vec(), &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            (from.get(..from.len().checked_sub(ups)?)?.to_vec(), &path[ups..])
        }
        name => {
            let child = [from, &[name.to_owned()]].concat();
            let is_ours = sources.contains_key(&child[..]);
            is_ours.then(|| (from.to_vec(), path))?
        }
    };
    while let Some((name, further)) = rest.split_first() {
        let child = [&module[..], std::slice::from_ref(name)].concat();
        let source = sources.get(&module[..])?;
        if sources.contains_key(&child[..]) {
            module = child;
        } else if let Some((_, target)) = source.re_exports.iter().find(|(known, _)| known == name)
            && depth < MOST_RE_EXPORTS
        {
            let target = [target, further].concat();
            return resolve(sources, &module, &target, depth + 1).or(Some(&source.file));
        } else {
            break;
        }
        rest = further;
    }
    sources.get(&module[..]).map(|source| source.file.as_str())
}

/// The module that a file is.
fn module_of(file: &str) -> Path {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// The text without comments and without the module of tests at its end.
fn code_of(text: &str) -> String {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let is_tests = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim().starts_with("mod ") && pair[1].contains('{')
    };
    let end = code.windows(2).position(is_tests).unwrap_or(code.len());
    code[..end].join("\n")
}

/// The begin of a `use` on a line, and whether it re-exports.
fn use_on(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    if let Some(tree) = line.strip_prefix("use ") {
        return Some((false, tree));
    }
    let rest = line.strip_prefix("pub")?;
    let rest = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    rest.trim_start().strip_prefix("use ").map(|tree| (true, tree))
}

/// The paths of a tree such as `a::{b, c::{self, d as e}, f::*}`, with the name that each is known by.
fn flatten(tree: &str, prefix: &[String], found: &mut Vec<(String, Path)>) {
    let tree = tree.trim();
    if let Some((before, inner)) = tree.split_once('{') {
        let prefix = [prefix, &names(before)].concat();
        let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
        split_at_commas(inner).into_iter().for_each(|part| flatten(part, &prefix, found));
        return;
    }
    let (path, alias) =
        tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = [prefix, &names(path)].concat();
    if path.len() > prefix.len()
        && matches!(path.last().map(String::as_str), Some("self" | "*"))
        && path.len() > 1
    {
        path.pop();
    }
    let Some(last) = path.last() else { return };
    let name = alias.unwrap_or(last).to_owned();
    if !tree.is_empty() {
        found.push((name, path));
    }
}

fn names(path: &str) -> Path {
    path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The parts between the commas that are in no braces.
fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The paths in code that begin with `crate::` or `super::`.
fn paths_in(code: &str) -> Vec<Path> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    code.split(|character: char| !is_part(character))
        .filter(|word| word.starts_with("crate::") || word.starts_with("super::"))
        .map(names)
        .collect()
}
