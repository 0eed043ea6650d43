//! Mirrors whose values are decoded.

use std::{collections::BTreeMap, num::ParseIntError, string::FromUtf8Error};

use etcd_watch_client::{BoxError, Delete, KeyRange, MirrorEvent, MirrorRequest, Put, Txn, TypedUpdate};

use crate::world::{DEADLINE, World};

/// What a consumer keeps: a number, or what would not decode.
type Ports = BTreeMap<String, Result<u16, String>>;

pub(crate) async fn a_typed_mirror_hands_out_each_change_decoded_or_not(world: World) {
    let last = ["a=1", "b=none", "c=3"].map(|pair| pair.split_once('=').expect("a pair"));
    for (key, value) in last {
        world.put(&format!("ports/{key}"), value).await;
    }
    let decode = |_: &[u8], value: &[u8]| {
        let text = String::from_utf8(value.to_vec())?;
        text.parse::<u16>().map_err(BoxError::from)
    };
    let request = MirrorRequest::new(KeyRange::prefix("ports/"));
    let mut mirror = world.client.mirror(request).expect("a lawful request").typed(decode);
    let mut ports = Ports::new();
    let mut through = async |ports: &mut Ports, revision: i64| {
        while mirror.synced_revision().is_none_or(|at| at < revision) {
            let event = tokio::time::timeout(DEADLINE, mirror.try_next()).await.expect("in time");
            let event = event.expect("it goes on").expect("it has not ended");
            let raw: Vec<_> = event.event().updates().map(|(key, _)| key.to_vec()).collect();
            let mut typed = Vec::new();
            for update in event.updates() {
                typed.push(update.key().to_vec());
                let key = String::from_utf8(update.key()[6..].to_vec()).expect("text");
                match update {
                    TypedUpdate::Put { kv, value } => {
                        assert_eq!(kv.value_str(), Ok(&*value.to_string()));
                        ports.insert(key, Ok(value));
                    }
                    TypedUpdate::Undecodable { kv, error } => {
                        assert!(error.is::<ParseIntError>() || error.is::<FromUtf8Error>(), "{error}");
                        ports.insert(key, Err(String::from_utf8_lossy(kv.value()).into_owned()));
                    }
                    TypedUpdate::Delete { .. } => drop(ports.remove(&key)),
                }
            }
            assert_eq!(typed, raw, "nothing is left out, and nothing added");
            assert_eq!(event.synced_revision(), mirror.synced_revision());
            assert!(!matches!(event.into_event(), MirrorEvent::Closed(_)));
        }
    };
    let bad = |text: &str| Err(text.to_owned());
    let ports_of = |pairs: &[(&str, Result<u16, String>)]| -> Ports {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let marked = world.put("other", "").await;
    through(&mut ports, marked - 1).await;
    assert_eq!(ports, ports_of(&[("a", Ok(1)), ("b", bad("none")), ("c", Ok(3))]));

    let txn = Txn::new()
        .and_then(Put::new("ports/a", "70000"))
        .and_then(Put::new("ports/b", "2"))
        .and_then(Delete::key("ports/c"))
        .and_then(Put::new("ports/d", vec![0xff]));
    let revision = world.client.txn(txn).await.expect("it is made").revision();
    through(&mut ports, revision).await;
    assert_eq!(ports, ports_of(&[("a", bad("70000")), ("b", Ok(2)), ("d", bad("\u{fffd}"))]));
}
