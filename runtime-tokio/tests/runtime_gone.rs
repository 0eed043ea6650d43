//! What stands on a runtime that has shut down ends with an error, wherever it is waited for: sessions, locks,
//! leaderships and observers, each on a thread of its own, which also shows a future that goes round without a pause.

mod common;

use std::future::Future;

use common::{DEADLINE, SECOND};
use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::{
    Client, LeaseKeeper, LeaseLost,
    concurrency::{
        Election, Leadership, Lost, Mutex, MutexGuard, Name, Observe, Session, SessionLost, leader, observe,
    },
};

/// What was made on a runtime that is gone.
struct Left {
    client: Client,
    session: Session,
    guard: MutexGuard,
    leadership: Leadership,
    observer: Observe,
    keeper: LeaseKeeper,
}

async fn made(endpoint: String) -> Left {
    let client = etcd_watch_tokio::connect([endpoint]).await.expect("a valid endpoint");
    let session = Session::builder(&client).ttl(600 * SECOND).open().await.expect("it is granted");
    let guard = Mutex::new(&session, name("lock")).lock().await.expect("it is free");
    let leadership = Election::new(&session, name("election")).campaign("me").await.expect("it is free");
    let mut observer = observe(&client, &name("election"));
    observer.next().await.expect("it goes on").expect("there is a leader");
    let keeper = client.lease_grant(600 * SECOND).await.expect("it is granted").keep_alive();
    Left { client, session, guard, leadership, observer, keeper }
}

fn name(name: &str) -> Name {
    Name::new(name).expect("a lawful name")
}

/// Makes it all on a runtime of its own, and shuts that down.
fn left_behind(endpoint: String) -> Left {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let left = runtime.block_on(made(endpoint));
    runtime.shutdown_timeout(DEADLINE);
    left
}

/// The future's output. It has a thread of its own, which is left alone if the future never yields.
fn ends<T: Send + 'static>(what: &str, future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        // Nobody is left to tell once the test has failed.
        let _ = sender.send(runtime.block_on(future));
    });
    receiver.recv_timeout(DEADLINE / 4).unwrap_or_else(|_| panic!("{what} never ends"))
}

#[test]
fn sessions_guards_and_observers_end_with_their_runtime() {
    let servers = tokio::runtime::Runtime::new().expect("a runtime");
    let etcd = servers.block_on(EmbeddedEtcd::start(ModelConfig::default())).expect("a free port");
    let Left { client, session, guard, leadership, mut observer, keeper } = left_behind(etcd.endpoint());
    let stopped = LeaseLost::Stopped { id: session.id() };
    let lost = SessionLost::Lease(stopped);
    assert_eq!(session.lost_reason(), Some(lost.clone()));
    assert!(!guard.is_held() && !leadership.is_held());

    let of_session = session.clone();
    assert_eq!(ends("Session::lost", async move { of_session.lost().await }), lost);
    let id = keeper.id();
    assert_eq!(ends("LeaseKeeper::lost", async move { keeper.lost().await }), LeaseLost::Stopped { id });
    let of_session = session.clone();
    let mutex = Mutex::new(&session, name("other"));
    ends("Mutex::lock", async move { mutex.lock().await.map(|_| ()) }).expect_err("there is no runtime");
    let mutex = Mutex::new(&session, name("lock"));
    ends("Mutex::try_lock", async move { mutex.try_lock().await.map(|_| ()) })
        .expect_err("there is no runtime");
    let again = Election::new(&session, name("election"));
    ends("Election::campaign", async move { again.campaign("again").await.map(|_| ()) })
        .expect_err("there is no runtime");
    let lost = ends("MutexGuard::lost", async move { (guard.lost().await, guard) });
    assert!(matches!(lost.0, Lost::Session(_)), "{}", lost.0);
    ends("MutexGuard::unlock", lost.1.unlock()).expect_err("there is no runtime");
    let proclaimed =
        ends("Leadership::proclaim", async move { (leadership.proclaim("still").await, leadership) });
    proclaimed.0.expect_err("there is no runtime");
    ends("Leadership::resign", proclaimed.1.resign()).expect_err("there is no runtime");
    let last = ends("Observe::next", async move {
        while let Some(Ok(_)) = observer.next().await {}
        observer.next().await.is_none()
    });
    assert!(last, "there is nothing after the error");
    let of_client = client.clone();
    ends("leader", async move { leader(&of_client, &name("election")).await })
        .expect_err("there is no runtime");
    ends("Session::open", async move { Session::open(&client).await.map(|_| ()) })
        .expect_err("there is no runtime");
    ends("Session::close", async move { of_session.close().await }).expect_err("there is no runtime");
}
