//! A configuration is the last good one there was, whole.

use etcd_watch_client::config::Config;
use etcd_watch_client::{BoxError, Client};
use etcd_watch_proto::etcdserverpb::{PutRequest, request_op::Request};
use etcd_watch_testkit::checks::StateAt;
use etcd_watch_testkit::sim::{Etcd, World};

use super::stage::{Site, Stage, soon};
use super::truth;

/// How a service reads its configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reader {
    Sound,
    /// Follows each of two keys that belong together by itself.
    TwoValues,
    /// Takes nought for what doesn't decode.
    Defaults,
}

/// Two numbers that are always written together.
type Pair = (u64, u64);

fn number(bytes: Option<&[u8]>) -> Result<u64, BoxError> {
    Ok(std::str::from_utf8(bytes.ok_or("a key is missing")?)?.parse()?)
}

fn number_or_nought(bytes: Option<&[u8]>) -> u64 {
    number(bytes).unwrap_or(0)
}

/// What a reader sees at one moment.
#[derive(Debug)]
struct Seen {
    revision: i64,
    value: Option<Pair>,
    has_error: bool,
}

/// What has been read must be in the store at its revision, or the last good one before.
struct Truth {
    etcd: Etcd,
    state: StateAt,
    last: Option<Pair>,
}

impl Truth {
    fn check(&mut self, seen: &Seen) -> Result<(), BoxError> {
        let Self { etcd, state, last } = self;
        let contains = |key: &[u8]| key.starts_with(b"conf/");
        etcd.look(|model| state.advance(model.history(), seen.revision, contains));
        let key = |name: &[u8]| number(state.keys().get(name).map(|put| &put.value[..]));
        let there = match (key(b"conf/a"), key(b"conf/b")) {
            _ if state.keys().is_empty() => Ok(None),
            (Ok(a), Ok(b)) => Ok(Some((a, b))),
            _ => Err(()),
        };
        let is_true = match there {
            Ok(value) => value == seen.value && !seen.has_error,
            // A good one may have come and gone between two looks.
            Err(()) => {
                seen.has_error && seen.value.is_none_or(|(a, b)| a == b && last.is_none_or(|(l, _)| a >= l))
            }
        };
        if !is_true {
            return Err(format!("not the last good value: {seen:?}, and the store had {there:?}").into());
        }
        *last = seen.value.or(*last);
        Ok(())
    }
}

fn write(etcd: &Etcd, a: &str, b: &str) {
    let put = |key: &'static str, value: &str| {
        let (key, value) = (key.into(), value.to_owned().into());
        Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })
    };
    truth::write(etcd, [put("conf/a", a), put("conf/b", b)]);
}

/// A configuration is read whenever it changes, while it is written, spoilt and deleted, up to `pause` milliseconds after
/// each other. It has to be read `least` times.
pub(super) async fn are_the_last_good_value(
    stage: Stage,
    site: Site,
    pause: u64,
    least: u64,
    how: Reader,
) -> Result<(), BoxError> {
    let world = stage.world();
    let reading = site.host.spawn(read(world.clone(), site.client, how));
    let (mut rng, mut count) = (world.rng(), 0_u64);
    while !stage.is_calm() {
        count += 1;
        let number = count.to_string();
        match rng.u8(..8) {
            0 => write(world.etcd(), &number, "spoilt"),
            1 => {
                world.etcd().delete("conf/a");
                world.etcd().delete("conf/b");
            }
            2 => drop(world.etcd().put("elsewhere", number)),
            _ => write(world.etcd(), &number, &number),
        }
        stage.pause(&mut rng, pause).await;
    }
    let last = u64::MAX.to_string();
    write(world.etcd(), &last, &last);
    let reads = soon("the last value", reading).await?.ok_or("the reader has died")??;
    if reads < least { Err("hardly anything was read".into()) } else { Ok(()) }
}

/// Until the last value has come; how many there were.
async fn read(world: World, client: Client, how: Reader) -> Result<u64, BoxError> {
    let mut truth = Truth { etcd: world.etcd().clone(), state: StateAt::new(), last: None };
    let mut reads = 0;
    if how == Reader::TwoValues {
        let one = |key| Config::value(&client, key, |bytes| number(Some(bytes)));
        let (mut a, b) = (one("conf/a")?, one("conf/b")?);
        loop {
            a.changed().await?;
            reads += 1;
            let value = a.current().zip(b.current()).map(|(a, b)| (*a, *b));
            if value.is_some_and(|(a, _)| a == u64::MAX) {
                return Ok(reads);
            }
            let revision = a.revision().max(b.revision()).unwrap_or(0);
            let has_error = a.error().is_some() || b.error().is_some();
            truth.check(&Seen { revision, value, has_error })?;
        }
    }
    let mut config = Config::tree(&client, "conf/", move |tree| {
        let key = |name| tree.get(name).map(|value| &value[..]);
        if how == Reader::Defaults {
            return Ok((number_or_nought(key("a")), number_or_nought(key("b"))));
        }
        Ok::<Pair, BoxError>((number(key("a"))?, number(key("b"))?))
    })?;
    loop {
        config.changed().await?;
        reads += 1;
        let value = config.current().map(|pair| *pair);
        let (revision, has_error) = (config.revision().ok_or("no revision")?, config.error().is_some());
        truth.check(&Seen { revision, value, has_error })?;
        if value == Some((u64::MAX, u64::MAX)) {
            return Ok(reads);
        }
    }
}
