//! Renewals of a session's lease that no lawful member answers so.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::concurrency::{Session, SessionLost};
use etcd_watch_client::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use etcd_watch_client::{BoxError, Client, LeaseLost};
use etcd_watch_testkit::sim::{Etcd, World};

use crate::figures::Bounds;
use crate::grpc::{Call, REVISION, framed, headed, header, message};
use crate::lawful;
use crate::peer::{MINUTE, Peer, Scenario, Script, answered, run_all};

/// The lease that the peer grants.
const LEASE: i64 = 77;
/// The time that it is granted for.
const TTL: Duration = Duration::from_secs(10);
/// The most that a loss may be noticed late.
const LATE: Duration = Duration::from_secs(1);

/// What a renewal is answered with.
enum Step {
    Say(LeaseKeepAliveResponse),
    Bytes(Bytes),
    Wait(Duration),
    /// The answer again and again, a thousand times a second.
    Flood(LeaseKeepAliveResponse),
    End(u32, &'static str),
    Reset,
    Stay,
}

type Steps = Arc<dyn Fn() -> Vec<Step> + Send + Sync>;

/// What becomes of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is kept, and never believed to last longer than it was granted for.
    Kept,
    /// It is lost when its time is over, and no earlier.
    Expires,
    /// It is lost as soon as the peer has said so.
    NotFound,
}

struct Case {
    name: String,
    steps: Steps,
    alone: Then,
    beside: Then,
    bounds: Bounds,
}

impl Case {
    /// Renewals that are worth nothing: beside a lawful member, that one renews the lease.
    fn new(name: &str, steps: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self {
            name: format!("renewals: {name}"),
            steps: Arc::new(steps),
            alone: Then::Expires,
            beside: Then::Kept,
            bounds: Bounds::USUAL,
        }
    }

    /// One answer, and a good end.
    fn says(name: &str, id: i64, ttl: i64) -> Self {
        Self::new(name, move || vec![Step::Say(renewed(id, ttl))])
    }

    /// The renewals are believed.
    fn kept(mut self) -> Self {
        self.alone = Then::Kept;
        self
    }

    /// The lease is believed to be gone.
    fn not_found(mut self) -> Self {
        (self.alone, self.beside) = (Then::NotFound, Then::NotFound);
        self
    }

    fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}

fn renewed(id: i64, ttl: i64) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse { header: Some(header(REVISION)), id, ttl }
}

impl Scenario for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The lawful member has the lease too.
    fn fill(&self, etcd: &Etcd) {
        let granted = etcd.with_model(|model| {
            model.lease_grant(&LeaseGrantRequest { id: LEASE, ttl: 600 }, Duration::ZERO)
        });
        granted.expect("there is none yet");
    }

    fn script(&self, world: &World) -> Script {
        answered((world.etcd().clone(), self.steps.clone()), answer)
    }

    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        let session = open(&client).await?;
        judge(self.alone, follow(world, &session).await?.as_ref())?;
        drop(session);
        peer.give_way();
        let session = open(&client).await?;
        judge(Then::Kept, follow(world, &session).await?.as_ref())
    }

    async fn beside(&self, world: &World, client: Client) -> Result<(), BoxError> {
        let session = open(&client).await?;
        judge(self.beside, follow(world, &session).await?.as_ref())
    }
}

async fn open(client: &Client) -> Result<Session, BoxError> {
    Ok(Session::builder(client).ttl(TTL).open().await?)
}

async fn answer(mut call: Call, (etcd, steps): (Etcd, Steps)) -> io::Result<()> {
    match &*call.method {
        "LeaseGrant" => {
            let granted = LeaseGrantResponse {
                header: Some(header(REVISION)),
                id: LEASE,
                ttl: 10,
                error: String::new(),
            };
            call.answer(&granted).await
        }
        "LeaseKeepAlive" => renew(call, steps).await,
        _ => lawful::answer(call, &etcd).await,
    }
}

async fn renew(mut call: Call, steps: Steps) -> io::Result<()> {
    while call.next::<LeaseKeepAliveRequest>().await.is_some() {
        for step in steps() {
            match step {
                Step::Say(response) => call.send(message(&response)).await?,
                Step::Bytes(bytes) => call.send(bytes).await?,
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Flood(response) => loop {
                    call.send(message(&response).repeat(10).into()).await?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                },
                Step::End(code, text) => return call.end(code, text).await,
                // Dropped before its end, a stream is reset.
                Step::Reset => return Ok(()),
                Step::Stay => return call.stay().await,
            }
        }
    }
    call.end(0, "").await
}

/// When the session was lost after it was opened, and why, if it was within a minute.
async fn follow(world: &World, session: &Session) -> Result<Option<(Duration, SessionLost)>, BoxError> {
    let opened = world.now();
    let end = opened + MINUTE;
    while world.now() < end {
        if session.remaining() > TTL {
            return Err(format!("it is believed to last for {:?}", session.remaining()).into());
        }
        tokio::select! {
            biased;
            lost = session.lost() => return Ok(Some((world.now() - opened, lost))),
            () = world.sleep(Duration::from_millis(500)) => {}
        }
    }
    Ok(None)
}

fn judge(then: Then, lost: Option<&(Duration, SessionLost)>) -> Result<(), BoxError> {
    let is_right = match (then, lost) {
        (Then::Kept, None) => true,
        (Then::Expires, Some((after, SessionLost::Lease(LeaseLost::Expired { .. })))) => {
            (TTL - LATE..=TTL + LATE).contains(after)
        }
        (Then::NotFound, Some((after, SessionLost::Lease(LeaseLost::NotFound { .. })))) => *after < LATE,
        _ => false,
    };
    if is_right { Ok(()) } else { Err(format!("{lost:?}, and not {then:?}").into()) }
}

fn answers() -> Vec<Case> {
    let often = Bounds { calls: 250, polls: 5_000, ..Bounds::USUAL };
    vec![
        Case::says("of another lease", LEASE + 1, 10),
        Case::says("of lease 0", 0, 10),
        Case::says("of a lease below 0", -LEASE, 10),
        Case::says("of the lowest lease", i64::MIN, 10),
        Case::says("no time to live", LEASE, 0).not_found(),
        Case::says("no time to live, of another lease", LEASE + 1, 0),
        Case::says("an empty message", 0, 0),
        Case::says("a time below 0", LEASE, -1),
        Case::says("the lowest time", LEASE, i64::MIN),
        Case::says("the largest time", LEASE, i64::MAX),
        Case::says("a second more than etcd grants", LEASE, 9_000_000_001),
        Case::says("the most that etcd grants", LEASE, 9_000_000_000).kept(),
        Case::says("a minute", LEASE, 60).kept(),
        Case::says("a second", LEASE, 1).kept().bounds(often),
        Case::new("twice the answers", || vec![Step::Say(renewed(LEASE, 10)), Step::Say(renewed(LEASE, 10))])
            .kept(),
        Case::new("renewed, and then gone", || {
            vec![Step::Say(renewed(LEASE, 10)), Step::Say(renewed(LEASE, 0))]
        })
        .kept(),
        Case::new("another's first", || {
            vec![Step::Say(renewed(LEASE + 1, 10)), Step::Say(renewed(LEASE, 10))]
        }),
        Case::new("a flood", || vec![Step::Flood(renewed(LEASE, 10))]).bounds(often),
        Case::new("a flood of another's", || vec![Step::Flood(renewed(LEASE + 1, 10))]).bounds(often),
        Case::new("without a header", || {
            vec![Step::Say(LeaseKeepAliveResponse { header: None, ..renewed(LEASE, 10) })]
        })
        .kept(),
        // The answer counts only with a good end.
        Case::new("without an end", || vec![Step::Say(renewed(LEASE, 10)), Step::Stay]),
        Case::new("a good answer and a bad end", || {
            vec![Step::Say(renewed(LEASE, 10)), Step::End(14, "etcdserver: leader changed")]
        }),
    ]
}

fn silence() -> Vec<Case> {
    vec![
        Case::new("never", || vec![Step::Stay]),
        Case::new("headers alone", || vec![Step::Bytes(Bytes::new()), Step::Stay]),
        Case::new("the end at once", || vec![Step::End(0, "")]),
        Case::new("a reset at once", || vec![Step::Reset]),
        Case::new("headers and a reset", || vec![Step::Bytes(Bytes::new()), Step::Reset]),
        Case::new("after the lease's time", || {
            vec![Step::Wait(TTL + Duration::from_millis(1)), Step::Say(renewed(LEASE, 10))]
        }),
        Case::new("after two seconds", || {
            vec![Step::Wait(Duration::from_secs(2)), Step::Say(renewed(LEASE, 10))]
        })
        .kept(),
        Case::new("not found", || vec![Step::End(5, "etcdserver: requested lease not found")]).not_found(),
        Case::new("not found, in other words", || vec![Step::End(5, "no such page")]),
        Case::new("not found, as a proxy says it", || {
            vec![Step::End(2, "etcdserver: requested lease not found")]
        })
        .not_found(),
        Case::new("unavailable", || vec![Step::End(14, "not now")]),
        Case::new("not there", || vec![Step::End(12, "unknown method LeaseKeepAlive")]),
        Case::new("denied", || vec![Step::End(7, "etcdserver: permission denied")]),
        Case::new("too many requests", || vec![Step::End(8, "etcdserver: too many requests")]),
        Case::new("garbage", || vec![Step::Bytes(framed(0, &[0xff; 100]))]),
        Case::new("half a message", || vec![Step::Bytes(headed(0, 100, &[0; 9]))]),
        Case::new("half a message without an end", || vec![Step::Bytes(headed(0, 100, &[0; 9])), Step::Stay]),
        Case::new("a message of 4 GiB", || vec![Step::Bytes(headed(0, u32::MAX, &[0; 100])), Step::Stay]),
        Case::new("a compressed message", || vec![Step::Bytes(framed(1, &[0x1f, 0x8b, 8, 0]))]),
    ]
}

#[test]
fn renewals_that_say_what_none_says() {
    run_all(answers);
}

#[test]
fn renewals_that_do_not_come() {
    run_all(silence);
}
