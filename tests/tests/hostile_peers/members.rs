//! Member lists that no cluster has, for a client that takes its endpoints from them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::proto::etcdserverpb::{Member, MemberListResponse};
use etcd_watch_client::{BoxError, Client};
use etcd_watch_testkit::sim::{Etcd, World};

use crate::figures::Bounds;
use crate::grpc::{Call, REVISION, framed, headed, header, serve};
use crate::lawful;
use crate::peer::{Peer, Scenario, Script, answered, run_all};

/// What a call, and then asking the addresses, may take.
const LIMIT: Duration = Duration::from_secs(15);
/// The peer, by the name that it has in each world.
const PEER: &str = "http://server-0:2379";
/// The lawful member.
const MEMBER: &str = "http://etcd-0:2379";
/// A server of another cluster.
const FOREIGN: &str = "http://server-1:2379";

/// How the member list is answered.
enum Answer {
    List(MemberListResponse),
    Bytes(Bytes),
    Status(u32, &'static str),
    Never,
}

struct Case {
    name: String,
    list: Arc<dyn Fn() -> Answer + Send + Sync>,
    /// What it comes to: the endpoints, or a variant of `SyncError`.
    result: Result<&'static [&'static str], &'static str>,
    bounds: Bounds,
}

impl Case {
    /// A list from which no endpoint is taken, for this reason.
    fn new(name: &str, error: &'static str, list: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let (name, list) = (format!("members: {name}"), Arc::new(list));
        Self { name, list, result: Err(error), bounds: Bounds { attempts: 40, lines: 12, ..Bounds::USUAL } }
    }

    /// A list of one member with these URLs.
    fn urls<U: Into<String>>(
        name: &str,
        error: &'static str,
        urls: impl Fn() -> Vec<U> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, error, move || {
            let client_urls = urls().into_iter().map(Into::into).collect();
            Answer::List(list(vec![Member { client_urls, ..Member::default() }]))
        })
    }

    /// The endpoints are these from then on.
    fn becomes(mut self, endpoints: &'static [&'static str]) -> Self {
        self.result = Ok(endpoints);
        self
    }

    fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}

fn list(members: Vec<Member>) -> MemberListResponse {
    MemberListResponse { header: Some(header(REVISION)), members }
}

impl Scenario for Case {
    fn name(&self) -> &str {
        &self.name
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn fill(&self, etcd: &Etcd) {
        etcd.put("k", "v");
    }

    fn script(&self, world: &World) -> Script {
        answered((world.etcd().clone(), self.list.clone()), answer)
    }

    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        assert_eq!(peer.endpoint(), PEER);
        let foreign = world.listen(|socket| serve(socket, foreign));
        assert_eq!(foreign.endpoint(), FOREIGN);
        let began = world.now();
        let synced = client.sync_endpoints().await;
        let took = world.now() - began;
        let names = |client: &Client| client.endpoints().iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = self.result.unwrap_or(&[PEER]);
        let is_right = match (&synced, self.result) {
            (Ok(_), Ok(_)) => true,
            (Err(error), Err(variant)) => format!("{error:?}").starts_with(variant),
            _ => false,
        };
        if !is_right || names(&client) != expected || took > LIMIT {
            return Err(format!("after {took:?} {synced:?}, and {:?} are in use", names(&client)).into());
        }
        read(&client).await?;
        peer.give_way();
        // The connection is ending.
        world.sleep(Duration::from_secs(1)).await;
        client.sync_endpoints().await?;
        if names(&client) != [MEMBER] {
            return Err(format!("in the end {:?} are in use", names(&client)).into());
        }
        read(&client).await
    }

    async fn beside(&self, world: &World, client: Client) -> Result<(), BoxError> {
        let _synced = client.sync_endpoints().await;
        read(&client).await?;
        world.sleep(LIMIT).await;
        read(&client).await
    }
}

async fn read(client: &Client) -> Result<(), BoxError> {
    let read = client.get("k").await?;
    if read.first().is_some_and(|kv| &kv.value[..] == b"v") { Ok(()) } else { Err("it reads nothing".into()) }
}

async fn answer(
    mut call: Call,
    (etcd, list): (Etcd, Arc<dyn Fn() -> Answer + Send + Sync>),
) -> io::Result<()> {
    if call.method != "MemberList" {
        return lawful::answer(call, &etcd).await;
    }
    match list() {
        Answer::List(list) => call.answer(&list).await,
        Answer::Bytes(bytes) => {
            call.send(bytes).await?;
            call.end(0, "").await
        }
        Answer::Status(code, text) => call.end(code, text).await,
        Answer::Never => call.stay().await,
    }
}

/// A member of another cluster.
async fn foreign(mut call: Call) -> io::Result<()> {
    let mut list = list(Vec::new());
    list.header.as_mut().expect("it has one").cluster_id ^= 99;
    call.answer(&list).await
}

fn urls() -> Vec<Case> {
    let garbage = || {
        let bad = [
            "",
            " ",
            "::::",
            "http://",
            "http://:2379",
            "http://a:b:c",
            "http://host:99999",
            "ftp://host:21",
        ];
        let odd =
            ["http://user:secret@host:2379", "http://host:2379/path", "\u{1b}[31mred", "http://[::1", "\0"];
        bad.into_iter().chain(odd).collect()
    };
    let many = |own: bool| {
        let hosts = (0..5_000).map(|host| format!("http://host-{host}:2379"));
        own.then(|| PEER.to_owned()).into_iter().chain(hosts).collect::<Vec<_>>()
    };
    vec![
        Case::urls("without client URLs", "NoneAdvertised", Vec::<String>::new),
        Case::urls("garbage", "NoneUsable", garbage),
        Case::urls("a URL of 1 MiB", "NoneUsable", || vec![format!("http://{}", "a".repeat(1 << 20))])
            .bounds(Bounds { bytes: 16 << 20, ..Bounds::USUAL }),
        Case::urls("unix sockets", "NoneUsable", || vec!["unix:///etc/passwd", "unixs:///run/a.sock"]),
        Case::urls("this machine's own", "NoneUsable", || {
            vec!["http://127.0.0.1:2379", "http://localhost:22"]
        }),
        Case::urls("hosts that are not there", "NoneAnswers", || vec!["http://nowhere:2379"]),
        Case::urls("a member of another cluster", "NoneAnswers", || vec![FOREIGN]),
        Case::urls("a member of another cluster, and a good one", "", || vec![FOREIGN, MEMBER])
            .becomes(&[MEMBER]),
        Case::urls("a good one, and garbage", "", move || [garbage(), vec![MEMBER]].concat())
            .becomes(&[MEMBER]),
        Case::urls("thousands that are not there", "NoneAnswers", move || many(false)).bounds(Bounds {
            bytes: 16 << 20,
            polls: 10_000,
            ..Bounds::USUAL
        }),
        Case::urls("itself, and thousands that are not there", "", move || many(true))
            .becomes(&[PEER])
            .bounds(Bounds { bytes: 16 << 20, polls: 10_000, ..Bounds::USUAL }),
        Case::urls("itself ten thousand times", "", || vec![PEER; 10_000])
            .becomes(&[PEER])
            .bounds(Bounds { bytes: 16 << 20, ..Bounds::USUAL }),
    ]
}

fn lists() -> Vec<Case> {
    let members = |change: fn(&mut Member)| {
        let mut member = Member { client_urls: vec![MEMBER.into()], ..Member::default() };
        change(&mut member);
        list(vec![member])
    };
    let of_cluster = |change: fn(&mut MemberListResponse)| {
        let mut list = list(vec![Member { client_urls: vec![MEMBER.into()], ..Member::default() }]);
        change(&mut list);
        list
    };
    vec![
        Case::new("none", "NoneAdvertised", || Answer::List(list(Vec::new()))),
        Case::new("learners alone", "NoneAdvertised", move || {
            Answer::List(members(|member| member.is_learner = true))
        }),
        Case::new("thousands without URLs", "NoneAdvertised", || {
            Answer::List(list(vec![Member { name: "a".into(), ..Member::default() }; 20_000]))
        })
        .bounds(Bounds { bytes: 32 << 20, ..Bounds::USUAL }),
        Case::new("a cluster of another id", "NoneAnswers", move || {
            Answer::List(of_cluster(|list| list.header.as_mut().expect("it has one").cluster_id ^= 99))
        }),
        Case::new("no header", "NoneAnswers", move || Answer::List(of_cluster(|list| list.header = None))),
        Case::new("never", "Call(Timeout", || Answer::Never),
        Case::new("denied", "Call(Refused", || Answer::Status(7, "etcdserver: permission denied")),
        Case::new("not there", "Call(Timeout", || Answer::Status(12, "unknown method MemberList")),
        Case::new("unavailable", "Call(Timeout", || Answer::Status(14, "not now")),
        Case::new("garbage", "Call(", || Answer::Bytes(framed(0, &[0xff; 100]))),
        Case::new("nothing", "Call(", || Answer::Bytes(Bytes::new())),
        Case::new("4 GiB", "Call(", || Answer::Bytes(headed(0, u32::MAX, &[0; 100]))),
    ]
}

#[test]
fn member_lists_with_urls_of_no_use() {
    run_all(urls);
}

#[test]
fn member_lists_of_no_cluster() {
    run_all(lists);
}
