//! Snapshots, whole and cut, streamed and saved.

use std::{fs, future::poll_fn, path::Path, pin::pin, task::Poll, time::Duration};

use etcd_watch_client::{
    Client,
    admin::{Snapshot, SnapshotError},
};
use etcd_watch_testkit::{
    harness::{EtcdServer, RestoreAs, wait_until},
    proxy::{Cut, FaultProxy},
};

use crate::{
    corrupting::CorruptingProxy,
    world::{DEADLINE, Setup},
};

/// A server with some MB in its database.
async fn filled(setup: &Setup) -> EtcdServer {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    let client = setup.client([server.endpoint()]);
    for number in 0..40 {
        client.put(format!("key-{number}"), vec![b'x'; 128 << 10]).await.expect("it is put");
    }
    server
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    entries.map(|entry| entry.expect("it is read").file_name().into_string().expect("text")).collect()
}

/// What is handed out, until the end or an error.
async fn drain(snapshot: &mut Snapshot) -> (Vec<u8>, Option<SnapshotError>) {
    let mut bytes = Vec::new();
    while let Some(piece) = snapshot.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                assert!(snapshot.next().await.is_none(), "it has ended");
                return (bytes, Some(error));
            }
        }
    }
    (bytes, None)
}

pub(crate) async fn a_snapshot_is_streamed_saved_and_restored(setup: Setup) {
    let mut server = filled(&setup).await;
    let client = setup.client([server.endpoint()]);
    let directory = tempfile::tempdir().expect("a directory can be made");

    let mut snapshot = client.maintenance().snapshot().await.expect("it begins");
    let total = snapshot.total_bytes();
    assert_eq!(snapshot.remaining_bytes(), total);
    assert_eq!(snapshot.endpoint().to_string(), server.endpoint());
    assert_eq!(snapshot.storage_version().is_some(), server.version().minor >= 6);
    // Every wait is dropped once before it is over, and nothing is lost.
    let mut bytes = Vec::new();
    loop {
        {
            let mut dropped = pin!(snapshot.next());
            let ready = poll_fn(|cx| match dropped.as_mut().poll(cx) {
                Poll::Ready(piece) => Poll::Ready(Some(piece)),
                Poll::Pending => Poll::Ready(None),
            });
            if let Some(piece) = ready.await {
                let Some(piece) = piece else { break };
                bytes.extend_from_slice(&piece.expect("it is whole"));
                continue;
            }
        }
        let Some(piece) = snapshot.next().await else { break };
        bytes.extend_from_slice(&piece.expect("it is whole"));
        assert_eq!(snapshot.remaining_bytes() + bytes.len() as u64, total);
    }
    assert_eq!((bytes.len() as u64, snapshot.remaining_bytes()), (total, 0));

    // Of about the size of etcdctl's (etcd writes pages in between), and good for the tool that restores.
    let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
    let saved = client.maintenance().snapshot_of(server.endpoint()).await.expect("it begins");
    let saved = saved.save(&ours).await.expect("it is saved");
    assert_eq!((saved.path(), saved.endpoint().to_string()), (ours.as_path(), server.endpoint()));
    assert_eq!(fs::metadata(&ours).expect("it is there").len(), saved.bytes());
    server.snapshot(&theirs).await.expect("etcdctl saves one");
    let difference = fs::metadata(&theirs).expect("it is there").len().abs_diff(saved.bytes());
    assert!(difference <= 64 << 10, "{difference} bytes");
    client.delete_prefix("key-").await.expect("they are deleted");
    server.restore(&ours, RestoreAs::SameCluster).await.expect("etcd takes it");
    let restored = client.get("key-7").await.expect("it is read").into_first().expect("it is there again");
    assert_eq!(restored.value.len(), 128 << 10);

    // A file that is there is replaced by a whole one, and one of which some was taken is not saved.
    let mut begun = client.maintenance().snapshot().await.expect("it begins");
    begun.next().await.expect("a piece").expect("it is good");
    let error = begun.save(&ours).await.expect_err("it would not be whole");
    assert!(matches!(error, SnapshotError::NotWhole { .. }), "{error}");
    let again = client.maintenance().snapshot().await.expect("it begins");
    again.save(&ours).await.expect("it is saved");
    let nowhere = client.maintenance().snapshot().await.expect("it begins");
    let error =
        nowhere.save(directory.path().join("missing").join("db")).await.expect_err("no such directory");
    assert!(matches!(error, SnapshotError::File { .. }), "{error}");
    let mut left = names(directory.path());
    left.sort();
    assert_eq!(left, ["ours", "theirs"]);
}

/// A snapshot through the proxy that has just begun.
async fn begun(client: &Client, proxy: &FaultProxy) -> Snapshot {
    let maintenance = client.maintenance().timeout(Duration::from_secs(3));
    maintenance.snapshot_of(proxy.endpoint()).await.expect("it begins")
}

pub(crate) async fn a_snapshot_that_is_cut_leaves_no_file(setup: Setup) {
    let server = filled(&setup).await;
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
    let client = setup.client([server.endpoint()]);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("db");
    fs::write(&path, "the last one").expect("it is written");

    // Narrow enough that most is still on its way when it is cut.
    proxy.throttle(4 << 20);
    for cut in [Some(Cut::Reset), Some(Cut::Close), None] {
        let mut snapshot = begun(&client, &proxy).await;
        let total = snapshot.total_bytes();
        let mut received = snapshot.next().await.expect("a piece").expect("it is good").len() as u64;
        match cut {
            Some(cut) => assert!(proxy.cut_all(cut) > 0, "there was a connection to cut"),
            None => proxy.black_hole(),
        }
        let (rest, error) = drain(&mut snapshot).await;
        received += rest.len() as u64;
        let Some(SnapshotError::Cut { received: told, remaining, failure }) = error else {
            panic!("{error:?}")
        };
        assert_eq!((told, told + remaining), (received, total), "{failure}");
        assert!(remaining > 0, "{failure}");
        proxy.restore();
        proxy.throttle(4 << 20);
    }

    proxy.cut_each_after_bytes(2 << 20, Cut::Reset);
    let error = begun(&client, &proxy).await.save(&path).await.expect_err("it is cut");
    assert!(matches!(error, SnapshotError::Cut { .. }), "{error}");
    assert!(error.to_string().contains("was cut off after"), "{error}");
    assert_eq!(names(directory.path()), ["db"]);
    assert_eq!(fs::read(&path).expect("it is there"), b"the last one");
}

pub(crate) async fn a_snapshot_that_was_changed_on_the_way_leaves_no_file(setup: Setup) {
    let server = filled(&setup).await;
    let proxy = CorruptingProxy::start(server.address(), b'x').await;
    let client = setup.client([server.endpoint()]);
    let directory = tempfile::tempdir().expect("a directory can be made");

    let begin = || async { client.maintenance().snapshot_of(proxy.endpoint()).await.expect("it begins") };
    let mut snapshot = begin().await;
    let total = snapshot.total_bytes();
    let (bytes, error) = drain(&mut snapshot).await;
    assert!(
        matches!(error, Some(SnapshotError::WrongChecksum { total: told }) if told == total),
        "{error:?}"
    );
    assert_eq!(bytes.len() as u64, total - 32, "the checksum is kept back");
    let error = begin().await.save(directory.path().join("db")).await.expect_err("it is wrong");
    assert!(matches!(error, SnapshotError::WrongChecksum { .. }), "{error}");
    assert_eq!(names(directory.path()), [""; 0]);
}

pub(crate) async fn a_save_that_is_dropped_leaves_no_file(setup: Setup) {
    let server = filled(&setup).await;
    let proxy = FaultProxy::start(server.endpoint()).await.expect("the proxy starts");
    let client = setup.client([server.endpoint()]);
    let directory = tempfile::tempdir().expect("a directory can be made");
    proxy.throttle(1 << 20);
    let saving = tokio::spawn(begun(&client, &proxy).await.save(directory.path().join("db")));
    let has_part = || matches!(&names(directory.path())[..], [name] if name.ends_with(".part"));
    wait_until("a file is begun", DEADLINE, has_part).await;
    saving.abort();
    assert!(saving.await.expect_err("it is ended").is_cancelled());
    wait_until("it is deleted", DEADLINE, || names(directory.path()).is_empty()).await;
    // The stream is reset: etcd sends no more of it.
    wait_until("the connection is closed", DEADLINE, || proxy.connections() == 0).await;
}
