//! Members that say of themselves what no member says. All else of them is lawful.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::proto::etcdserverpb::{DowngradeInfo, StatusResponse};
use etcd_watch_client::{BoxError, Client, ClientBuilder, KeyRange, WatchRequest};
use etcd_watch_testkit::sim::{Etcd, World};

use crate::figures::Bounds;
use crate::grpc::{Call, framed, headed, status};
use crate::lawful::{self, CHANGES};
use crate::peer::{MINUTE, Peer, Scenario, Script, answered, run_all};

/// How often the client asks members how they are.
const EVERY: Duration = Duration::from_secs(10);

/// How the question is answered.
enum Answer {
    Status(Box<StatusResponse>),
    Bytes(Bytes),
    End(u32, &'static str),
    Reset,
    Never,
}

struct Case {
    name: String,
    status: Arc<dyn Fn() -> Answer + Send + Sync>,
    /// The variant of `CallError` that the application gets, if it asks.
    error: Option<&'static str>,
    /// Whether its watches can be used.
    is_of_use: bool,
    bounds: Bounds,
}

impl Case {
    /// An answer that the application gets.
    fn says(name: &str, change: fn(&mut StatusResponse)) -> Self {
        Self::new(name, None, move || {
            let mut status = status();
            change(&mut status);
            Answer::Status(Box::new(status))
        })
    }

    /// No answer: the application gets this variant of `CallError`.
    fn fails(name: &str, error: &'static str, answer: fn() -> Answer) -> Self {
        Self::new(name, Some(error), answer)
    }

    fn new(
        name: &str,
        error: Option<&'static str>,
        status: impl Fn() -> Answer + Send + Sync + 'static,
    ) -> Self {
        let bounds = Bounds { bytes: 4 << 20, ..Bounds::USUAL };
        Self { name: format!("status: {name}"), status: Arc::new(status), error, is_of_use: true, bounds }
    }

    /// It is taken for a member that is down.
    fn of_no_use(mut self) -> Self {
        self.is_of_use = false;
        self
    }

    fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}

impl Scenario for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn fill(&self, etcd: &Etcd) {
        lawful::put_changes(etcd);
    }

    fn script(&self, world: &World) -> Script {
        answered((world.etcd().clone(), self.status.clone()), answer)
    }

    fn build(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.spread_watches_every(EVERY)
    }

    /// Whatever it says, its watches and reads are right.
    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        let end = world.now() + MINUTE;
        if come(&client).await.is_ok() != self.is_of_use {
            return Err(format!("its watches are of use: {}", !self.is_of_use).into());
        }
        let told = client.maintenance().status(peer.endpoint()).await;
        let is_right = match (&told, self.error) {
            (Ok(told), None) => !told.version().contains(char::is_control),
            (Err(error), Some(variant)) => format!("{error:?}").starts_with(variant),
            _ => false,
        };
        if !is_right {
            return Err(format!("{told:?}, and not {:?}", self.error).into());
        }
        world.sleep(end.saturating_sub(world.now())).await;
        read(&client).await?;
        peer.give_way();
        world.sleep(Duration::from_secs(1)).await;
        come(&client).await?;
        client.maintenance().status(peer.endpoint()).await?;
        Ok(())
    }

    async fn beside(&self, world: &World, client: Client) -> Result<(), BoxError> {
        come(&client).await?;
        world.sleep(MINUTE).await;
        come(&client).await?;
        read(&client).await
    }
}

/// All changes come to a watch, in time.
async fn come(client: &Client) -> Result<(), BoxError> {
    let changes = usize::from(CHANGES);
    let mut watch = client.watch(WatchRequest::new(KeyRange::prefix("k")).start_revision(1))?;
    let mut received = Vec::new();
    while received.len() < changes {
        let response = tokio::time::timeout(MINUTE / 2, watch.try_next()).await;
        let response = response.map_err(|_| format!("of {changes} changes {} came", received.len()))??;
        let response = response.ok_or("the watch ended")?;
        received.extend(response.events().flat_map(|event| event.value().to_vec()));
    }
    if received == (1..=CHANGES).collect::<Vec<_>>() {
        Ok(())
    } else {
        Err(format!("{received:?} came").into())
    }
}

async fn read(client: &Client) -> Result<(), BoxError> {
    let read = client.get("k").await?;
    if read.first().is_some_and(|kv| kv.value[..] == [CHANGES]) {
        Ok(())
    } else {
        Err("it reads nothing".into())
    }
}

async fn answer(
    mut call: Call,
    (etcd, status): (Etcd, Arc<dyn Fn() -> Answer + Send + Sync>),
) -> io::Result<()> {
    if call.method != "Status" {
        return lawful::answer(call, &etcd).await;
    }
    match status() {
        Answer::Status(status) => call.answer(&*status).await,
        Answer::Bytes(bytes) => {
            call.send(bytes).await?;
            call.end(0, "").await
        }
        Answer::End(code, text) => call.end(code, text).await,
        Answer::Reset => Ok(()),
        Answer::Never => call.stay().await,
    }
}

fn answers() -> Vec<Case> {
    vec![
        Case::says("of another cluster", |status| {
            status.header.as_mut().expect("it has one").cluster_id ^= 99
        }),
        Case::says("without a header", |status| status.header = None),
        Case::says("at a revision below 0", |status| {
            status.header.as_mut().expect("it has one").revision = -7
        }),
        Case::says("no version", |status| status.version.clear()),
        Case::says("a version of words", |status| status.version = "banana".into()),
        Case::says("half a version", |status| status.version = "3".into()),
        Case::says("a version below 0", |status| status.version = "-3.5.0".into()),
        Case::says("a version over every number", |status| {
            status.version = "99999999999999999999.1.1".into()
        }),
        Case::says("the first version", |status| status.version = "0.0.0".into()),
        Case::says("a version to come", |status| status.version = "9.9.9".into()),
        Case::says("a version of two lines", |status| status.version = "3.5.30\r\n\u{1b}[31m3.6.0".into()),
        Case::says("a version of 1 MiB", |status| status.version = "3.".repeat(1 << 19))
            .bounds(Bounds { bytes: 16 << 20, ..Bounds::USUAL }),
        Case::says("no leader", |status| status.leader = 0),
        Case::says("a leader that is no member", |status| status.leader = u64::MAX),
        Case::says("a learner", |status| status.is_learner = true),
        Case::says("an alarm", |status| {
            status.errors = vec!["etcdserver: mvcc: database space exceeded".into()]
        }),
        Case::says("ten thousand errors", |status| status.errors = vec!["\u{1b}[31mdown".into(); 10_000])
            .bounds(Bounds { bytes: 16 << 20, ..Bounds::USUAL }),
        Case::says("sizes below 0", |status| {
            (status.db_size, status.db_size_in_use, status.db_size_quota) = (-1, i64::MIN, -1);
        }),
        Case::says("the largest numbers", |status| {
            (status.raft_index, status.raft_term, status.raft_applied_index) = (u64::MAX, u64::MAX, u64::MAX);
        }),
        Case::says("a downgrade to nowhere", |status| {
            status.downgrade_info =
                Some(DowngradeInfo { enabled: true, target_version: "\u{7}banana".into() });
        }),
        Case::says("nothing but zeros", |status| *status = StatusResponse::default()),
    ]
}

fn failures() -> Vec<Case> {
    vec![
        Case::fails("never", "MemberUnreachable", || Answer::Never),
        // Nothing tells that from a connection that is broken.
        Case::fails("a reset", "MemberUnreachable", || Answer::Reset).of_no_use(),
        Case::fails("unavailable", "Refused", || Answer::End(14, "not now")),
        Case::fails("not there", "Refused", || Answer::End(12, "unknown service etcdserverpb.Maintenance")),
        Case::fails("denied", "Refused", || Answer::End(7, "etcdserver: permission denied")),
        Case::fails("a token is wanted", "Refused", || Answer::End(16, "etcdserver: invalid auth token")),
        Case::fails("no leader", "Refused", || Answer::End(14, "etcdserver: no leader")),
        Case::fails("garbage", "Refused", || Answer::Bytes(framed(0, &[0xff; 100]))),
        Case::fails("no message", "Refused", || Answer::Bytes(Bytes::new())),
        Case::fails("half a message", "Refused", || Answer::Bytes(headed(0, 100, &[0; 9]))),
        Case::fails("a message of 4 GiB", "ResponseTooLarge", || {
            Answer::Bytes(headed(0, u32::MAX, &[0; 100]))
        }),
    ]
}

#[test]
fn members_that_say_odd_things_of_themselves() {
    run_all(answers);
}

#[test]
fn members_that_do_not_say_how_they_are() {
    run_all(failures);
}
