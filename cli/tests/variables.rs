//! Variables of the environment: those that are set to nothing, and those that commands are to find.

mod common;

use common::{World, bare, output, text, tool_for};

/// Every variable that the tool reads.
const VARIABLES: [&str; 14] = [
    "ETCDCTL_CACERT",
    "ETCDCTL_CERT",
    "ETCDCTL_COMMAND_TIMEOUT",
    "ETCDCTL_DEST_PASSWORD",
    "ETCDCTL_DEST_USER",
    "ETCDCTL_DIAL_TIMEOUT",
    "ETCDCTL_ENDPOINTS",
    "ETCDCTL_HEX",
    "ETCDCTL_KEEPALIVE_TIME",
    "ETCDCTL_KEEPALIVE_TIMEOUT",
    "ETCDCTL_KEY",
    "ETCDCTL_PASSWORD",
    "ETCDCTL_USER",
    "ETCDCTL_WRITE_OUT",
];

#[tokio::test]
async fn a_variable_that_is_set_to_nothing_is_not_set() {
    let world = World::new().await;
    world.put("k", "v");
    let endpoint = world.etcd.endpoint();
    let commands: [(&[&str], &str); 2] = [
        (&["get", "k"], "k\nv\n"),
        (&["mirror", "k", "--until-rev", "2"], "listing: 2 (the first list)\nSNAPSHOT\nk\nv\nsynced: 2\n"),
    ];
    for (arguments, expected) in commands {
        for variable in VARIABLES.into_iter().chain(["RUST_LOG"]) {
            let mut tool = bare(&[arguments, &["--endpoints", &endpoint]].concat());
            tool.env(variable, "");
            let ran = output(tool).await;
            assert!(ran.status.success(), "{variable}: {ran:?}");
            assert_eq!(text(&ran.stdout), expected, "{variable}");
        }
        let mut tool = tool_for(&endpoint, arguments);
        for variable in VARIABLES.into_iter().filter(|variable| *variable != "ETCDCTL_ENDPOINTS") {
            tool.env(variable, "");
        }
        let ran = output(tool).await;
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(0), expected), "{ran:?}");
    }
}

#[tokio::test]
async fn every_variable_that_help_names_has_been_tried_empty() {
    let mut named = Vec::new();
    for command in ["watch", "get", "put", "del", "mirror", "lock", "elect", "endpoints"] {
        let help = output(bare(&[command, "--help"])).await;
        let help = text(&help.stdout);
        let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
        named.extend(variables.map(str::to_owned));
    }
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, VARIABLES);
}

#[cfg(unix)]
#[tokio::test]
async fn commands_do_not_find_passwords() {
    use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
    // The embedded one has no users; here authentication is off, which is no error.
    let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let put = output(tool_for(&server.endpoint(), &["put", "k", "v"])).await;
    assert!(put.status.success(), "{put:?}");
    for arguments in [
        ["watch", "k", "--rev", "2", "--until-rev", "2", "--", "env"].as_slice(),
        &["lock", "l", "--", "env"],
    ] {
        for (user, password) in [("alice:s3cret", None), ("alice", Some("s3cret"))] {
            let mut tool = tool_for(&server.endpoint(), arguments);
            tool.env("ETCDCTL_USER", user).env("ETCDCTL_DEST_USER", "bob:s3cret");
            tool.env("ETCDCTL_DEST_PASSWORD", "s3cret");
            if let Some(password) = password {
                tool.env("ETCDCTL_PASSWORD", password);
            }
            let ran = output(tool).await;
            let stdout = text(&ran.stdout);
            assert!(ran.status.success(), "{ran:?}");
            assert!(!stdout.contains("s3cret"), "{stdout}");
            for variable in ["ETCDCTL_USER=alice", "ETCDCTL_DEST_USER=bob", "ETCDCTL_ENDPOINTS="] {
                assert!(stdout.lines().any(|line| line.starts_with(variable)), "{variable}: {stdout}");
            }
        }
    }
}
