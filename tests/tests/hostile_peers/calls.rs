//! Answers to calls that no lawful member gives.
//!
//! A call has to end within its time limit, with an error that says whether it may have been executed; and go well once a
//! lawful member answers.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::proto::etcdserverpb::LeaseGrantResponse;
use etcd_watch_client::{BoxError, CallError, Client, LeaseGrant};
use etcd_watch_testkit::sim::{Sim, World};

use crate::figures::Bounds;
use crate::grpc::{Call, REVISION, framed, headed, header, message};
use crate::peer::{Peer, Scenario, Script, alone_in_process, answered, run_all};

/// A call's time limit by default, and what it takes to notice.
const LIMIT: Duration = Duration::from_secs(11);

type Done = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

/// A call of the client's.
struct Called {
    name: &'static str,
    /// It may change something.
    is_write: bool,
    make: fn(Client) -> Done,
}

static CALLS: [Called; 6] = [
    Called {
        name: "get",
        is_write: false,
        make: |client| Box::pin(async move { client.get("k").await.map(|_| ()) }),
    },
    Called {
        name: "put",
        is_write: true,
        make: |client| Box::pin(async move { client.put("k", "v").await.map(|_| ()) }),
    },
    Called {
        name: "delete",
        is_write: true,
        make: |client| Box::pin(async move { client.delete("k").await.map(|_| ()) }),
    },
    Called {
        name: "lease_grant",
        is_write: true,
        make: |client| {
            Box::pin(async move {
                let grant = LeaseGrant::new(Duration::from_secs(60)).id(77);
                client.lease_grant(grant).await.map(|_| ())
            })
        },
    },
    Called {
        name: "leases",
        is_write: false,
        make: |client| Box::pin(async move { client.leases().await.map(|_| ()) }),
    },
    Called {
        name: "members",
        is_write: false,
        make: |client| Box::pin(async move { client.cluster().members().await.map(|_| ()) }),
    },
];

/// How a call is answered.
#[derive(Clone)]
enum Answer {
    /// Not at all.
    Never,
    /// With these bytes, and a good end.
    Bytes(Bytes),
    /// With these bytes, and no end.
    Open(Bytes),
    /// With these bytes, and a reset.
    Reset(Bytes),
    /// With nothing but a status.
    Status(u32, &'static str),
}

async fn answer(mut call: Call, answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Never => pending().await,
        Answer::Bytes(bytes) => {
            call.send(bytes).await?;
            call.end(0, "").await
        }
        Answer::Open(bytes) => {
            call.send(bytes).await?;
            pending().await
        }
        Answer::Reset(bytes) => call.send(bytes).await,
        Answer::Status(code, text) => call.end(code, text).await,
    }
}

/// What no call takes for an answer.
fn answers() -> Vec<(String, Answer)> {
    let garbage = framed(0, &[0xff; 100]);
    let mut answers: Vec<(String, Answer)> = [
        ("nothing at all", Answer::Never),
        ("a good end without a message", Answer::Bytes(Bytes::new())),
        ("headers and no more", Answer::Open(Bytes::new())),
        ("headers and a reset", Answer::Reset(Bytes::new())),
        ("garbage", Answer::Bytes(garbage.clone())),
        ("garbage without an end", Answer::Open(garbage)),
        ("half a head", Answer::Bytes(vec![0, 0, 0].into())),
        ("half a message", Answer::Bytes(headed(0, 100, &[0; 9]))),
        ("half a message without an end", Answer::Open(headed(0, 100, &[0; 9]))),
        ("a compressed message", Answer::Bytes(framed(1, &[0x1f, 0x8b, 8, 0]))),
        ("a flag of 255", Answer::Bytes(framed(255, &[]))),
        ("a message of 4 GiB", Answer::Open(headed(0, u32::MAX, &[0; 9]))),
        ("field 0", Answer::Bytes(framed(0, &[0, 1]))),
        ("groups in groups", Answer::Bytes(framed(0, &[0x0b; 100]))),
    ]
    .into_iter()
    .map(|(name, answer)| (name.to_owned(), answer))
    .collect();
    for code in (1..=17).chain([99]) {
        answers.push((format!("gRPC {code}"), Answer::Status(code, "no")));
    }
    answers
}

/// A call, and how the peer answers it.
struct Case {
    name: String,
    called: &'static Called,
    answer: Answer,
}

impl Case {
    fn new(called: &'static Called, (name, answer): (impl AsRef<str>, Answer)) -> Self {
        Self { name: format!("{}, {}", called.name, name.as_ref()), called, answer }
    }
}

impl Scenario for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn bounds(&self) -> Bounds {
        Bounds { attempts: 40, lines: 20, debug_lines: 100, ..Bounds::USUAL }
    }

    fn script(&self, _world: &World) -> Script {
        answered(self.answer.clone(), answer)
    }

    /// The call is made of the peer, and then of a lawful member.
    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        let error = match (self.called.make)(client.clone()).await {
            Ok(()) => return Err("it went well".into()),
            Err(error) => error,
        };
        let took = world.now();
        // A peer that has sent something may have executed the call.
        let is_sent = !matches!(self.answer, Answer::Status(..));
        if self.called.is_write && is_sent && !error.may_have_executed() {
            return Err(format!("surely was not executed: {error}").into());
        }
        if took > LIMIT {
            return Err(format!("it took {took:?}: {error}").into());
        }
        peer.give_way();
        // A connection that is ending may still take a write.
        world.sleep(Duration::from_secs(1)).await;
        (self.called.make)(client).await?;
        Ok(())
    }

    fn has_beside(&self) -> bool {
        false
    }
}

#[test]
fn calls_that_are_answered_with_nonsense() {
    let cases = |called| answers().into_iter().map(move |answer| Case::new(called, answer));
    run_all(|| CALLS.iter().flat_map(cases).collect());
}

fn granted(change: impl Fn(&mut LeaseGrantResponse)) -> Answer {
    let mut granted =
        LeaseGrantResponse { header: Some(header(REVISION)), id: 77, ttl: 60, error: String::new() };
    change(&mut granted);
    Answer::Bytes(message(&granted))
}

/// What a lease is not granted with.
#[test]
fn leases_that_are_granted_wrongly() {
    let answers = [
        ("id 0", granted(|granted| granted.id = 0)),
        ("an id below 0", granted(|granted| granted.id = -77)),
        ("another's id", granted(|granted| granted.id = 78)),
        ("the lowest id", granted(|granted| granted.id = i64::MIN)),
        ("the largest id", granted(|granted| granted.id = i64::MAX)),
        ("no message but a header", granted(|granted| (granted.id, granted.ttl) = (0, 0))),
    ];
    run_all(|| answers.map(|answer| Case::new(&CALLS[3], answer)).into());
}

#[test]
fn leases_whose_time_is_nonsense_have_the_time_that_was_asked_for() {
    let _running = alone_in_process();
    for ttl in [0, -1, i64::MIN, i64::MAX, 1 << 40] {
        let nonsense = granted(|granted| granted.ttl = ttl);
        let report = Sim::new().members(1).run(7, |world| async move {
            let script = answered(nonsense, answer);
            let server = world.listen(move |socket| script(socket));
            let client = world.client().endpoints([server.endpoint()]).connect_lazy()?;
            let lease = client.lease_grant(LeaseGrant::new(Duration::from_secs(60)).id(77)).await?;
            assert_eq!((lease.id(), lease.ttl()), (77, Duration::from_secs(60)), "{ttl}");
            Ok(())
        });
        report.unwrap_or_else(|failure| panic!("{failure}"));
    }
}
