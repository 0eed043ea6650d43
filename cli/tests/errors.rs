//! Errors, in the words of the command line.

mod common;

use common::{bare, output, text};

/// What a user of the library would be told.
const OF_THE_LIBRARY: [&str; 10] = [
    "ca_file",
    "identity_files",
    "server_name",
    "KeyRange",
    "start_revision",
    "dial_timeout",
    "request_timeout",
    "tls was set",
    "tls: ",
    "endpoints is",
];

/// Tools that are refused without a server.
#[tokio::test]
async fn errors_speak_of_flags_and_are_said_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("no.pem");
    std::fs::write(&file, "no certificate").expect("it is written");
    let no_pem = file.to_str().expect("text");
    let cases: [(&[&str], &[&str]); 13] = [
        (&["get", "k", "--cacert", no_pem], &["--cacert: ", no_pem]),
        (&["get", "k", "--cert", no_pem, "--key", no_pem], &["--cert and --key: ", no_pem]),
        (&["get", "k", "--cert", "/none", "--key", "/none"], &["--cert and --key: can't read /none"]),
        (&["get", "k", "--tls-server-name", "a b"], &["--tls-server-name: ", "\"a b\""]),
        (
            &["get", "k", "--cacert", no_pem, "--endpoints", "http://h:1"],
            &["http://h:1", "leave out --cacert"],
        ),
        (&["get", "k", "--dial-timeout", "0"], &["--dial-timeout is 0"]),
        (&["get", "k", "--command-timeout", "0"], &["--command-timeout is 0"]),
        (&["get", "k", "--keepalive-timeout", "0"], &["--keepalive-timeout is 0"]),
        (&["get", "k", "--user", ":x"], &["--user is"]),
        (&["get", "b", "a"], &["no key is from b up to a", "RANGE_END"]),
        (&["del", "b", ""], &["RANGE_END"]),
        (&["put", "", "v"], &["the key is empty"]),
        (&["get", ""], &["the key is empty", "--prefix \"\""]),
    ];
    for (arguments, expected) in cases {
        let refused = output(bare(arguments)).await;
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(
            (stderr.starts_with("error: "), stderr.lines().count()),
            (true, 1),
            "{arguments:?}: {stderr}"
        );
        for part in expected {
            assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        }
        for word in OF_THE_LIBRARY {
            assert!(!stderr.contains(word), "{word}: {arguments:?}: {stderr}");
        }
    }
}

#[tokio::test]
async fn errors_about_the_destination_speak_of_its_flags() {
    let world = common::World::new().await;
    let cases: [(&[&str], &str); 4] = [
        (&["--to", "127.0.0.1:1", "--dest-cacert", "/none"], "--dest-cacert: can't read /none"),
        (&["--to", "127.0.0.1:1", "--dest-user", ":x"], "--dest-user is"),
        (&["--to", "http://127.0.0.1:1", "--dest-cacert", "/none"], "leave out --dest-cacert"),
        (
            &["--to", "127.0.0.1:1", "--dial-timeout", "300ms"],
            "can't connect to the destination: no endpoint has answered",
        ),
    ];
    for (flags, expected) in cases {
        let refused = world.run(&[&["mirror", "k"], flags].concat()).await;
        let stderr = text(&refused.stderr);
        assert!(!refused.status.success() && stderr.contains(expected), "{flags:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "it is said once: {stderr}");
    }
}
