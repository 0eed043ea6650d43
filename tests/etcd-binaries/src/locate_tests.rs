use super::*;
use crate::go::tests::script;

/// A script that answers `--version` as etcd does, with an `etcdctl` beside it.
fn fake(directory: &Path, version: &str) -> PathBuf {
    for name in ["etcd", "etcdctl"] {
        script(&directory.join(name), &format!("echo 'etcd Version: {version}'"));
    }
    directory.join("etcd")
}

struct World {
    root: tempfile::TempDir,
    binaries: Binaries,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let go = GoPlaces {
            given: Some(root.path().join("go")),
            path: Vec::new(),
            store: root.path().join("go-store"),
        };
        let binaries = Binaries {
            store: root.path().join("store"),
            given: Vec::new(),
            path: Vec::new(),
            choice: OsString::new(),
            modules: modules(),
            go,
        };
        Self { root, binaries }
    }

    /// One with a server of every line.
    fn complete() -> Self {
        let world = Self::new();
        for version in ["3.4.23", "3.5.30", "3.6.98", "3.7.98"] {
            world.fetched(version);
        }
        world
    }

    fn fetched(&self, version: &str) -> PathBuf {
        fake(&self.binaries.store.join(version), version)
    }

    fn under_test(&self) -> Vec<String> {
        self.binaries.under_test().unwrap().iter().map(|binary| binary.version.to_string()).collect()
    }

    fn give(&mut self, version: &str) -> PathBuf {
        let server = fake(&self.root.path().join("given").join(version), version);
        self.binaries.given.push(server.clone());
        server
    }

    fn put_on_path(&mut self, version: &str) -> PathBuf {
        let directory = self.root.path().join("bin").join(version);
        self.binaries.path.push(directory.clone());
        fake(&directory, version)
    }
}

#[test]
fn the_newest_fetched_server_of_a_line_is_used() {
    let world = World::new();
    world.fetched("3.5.4");
    let newest = world.fetched("3.5.30");
    world.fetched("3.4.23");
    let found = world.binaries.find(Line::V3_5).unwrap();
    assert_eq!(
        (found.server, found.version, found.origin),
        (newest, Version::new(3, 5, 30), Origin::Fetched)
    );
}

#[test]
fn the_oldest_and_the_newest_line_in_use_are_tested_or_all_if_so_chosen() {
    let mut world = World::complete();
    assert_eq!(world.under_test(), ["3.5.30", "3.7.98"]);
    world.binaries.choice = OsString::from("all");
    assert_eq!(world.under_test(), ["3.4.23", "3.5.30", "3.6.98", "3.7.98"]);
    world.binaries.choice = OsString::from("some");
    let error = world.binaries.under_test().unwrap_err();
    assert!(error.to_string().contains("ETCD_WATCH_SERVERS is `some`"), "{error}");
}

#[test]
fn a_given_server_takes_the_place_of_its_own_line_only() {
    let mut world = World::complete();
    let given = world.give("3.5.4");
    assert_eq!(world.under_test(), ["3.5.4", "3.7.98"]);
    assert_eq!(world.binaries.find(Line::V3_5).unwrap().server, given);
    assert_eq!(world.binaries.find(Line::V3_7).unwrap().origin, Origin::Fetched);
}

#[test]
fn a_given_server_of_another_line_is_tested_in_addition() {
    let mut world = World::complete();
    world.give("3.8.1");
    world.give("3.4.31");
    assert_eq!(world.under_test(), ["3.4.31", "3.5.30", "3.7.98", "3.8.1"]);
    let additional = world.binaries.additional().unwrap();
    assert_eq!(additional.iter().map(|binary| binary.version).collect::<Vec<_>>(), [Version::new(3, 8, 1)]);
}

#[test]
fn a_server_on_path_serves_its_line_when_there_is_no_other() {
    let mut world = World::new();
    let on_path = world.put_on_path("3.4.30");
    assert_eq!(world.binaries.find(Line::V3_4).unwrap().server, on_path);
    let fetched = world.fetched("3.4.23");
    assert_eq!(world.binaries.find(Line::V3_4).unwrap().server, fetched);
}

#[test]
fn a_missing_server_is_an_error_with_the_remedy() {
    let mut world = World::new();
    world.put_on_path("3.4.30");
    let error = world.binaries.find(Line::V3_5).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("3.5") && text.contains("run `cargo xtask etcd`"), "{text}");
    assert_eq!(format!("{error:?}"), text);
    assert!(world.binaries.under_test().is_err());
}

#[test]
fn a_given_path_that_does_not_work_is_an_error_even_if_another_server_would_do() {
    let mut world = World::new();
    world.fetched("3.5.30");
    world.binaries.given.push(world.root.path().join("no-such-etcd"));
    assert!(matches!(world.binaries.find(Line::V3_5), Err(BinaryError::NotEtcd { .. })));
}

#[test]
fn a_given_program_that_is_not_etcd_is_an_error() {
    let mut world = World::new();
    world.binaries.given.push(PathBuf::from("/bin/true"));
    let text = world.binaries.find(Line::V3_5).unwrap_err().to_string();
    assert!(text.contains("/bin/true (from ETCD_BIN) is not a working etcd"), "{text}");
}

#[test]
fn half_unpacked_servers_are_not_found() {
    let world = World::new();
    fake(&world.binaries.store.join(".staging-1-0").join("3.5.30"), "3.5.30");
    fs::create_dir_all(world.binaries.store.join("3.5.30")).unwrap();
    assert!(world.binaries.find(Line::V3_5).is_err());
}

#[test]
fn the_etcdctl_beside_the_server_comes_before_the_one_on_path() {
    let mut world = World::new();
    let server = world.fetched("3.5.30");
    world.put_on_path("3.4.30");
    let found = world.binaries.find(Line::V3_5).unwrap();
    assert_eq!(found.etcdctl().unwrap(), server.with_file_name("etcdctl"));
    assert_eq!(found.restorer().unwrap(), server.with_file_name("etcdctl"));

    fs::remove_file(server.with_file_name("etcdctl")).unwrap();
    let found = world.binaries.find(Line::V3_5).unwrap();
    assert_eq!(found.etcdctl().unwrap(), world.root.path().join("bin/3.4.30/etcdctl"));
}

#[test]
fn a_version_without_a_package_can_not_be_fetched() {
    let world = World::new();
    let error = world.binaries.fetch_exact(Version::new(3, 5, 2), &mut |_| {}).unwrap_err();
    assert!(matches!(error, BinaryError::NoSource(_)));
}

#[test]
fn nothing_is_fetched_when_nothing_is_missing() {
    let world = World::complete();
    world.binaries.fetch(&mut |line| panic!("{line}")).unwrap();
}

/// Answers `version`; `build` makes programs of the directory that `-o` names.
const FAKE_GO: &str = r##"case "$1" in
version) echo "go version go1.99 any/any" ;;
build)
    version=$(sed -n 's/.*server.v3 v//p' go.mod)
    while [ "$1" != -o ]; do shift; done
    for name in server etcdctl etcdutl; do
        printf "#!/bin/sh\necho 'etcd Version: $version'\n" > "$2/$name"
        chmod +x "$2/$name"
    done ;;
esac"##;

#[test]
fn what_is_missing_or_older_than_its_module_is_built() {
    let mut world = World::complete();
    let modules = world.root.path().join("modules");
    for (line, version) in [("3.6", "3.6.99"), ("3.7", "3.7.98")] {
        let directory = modules.join(format!("etcd-{line}"));
        fs::create_dir_all(&directory).unwrap();
        let manifest = format!("module x\nrequire go.etcd.io/etcd/server/v3 v{version}\n");
        fs::write(directory.join("go.mod"), manifest).unwrap();
    }
    world.binaries.modules = modules;
    fs::remove_dir_all(world.binaries.store.join("3.7.98")).unwrap();
    script(&world.root.path().join("go"), FAKE_GO);

    let mut said = Vec::new();
    world.binaries.fetch(&mut |line| said.push(line.to_owned())).unwrap();
    assert!(said.len() == 2 && said[0].contains("3.6.99") && said[1].contains("3.7.98"), "{said:?}");
    let built = world.binaries.find(Line::V3_6).unwrap();
    assert_eq!(built.version, Version::new(3, 6, 99));
    assert_eq!(built.restorer().unwrap(), built.server.with_file_name("etcdutl"));
    assert_eq!(world.binaries.find(Line::V3_7).unwrap().version, Version::new(3, 7, 98));
    world.binaries.fetch(&mut |line| panic!("{line}")).unwrap();

    // A given one is taken as it is.
    fs::remove_dir_all(world.binaries.store.join("3.6.99")).unwrap();
    world.give("3.6.1");
    world.binaries.fetch(&mut |line| panic!("{line}")).unwrap();
}

#[test]
fn without_a_go_that_works_nothing_is_built_and_the_remedy_is_told() {
    let world = World::complete();
    fs::remove_dir_all(world.binaries.store.join("3.7.98")).unwrap();
    let error = world.binaries.fetch(&mut |_| {}).unwrap_err();
    assert!(matches!(error, BinaryError::NotGo { .. }), "{error}");
    assert!(matches!(world.binaries.find(Line::V3_7), Err(BinaryError::Missing { .. })));
}
