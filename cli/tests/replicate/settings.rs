//! Users, certificates and the terminal.

use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{Auth, EtcdServer, EtcdVersion, ServerTls},
};
use tokio::time::timeout;

use crate::{
    common::{PATIENCE, bare, output, text},
    world::{CHECKPOINT, World, put_all},
};

#[tokio::test]
async fn the_destination_has_users_and_certificates_of_its_own() {
    let from = EtcdServer::builder(EtcdVersion::V3_5).start_async().await.expect("etcd starts");
    let ca = TestCa::new();
    let tls = ServerTls::new(&ca.server(["127.0.0.1"])).require_client_certificates(&ca);
    let to = EtcdServer::builder(EtcdVersion::V3_4).tls(tls).start_async().await.expect("etcd starts");
    let auth = Auth::enable(&to.etcdctl().expect("its etcdctl"), "r00t").await.expect("it is on");
    let source = etcd_watch_tokio::connect([from.endpoint()]).await.expect("a client");
    source.put("k/1", "a").await.expect("it is put");
    let directory = tempfile::tempdir().expect("a directory");
    let files = ca.client("someone").write(directory.path(), "client").expect("they are written");
    let tool = |password: &str| {
        let mut command = bare(&["mirror", "--prefix", "k/", "--until-rev", "2"]);
        command.args(["--to", &to.address().to_string(), "--dest-user", "root"]);
        command.env("ETCDCTL_ENDPOINTS", from.endpoint()).env("ETCDCTL_DEST_PASSWORD", password);
        command.arg("--dest-cacert").arg(&files.ca);
        command.arg("--dest-cert").arg(&files.certificate).arg("--dest-key").arg(&files.key);
        command
    };
    let refused = output(tool("wr0ng")).await;
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains("can't connect to the destination") && !stderr.contains("wr0ng"), "{stderr}");
    let copied = output(tool("r00t")).await;
    assert!(copied.status.success(), "{copied:?}");
    let there = auth.root().run(["get", "k/1"]).await.expect("a read");
    assert_eq!(there, "k/1\na\n");
}

#[tokio::test]
async fn the_first_copy_shows_a_bar_on_a_terminal_only() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let world = World::start().await;
    for part in 0..10 {
        world.source.txn(put_all(part * 100..(part + 1) * 100, "a")).await.expect("it is made");
    }
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("a terminal");
    unlockpt(&terminal).expect("a terminal");
    let name = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("text");
    let side = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("its other side");
    let mut tool = world.tool(&["--until-rev", "11"]);
    tool.stderr(side).env("TERM", "xterm");
    let mut child = tool.stdout(std::process::Stdio::null()).spawn().expect("it runs");
    // The command holds its side of the terminal open, as the child does.
    drop(tool);
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // Its end is an error on Linux.
        let _ = std::io::Read::read_to_end(&mut std::fs::File::from(terminal), &mut shown);
        text(&shown)
    });
    let shown = timeout(PATIENCE, shown).await.expect("its end").expect("what was shown");
    assert!(child.wait().await.expect("a status").success(), "{shown}");
    assert!(shown.contains("/1000 keys"), "{shown:?}");

    world.destination.delete(CHECKPOINT).await.expect("it is deleted");
    let output = output(world.tool(&["--until-rev", "11"])).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(
        text(&output.stdout).starts_with("mirrored up to revision 11: 1000 puts, 0 deletes, "),
        "{output:?}"
    );
}
