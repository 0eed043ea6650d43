use super::*;
use crate::go::tests::script;

/// A machine with a given `go` that builds a script.
struct World {
    root: tempfile::TempDir,
    tools: GoTools,
}

/// Answers `version`; `build` writes what `-o` names.
const FAKE_GO: &str = r#"case "$1" in
version) echo "go version go1.99 any/any" ;;
build)
    grep -q fail main.go && { echo "main.go: no such package" >&2; exit 1; }
    while [ "$1" != -o ]; do shift; done
    printf '#!/bin/sh\necho "etcd 3.7.99 go1.99"\n' > "$2"
    chmod +x "$2" ;;
esac"#;

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("sources")).unwrap();
        script(&at("go"), FAKE_GO);
        let go = GoPlaces { given: Some(at("go")), path: Vec::new(), store: at("store") };
        let tools = GoTools { store: at("store"), sources: at("sources"), go };
        let world = Self { root, tools };
        world.write("main.go", "package main\n");
        world.write("go.mod", "module interop\n");
        world.write("go.sum", "");
        world
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root.path().join("sources").join(name), text).unwrap();
    }

    fn prepare(&self) -> Result<GoClient, BinaryError> {
        self.tools.prepare(&mut |_| {})
    }
}

#[test]
fn a_built_program_is_found_and_tells_its_versions() {
    let world = World::new();
    let error = world.tools.find().unwrap_err();
    assert!(matches!(error, BinaryError::NoInterop { .. }), "{error}");
    assert!(error.to_string().contains("run `cargo xtask go`"), "{error}");

    let client = world.prepare().unwrap();
    assert_eq!(client.versions, "etcd 3.7.99 go1.99");
    assert_eq!(world.tools.find().unwrap(), client.program);
    assert!(client.to_string().contains("ETCD_WATCH_GO"), "{client}");
}

#[test]
fn a_program_of_other_sources_is_not_used_until_it_is_built_again() {
    let world = World::new();
    world.prepare().unwrap();
    for (name, text) in [
        ("main.go", "package main // changed\n"),
        ("new.go", "package main\n"),
        ("go.mod", "\n"),
        ("go.sum", "\n"),
    ] {
        world.write(name, text);
        let error = world.tools.find().unwrap_err();
        assert!(matches!(error, BinaryError::StaleInterop { .. }), "{name}: {error}");
        assert!(error.to_string().contains("run `cargo xtask go`"), "{error}");
        world.prepare().unwrap();
        world.tools.find().unwrap();
    }
    world.write("notes.txt", "not a source");
    world.tools.find().unwrap();
}

#[test]
fn sources_that_go_can_not_build_are_named_and_no_program_is_left() {
    let world = World::new();
    world.write("main.go", "fail\n");
    let text = world.prepare().unwrap_err().to_string();
    let sources = world.root.path().join("sources").display().to_string();
    assert!(text.contains("no such package") && text.contains(&sources), "{text}");
    assert!(world.tools.find().is_err());
}

#[test]
fn only_the_program_and_its_stamp_stay_in_the_store() {
    let world = World::new();
    world.prepare().unwrap();
    let names = |path: &Path| {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&world.tools.store), ["bin"]);
    assert_eq!(names(&world.tools.store.join("bin")), ["interop", "interop.sources"]);
}
