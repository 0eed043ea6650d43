use std::os::unix::fs::PermissionsExt;

use super::*;

/// A machine with a `go` that builds a script, and a GOPATH with etcd's client, both given.
struct World {
    root: tempfile::TempDir,
    tools: GoTools,
}

/// Answers `version`; `build` needs GOPATH to have the sources, and writes what `-o` names.
const FAKE_GO: &str = r#"#!/bin/sh
case "$1" in
version) echo "go version go1.99 any/any" ;;
build)
    own="${GOPATH##*:}/src/interop"
    grep -q fail "$own/main.go" && { echo "main.go: no such package" >&2; exit 1; }
    while [ "$1" != -o ]; do shift; done
    printf '#!/bin/sh\necho "etcd 3.5.99 go1.99"\n' > "$2"
    chmod +x "$2" ;;
esac
"#;

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("sources")).unwrap();
        fs::create_dir_all(at("gopath/src").join(CLIENT_PACKAGE)).unwrap();
        fs::write(at("go"), FAKE_GO).unwrap();
        fs::set_permissions(at("go"), fs::Permissions::from_mode(0o755)).unwrap();
        let tools = GoTools {
            store: at("store"),
            sources: at("sources"),
            given_go: Some(at("go")),
            given_gopath: Some(at("gopath").into_os_string()),
        };
        let world = Self { root, tools };
        world.write("main.go", "package main\n");
        world.write("go.mod", "module interop\n");
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
    assert_eq!(client.versions, "etcd 3.5.99 go1.99");
    assert_eq!(world.tools.find().unwrap(), client.program);
    assert!(client.to_string().contains("ETCD_WATCH_GOPATH"), "{client}");
}

#[test]
fn a_program_of_other_sources_is_not_used_until_it_is_built_again() {
    let world = World::new();
    world.prepare().unwrap();
    for (name, text) in
        [("main.go", "package main // changed\n"), ("new.go", "package main\n"), ("go.mod", "\n")]
    {
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
fn what_go_says_about_sources_it_can_not_build_is_told_with_the_remedy() {
    let world = World::new();
    world.write("main.go", "fail\n");
    let error = world.prepare().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no such package") && text.contains("ETCD_WATCH_GOPATH"), "{text}");
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

#[test]
fn a_given_go_or_gopath_that_is_none_is_an_error() {
    let mut world = World::new();
    world.tools.given_gopath = Some(OsString::from("/no/such/gopath"));
    let text = world.prepare().unwrap_err().to_string();
    assert!(text.contains("ETCD_WATCH_GOPATH (/no/such/gopath)"), "{text}");

    for other in ["/bin/true", "/no/such/go"] {
        world.tools.given_go = Some(PathBuf::from(other));
        let text = world.prepare().unwrap_err().to_string();
        assert!(text.contains(other) && text.contains("ETCD_WATCH_GO"), "{text}");
    }
}

#[test]
fn a_gopath_of_several_roots_needs_the_client_in_one_of_them() {
    let mut world = World::new();
    let roots = [PathBuf::from("/no/such/gopath"), world.root.path().join("gopath")];
    world.tools.given_gopath = Some(env::join_paths(roots).unwrap());
    world.prepare().unwrap();
}
