//! What `cargo install` builds for the tool.

use std::process::Command;

/// The packages that the tool is built of, each with its features.
fn built_of(flags: &[&str]) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "etcd-watch", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p} [{f}]"])
        .args(flags)
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{tree:?}");
    let mut lines: Vec<String> =
        String::from_utf8(tree.stdout).expect("text").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

#[test]
fn the_tool_is_built_without_what_only_tests_need() {
    let of_tests = ["proptest ", "rcgen ", "tempfile "];
    for (flags, has_testkit) in
        [(&[][..], true), (&["--no-default-features", "--features", "tls-aws-lc"], false)]
    {
        let packages = built_of(flags);
        let unwanted = packages.iter().find(|line| of_tests.iter().any(|name| line.starts_with(name)));
        assert_eq!(unwanted, None, "{flags:?}");
        let has = |name: &str| packages.iter().any(|line| line.starts_with(name));
        assert!(has("etcd-watch-tokio "), "{packages:?}");
        assert_eq!(has("etcd-watch-testkit "), has_testkit, "{flags:?}");
        let client = packages.iter().find(|line| line.starts_with("etcd-watch-client ")).expect("the client");
        assert!(!client.contains("fuzzing"), "{client}");
    }
}
