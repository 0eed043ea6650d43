//! TLS and users on the command line, against a real etcd.

#![cfg(unix)]

mod common;

use std::path::PathBuf;

use common::{Running, bare, output, text};
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{Auth, EtcdServer, EtcdVersion, Keys, ServerTls},
};

/// An etcd with TLS, and a directory that has its CA's certificate in a file.
struct Secured {
    server: EtcdServer,
    directory: tempfile::TempDir,
    roots: PathBuf,
}

impl Secured {
    async fn start() -> Self {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(["127.0.0.1"]));
        let server =
            EtcdServer::builder(EtcdVersion::V3_5).tls(tls).start_async().await.expect("etcd starts");
        let directory = tempfile::tempdir().expect("a directory");
        let roots = directory.path().join("roots.pem");
        std::fs::write(&roots, ca.pem()).expect("it is written");
        Self { server, directory, roots }
    }
}

#[tokio::test]
async fn certificates_users_and_passwords_are_given_as_to_etcdctl() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let ca = TestCa::new();
        // The client's certificate must not name the user: its own password decides.
        let tls = ServerTls::new(&ca.server(["127.0.0.1"])).require_client_certificates(&ca);
        let server = EtcdServer::builder(version).tls(tls).start_async().await.expect("etcd starts");
        let auth = Auth::enable(&server.etcdctl().expect("its etcdctl"), "r00t").await.expect("it is on");
        let added = auth.add_user_in_role("alice", "p4ss:word", "hers", Keys::Prefix("a/"));
        added.await.expect("alice is added");

        let directory = tempfile::tempdir().expect("a directory");
        let files = ca.client("someone").write(directory.path(), "client").expect("they are written");
        let tool = |arguments: &[&str]| {
            let mut command = bare(arguments);
            // Host and port alone, as etcdctl takes it.
            command.env("ETCDCTL_ENDPOINTS", server.address().to_string());
            command.env("ETCDCTL_CACERT", &files.ca).env("ETCDCTL_CERT", &files.certificate);
            command.env("ETCDCTL_KEY", &files.key);
            command
        };
        let with_user = |arguments: &[&str]| {
            let mut command = tool(arguments);
            command.env("ETCDCTL_USER", "alice:p4ss:word");
            command
        };
        let mut watch = Running::start(with_user(&["watch", "--prefix", "a/", "--rev", "1"]));
        let put = output(with_user(&["put", "a/1", "v"])).await;
        assert!(put.status.success(), "{put:?}");
        assert_eq!(watch.lines(3).await, ["PUT", "a/1", "v"]);

        let denied = output(with_user(&["put", "b/1", "v"])).await;
        assert!(!denied.status.success() && text(&denied.stderr).contains("permission denied"), "{denied:?}");
        let denied = output(with_user(&["watch", "b/1"])).await;
        assert!(!denied.status.success() && text(&denied.stderr).contains("permission denied"), "{denied:?}");

        let wrong = output(tool(&["get", "a/1", "--user", "alice", "--password", "wr0ng"])).await;
        assert!(!wrong.status.success(), "{wrong:?}");
        assert!(text(&wrong.stderr).contains("check --user and --password"), "{wrong:?}");
        assert_eq!(text(&wrong.stderr).lines().count(), 1, "it is said once: {wrong:?}");
        assert!(!text(&wrong.stderr).contains("wr0ng"), "{wrong:?}");

        let mut without = tool(&["get", "a/1"]);
        without.env_remove("ETCDCTL_CERT").env_remove("ETCDCTL_KEY");
        let without = output(without).await;
        assert!(!without.status.success(), "{without:?}");
        assert!(text(&without.stderr).contains("give one with --cert and --key"), "{without:?}");
        assert_eq!(text(&without.stderr).lines().count(), 1, "it is said once: {without:?}");
    }
}

/// `etcd --auto-tls` makes a certificate with a P-521 key.
#[cfg(feature = "tls-aws-lc")]
#[tokio::test]
async fn a_certificate_that_a_server_made_for_itself_is_trusted_where_it_is_given() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).tls(ServerTls::automatic());
        let server = server.start_async().await.expect("etcd starts");
        let ca = server.ca_file().expect("it has TLS");
        let mut put = bare(&["put", "k", "v", "--endpoints", &server.endpoint()]);
        put.env("ETCDCTL_CACERT", ca);
        let put = output(put).await;
        assert!(put.status.success(), "{put:?}");
        let etcdctl = server.etcdctl().expect("its etcdctl");
        let read = etcdctl.run(["get", "k"]).await.expect("it is read");
        assert_eq!(read, "k\nv\n");
    }
}

#[cfg(feature = "tls-aws-lc")]
#[tokio::test]
async fn a_client_certificate_with_a_p521_key_lets_the_tool_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let mine = etcd_watch_testkit::certificates::p521_client();
    let files = mine.write(directory.path(), "client").expect("they are written");
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let ca = TestCa::new();
        let roots = directory.path().join("roots.pem");
        std::fs::write(&roots, ca.pem()).expect("it is written");
        let server = EtcdServer::builder(version)
            .tls(ServerTls::new(&ca.server(["127.0.0.1"])))
            .flag("trusted-ca-file", files.ca.display())
            .flag("client-cert-auth", true);
        let server = server.start_async().await.expect("etcd starts");
        let mut put = bare(&["put", "k", "v", "--endpoints", &server.endpoint()]);
        put.env("ETCDCTL_CACERT", &roots).env("ETCDCTL_CERT", &files.certificate);
        put.env("ETCDCTL_KEY", &files.key);
        let put = output(put).await;
        assert!(put.status.success(), "{put:?}");
    }
}

#[tokio::test]
async fn without_a_ca_the_roots_of_the_system_are_trusted() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let tls = ServerTls::new(&ca.server(["127.0.0.1"]));
    let server = EtcdServer::builder(EtcdVersion::V3_5).tls(tls).start_async().await.expect("etcd starts");
    let directory = tempfile::tempdir().expect("a directory");
    let get = async |ca: &TestCa| {
        let roots = directory.path().join("roots.pem");
        std::fs::write(&roots, ca.pem()).expect("it is written");
        let mut command = bare(&["get", "k", "--endpoints", &server.endpoint()]);
        // Where OpenSSL and those after it look first.
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        output(command).await
    };
    let read = get(&ca).await;
    assert!(read.status.success(), "{read:?}");
    let refused = get(&other).await;
    let stderr = text(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("none of the trusted roots"), "{refused:?}");
    assert!(stderr.contains("give the cluster's CA with --cacert"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "it is said once: {stderr}");
}

/// Compose files and unit files can't leave a variable out.
#[tokio::test]
async fn variables_for_roots_that_are_set_to_nothing_are_not_set() {
    let Secured { server, directory, roots } = Secured::start().await;
    let (file, directory) = (roots.as_os_str(), directory.path().as_os_str());
    let get = async |variables: &[(&str, &std::ffi::OsStr)]| {
        let mut command = bare(&["get", "k", "--endpoints", &server.endpoint()]);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        output({
            command.envs(variables.iter().copied());
            command
        })
        .await
    };
    let nothing = "".as_ref();
    for variables in [
        [("SSL_CERT_FILE", nothing), ("SSL_CERT_DIR", directory)],
        [("SSL_CERT_FILE", file), ("SSL_CERT_DIR", nothing)],
    ] {
        let read = get(&variables).await;
        assert!(read.status.success(), "{variables:?}: {read:?}");
    }
    // The roots of the system, whatever it has.
    let unset = get(&[]).await;
    for variables in
        [&[("SSL_CERT_FILE", nothing)][..], &[("SSL_CERT_FILE", nothing), ("SSL_CERT_DIR", nothing)]]
    {
        let refused = get(variables).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert_eq!(text(&refused.stderr), text(&unset.stderr), "{variables:?}");
    }
    assert!(text(&unset.stderr).contains("none of the trusted roots"), "this system has roots: {unset:?}");
}

#[tokio::test]
async fn secrets_are_written_if_the_flag_and_the_variable_say_so() {
    let Secured { server, directory, roots } = Secured::start().await;
    let keys = directory.path().join("keys.txt");
    let get = async |flags: &[&str], file: &std::path::Path| {
        let mut command = bare(&["get", "k", "--endpoints", &server.endpoint()]);
        command.args(flags);
        command.env("ETCDCTL_CACERT", &roots).env("SSLKEYLOGFILE", file);
        output(command).await
    };
    let read = get(&[], &keys).await;
    assert!(read.status.success() && !keys.exists(), "the variable alone changes nothing: {read:?}");
    let read = get(&["--log-tls-keys"], "".as_ref()).await;
    assert!(read.status.success() && text(&read.stderr).is_empty(), "{read:?}");
    let read = get(&["--log-tls-keys"], &keys).await;
    assert!(read.status.success() && text(&read.stderr).contains("writing the secrets"), "{read:?}");
    let written = std::fs::read_to_string(&keys).expect("it is there");
    for label in ["CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "] {
        assert!(written.contains(label), "{written}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&keys.metadata().expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let refused = get(&["--log-tls-keys"], directory.path()).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert!(text(&refused.stderr).contains("--log-tls-keys: can't write to"), "{refused:?}");
}

#[tokio::test]
async fn secrets_of_a_mirrors_destination_are_written_too() {
    // Without TLS of its own.
    let source =
        EtcdServer::builder(EtcdVersion::V3_5).unix_socket().start_async().await.expect("etcd starts");
    let Secured { server, directory, roots } = Secured::start().await;
    let keys = directory.path().join("keys.txt");
    let endpoints = [source.endpoint(), server.endpoint()];
    let [from, to] = endpoints.each_ref().map(String::as_str);
    let mut mirror = bare(&["mirror", "--prefix", "k", "--endpoints", from, "--to", to, "--until-rev", "1"]);
    mirror.arg("--log-tls-keys").env("SSLKEYLOGFILE", &keys);
    mirror.env("SSL_CERT_FILE", &roots).env_remove("SSL_CERT_DIR");
    let mirrored = output(mirror).await;
    assert!(mirrored.status.success(), "{mirrored:?}");
    let written = std::fs::read_to_string(&keys).expect("it is there");
    assert!(written.contains("CLIENT_TRAFFIC_SECRET_0 "), "{written}");
}

#[tokio::test]
async fn flags_that_make_no_sense_are_refused_by_name() {
    let refused = async |arguments: &[&str]| {
        let output = output(bare(arguments)).await;
        assert!(!output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    assert!(refused(&["get", "k", "--cert", "c.pem"]).await.contains("give the certificate's key"));
    assert!(refused(&["get", "k", "--password", "x"]).await.contains("--password is given without --user"));
    assert!(refused(&["get", "k", "--cacert", "/none.pem"]).await.contains("--cacert: can't read /none.pem"));
    let unasked = refused(&["get", "k", "--user", "alice"]).await;
    assert!(unasked.contains("ETCDCTL_PASSWORD"), "{unasked}");
}
