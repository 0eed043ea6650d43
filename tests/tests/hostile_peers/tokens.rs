//! Peers whose auth tokens are of no use.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::proto::etcdserverpb::AuthenticateResponse;
use etcd_watch_client::{BoxError, Client, ClientBuilder, KeyRange, Watch, WatchRequest};
use etcd_watch_testkit::sim::{Etcd, World};

use crate::figures::Bounds;
use crate::grpc::{Call, REVISION, framed, headed, header};
use crate::lawful::{self, CHANGES};
use crate::peer::{MINUTE, Peer, Scenario, Script, answered, run_all};

/// How often the key is read in the minute.
const READS: u32 = 4;
/// Refusals of a token, in etcd's words.
const INVALID: (u32, &str) = (16, "etcdserver: invalid auth token");
const NO_USER: (u32, &str) = (3, "etcdserver: user name is empty");
const OLD: (u32, &str) = (3, "etcdserver: revision of auth store is old");

/// How a password is answered.
#[derive(Clone)]
enum Answer {
    /// With this token, and the number of those before behind it.
    Numbered(&'static str),
    Token(String),
    Bytes(Bytes),
    Status(u32, &'static str),
    Reset,
    Never,
}

/// Which requests the peer takes.
#[derive(Clone, Copy)]
enum Admits {
    All,
    /// None: it refuses their tokens so.
    None((u32, &'static str)),
    /// Each token once, and then refuses it so.
    Once((u32, &'static str)),
}

/// What becomes of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It gets nothing, and goes on.
    Waits,
    /// All comes.
    Comes,
    /// It ends, with this variant of `CloseReason`.
    Ends(&'static str),
}

struct Case {
    name: String,
    password: Answer,
    admits: Admits,
    /// What reads end with while the peer is alone: a variant of `CallError`, or nothing if they go well.
    read: Option<&'static str>,
    watch: Then,
    /// Whether what the peer says is final, so that no other member is asked.
    is_final: bool,
    bounds: Bounds,
}

impl Case {
    /// One that gives no token of use.
    fn new(name: &str, password: Answer) -> Self {
        Self {
            name: format!("tokens: {name}"),
            password,
            admits: Admits::None(INVALID),
            read: Some("Timeout"),
            watch: Then::Waits,
            is_final: false,
            // Four reads, which go on for their 10 s each, and the watch.
            bounds: Bounds {
                attempts: 160,
                calls: 160,
                lines: 90,
                debug_lines: 500,
                polls: 4_000,
                ..Bounds::USUAL
            },
        }
    }

    fn admits(mut self, admits: Admits) -> Self {
        self.admits = admits;
        self
    }

    fn reads(mut self, read: impl Into<Option<&'static str>>) -> Self {
        self.read = read.into();
        self
    }

    fn watch(mut self, watch: Then) -> Self {
        self.watch = watch;
        self
    }

    /// What the peer says is final: reads end so, and the watch.
    fn last_word(mut self, read: &'static str, watch: &'static str) -> Self {
        (self.read, self.watch, self.is_final) = (Some(read), Then::Ends(watch), true);
        self
    }

    /// The client takes each token for a good one, until it is refused.
    fn refused(self) -> Self {
        self.last_word("Refused", "TokenRefused")
    }

    /// The peer holds large tokens.
    fn large(mut self) -> Self {
        self.bounds.bytes = 32 << 20;
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
        let (etcd, password, admits) = (world.etcd().clone(), self.password.clone(), self.admits);
        member(etcd, password, admits)
    }

    /// The model has no users: a lawful member is scripted too.
    fn lawful(&self, world: &World) -> Script {
        answered(world.etcd().clone(), checked)
    }

    fn build(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.user("ann", "secret")
    }

    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError> {
        let began = world.now();
        let mut watch = client.watch(request())?;
        for read in 1..=READS {
            self.read_key(&client, self.read).await?;
            world.sleep((began + MINUTE / READS * read).saturating_sub(world.now())).await;
        }
        let ended = self.take(&mut watch, self.watch).await?;
        peer.give_way();
        // The password was refused a moment ago, or the connection is ending.
        world.sleep(Duration::from_secs(2)).await;
        self.read_key(&client, None).await?;
        if !ended {
            self.take(&mut watch, if self.watch == Then::Comes { Then::Waits } else { Then::Comes }).await?;
        }
        Ok(())
    }

    async fn beside(&self, _world: &World, client: Client) -> Result<(), BoxError> {
        let mut watch = client.watch(request())?;
        self.read_key(&client, self.read.filter(|_| self.is_final)).await?;
        let then = if self.is_final { self.watch } else { Then::Comes };
        self.take(&mut watch, then).await.map(|_| ())
    }
}

impl Case {
    /// Reads the key: that has to end so.
    async fn read_key(&self, client: &Client, end: Option<&'static str>) -> Result<(), BoxError> {
        let read = client.get("k").await;
        let is_right = match (&read, end) {
            (Ok(read), None) => read.first().is_some_and(|kv| kv.value[..] == [CHANGES]),
            (Err(error), Some(variant)) => format!("{error:?}").starts_with(variant),
            _ => false,
        };
        if is_right { Ok(()) } else { Err(format!("a read came to {read:?}, and not {end:?}").into()) }
    }

    /// Takes what has come to the watch, or comes soon; whether it has ended. That has to be so.
    async fn take(&self, watch: &mut Watch, then: Then) -> Result<bool, BoxError> {
        let mut received = 0;
        let ended = loop {
            match tokio::time::timeout(MINUTE / 2, watch.try_next()).await {
                Ok(Ok(Some(response))) => received += response.len(),
                Ok(Ok(None)) => break Some("without a reason".into()),
                Ok(Err(error)) => break Some(format!("{:?}", error.reason())),
                Err(_) => break None,
            }
            if received >= usize::from(CHANGES) {
                break None;
            }
        };
        let is_right = match (then, &ended) {
            (Then::Waits, None) => received == 0,
            (Then::Comes, None) => received == usize::from(CHANGES),
            (Then::Ends(reason), Some(ended)) => ended.starts_with(reason),
            _ => false,
        };
        let end = ended.is_some();
        if is_right {
            Ok(end)
        } else {
            Err(format!("the watch: {received} events, {ended:?}, and not {then:?}").into())
        }
    }
}

fn request() -> WatchRequest {
    WatchRequest::new(KeyRange::prefix("k")).start_revision(1)
}

/// The tokens that calls came with.
type Used = Arc<Mutex<Vec<Option<String>>>>;

/// A member that answers the password so, and lets in whom `admits` says.
fn member(etcd: Etcd, password: Answer, admits: Admits) -> Script {
    answered((etcd, password, admits, Arc::default()), answer)
}

async fn answer(
    mut call: Call,
    (etcd, password, admits, used): (Etcd, Answer, Admits, Used),
) -> io::Result<()> {
    if call.method == "Authenticate" {
        return authenticate(call, password).await;
    }
    let refusal = match admits {
        Admits::All => None,
        Admits::None(refusal) => Some(refusal),
        Admits::Once(refusal) => {
            let mut used = used.lock().expect("nobody panics");
            let is_used = used.contains(&call.token);
            used.push(call.token.clone());
            is_used.then_some(refusal)
        }
    };
    match refusal {
        Some((code, text)) => call.end(code, text).await,
        None => lawful::answer(call, &etcd).await,
    }
}

async fn authenticate(mut call: Call, password: Answer) -> io::Result<()> {
    let token = |token| AuthenticateResponse { header: Some(header(REVISION)), token };
    match password {
        Answer::Numbered(text) => {
            let number = crate::grpc::calls();
            call.answer(&token(format!("{text}{number}"))).await
        }
        Answer::Token(text) => call.answer(&token(text)).await,
        Answer::Bytes(bytes) => {
            call.send(bytes).await?;
            call.end(0, "").await
        }
        Answer::Status(code, text) => call.end(code, text).await,
        Answer::Reset => Ok(()),
        Answer::Never => call.stay().await,
    }
}

/// A member that has one token and takes no other.
async fn checked(mut call: Call, etcd: Etcd) -> io::Result<()> {
    let good = "the-lawful-one";
    if call.method == "Authenticate" {
        let token = AuthenticateResponse { header: Some(header(REVISION)), token: good.into() };
        return call.answer(&token).await;
    }
    if call.token.as_deref() == Some(good) {
        return lawful::answer(call, &etcd).await;
    }
    let (code, text) = INVALID;
    call.end(code, text).await
}

/// Passwords for which there is no token.
fn passwords() -> Vec<Case> {
    let token = |text: &str| Answer::Token(text.to_owned());
    let bytes = |bytes: &[u8]| Answer::Bytes(framed(0, bytes));
    vec![
        Case::new("a password that is never checked", Answer::Never),
        Case::new("an empty token", token("")),
        Case::new("a token of two lines", token("a\r\nb: c")),
        Case::new("a token of spaces", token("   ")).refused(),
        Case::new("a token that isn't ASCII", token("t\u{f6}ken")),
        Case::new("a token with a NUL", token("a\0b")),
        Case::new("a token of 100 KiB", token(&"t".repeat(100 << 10))).refused().large(),
        Case::new("a token of 100 KiB, which is taken", token(&"t".repeat(100 << 10)))
            .admits(Admits::All)
            .reads(None)
            .watch(Then::Comes)
            .large(),
        Case::new("a token of 2 MiB", token(&"t".repeat(2 << 20))).large(),
        Case::new("a token that isn't UTF-8", bytes(&[0x12, 2, 0xc3, 0x28])),
        Case::new("garbage for a token", bytes(&[0xff; 100])),
        Case::new("no message for a token", Answer::Bytes(Bytes::new())),
        Case::new("4 GiB for a token", Answer::Bytes(headed(0, u32::MAX, &[0; 100]))),
        Case::new("a reset for a token", Answer::Reset),
        Case::new("no token now", Answer::Status(14, "not now")),
        Case::new("no service for tokens", Answer::Status(12, "unknown service etcdserverpb.Auth"))
            .last_word("Refused", "Unsupported"),
        Case::new("a user who may not have one", Answer::Status(7, "etcdserver: permission denied"))
            .last_word("Refused", "PermissionDenied"),
        Case::new(
            "a wrong password",
            Answer::Status(3, "etcdserver: authentication failed, invalid user ID or password"),
        )
        .last_word("AuthenticationFailed", "AuthenticationFailed"),
        Case::new(
            "no users, and all are refused",
            Answer::Status(9, "etcdserver: authentication is not enabled"),
        )
        .refused(),
        Case::new("no users", Answer::Status(9, "etcdserver: authentication is not enabled"))
            .admits(Admits::All)
            .reads(None)
            .watch(Then::Comes),
    ]
}

/// Tokens that are not taken. A stream takes two of those that are good once: the member is asked for its version first.
fn tokens() -> Vec<Case> {
    let once = |name, refusal| {
        Case::new(name, Answer::Numbered("t")).refused().admits(Admits::Once(refusal)).reads(None)
    };
    vec![
        Case::new("a new one, always refused", Answer::Numbered("t")).refused(),
        Case::new("the same one, always refused", Answer::Token("t".into())).refused(),
        Case::new("refused as of no user", Answer::Numbered("t")).refused().admits(Admits::None(NO_USER)),
        Case::new("refused as old", Answer::Numbered("t")).refused().admits(Admits::None(OLD)),
        once("good once", INVALID),
        once("good once, then old", OLD),
    ]
}

#[test]
fn passwords_that_bring_no_token() {
    run_all(passwords);
}

#[test]
fn tokens_that_are_refused() {
    run_all(tokens);
}
