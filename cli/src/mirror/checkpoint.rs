//! How far a mirror has come.

use anyhow::{Context, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use etcd_watch_tokio::KeyRange;
use serde_json::{Value, json};

use super::mapping::{Mapping, describe};

/// What the names of checkpoints begin with; the second is for mirrors whose keys are where the first is.
pub(super) const NAMES: [&str; 2] = ["etcd-watch/mirror/", "_etcd-watch/mirror/"];

/// Which keys of which cluster, and up to where, are at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) cluster_id: u64,
    pub(super) range: KeyRange,
    /// Which keys of the destination they become. Checkpoints of earlier versions don't say it.
    pub(super) destination: Option<KeyRange>,
    /// With `is_exact`, the destination has the state of this revision; where the next one takes several
    /// transactions, some of that, too. Otherwise a list of this revision, 0 if it is not known yet, is being
    /// copied.
    pub(super) revision: i64,
    pub(super) is_exact: bool,
    /// Who wrote it, and the how manieth of its transactions it was: so a writer knows its own.
    pub(super) writer: String,
    pub(super) sequence: u64,
}

impl Checkpoint {
    /// That of a mirror that has copied nothing.
    pub(super) fn first(cluster_id: u64, mapping: &Mapping) -> Self {
        Self {
            cluster_id,
            range: mapping.source().clone(),
            destination: Some(mapping.destination().clone()),
            revision: 0,
            is_exact: false,
            writer: String::new(),
            sequence: 0,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut value = json!({
            "format": 1,
            "source_cluster_id": format!("{:x}", self.cluster_id),
            "source_key": STANDARD.encode(self.range.start()),
            "source_range_end": STANDARD.encode(self.range.end()),
            "revision": self.revision,
            "exact": self.is_exact,
            "writer": self.writer,
            "sequence": self.sequence,
        });
        if let Some(destination) = &self.destination {
            value["destination_key"] = STANDARD.encode(destination.start()).into();
            value["destination_range_end"] = STANDARD.encode(destination.end()).into();
        }
        value.to_string().into()
    }

    /// # Errors
    /// A value that is not a checkpoint of a format known here.
    pub(super) fn decode(value: &[u8]) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_slice(value).context("it is not JSON")?;
        if value["format"] != 1 {
            bail!("its format is {}, and only 1 is known here", value["format"]);
        }
        let missing = |name: &str| anyhow!("it has no proper {name}");
        let text = |name: &str| value[name].as_str().ok_or_else(|| missing(name));
        let bytes = |name: &str| STANDARD.decode(text(name)?).map_err(|_| missing(name));
        let range = |start, end| {
            let (start, end) = (bytes(start)?, bytes(end)?);
            anyhow::Ok(if end.is_empty() { KeyRange::key(start) } else { KeyRange::range(start, end)? })
        };
        let destination = value.get("destination_key");
        Ok(Self {
            cluster_id: u64::from_str_radix(text("source_cluster_id")?, 16)
                .map_err(|_| missing("source_cluster_id"))?,
            range: range("source_key", "source_range_end")?,
            destination: destination
                .map(|_| range("destination_key", "destination_range_end"))
                .transpose()?,
            revision: value["revision"].as_i64().ok_or_else(|| missing("revision"))?,
            is_exact: value["exact"].as_bool().ok_or_else(|| missing("exact"))?,
            writer: text("writer")?.to_owned(),
            sequence: value["sequence"].as_u64().ok_or_else(|| missing("sequence"))?,
        })
    }

    pub(super) fn is_of(&self, writer: &str, sequence: u64) -> bool {
        self.writer == writer && self.sequence == sequence
    }
}

/// The checkpoint's key: the one asked for, or one named after the destination's keys.
///
/// # Errors
/// A key that would be mirrored itself.
pub(super) fn key(mapping: &Mapping, asked_for: Option<Bytes>) -> anyhow::Result<Bytes> {
    let range = mapping.destination();
    let named = |name: &str| Bytes::from([name.as_bytes(), &describe(range)].concat());
    let [first, second] = NAMES.map(named);
    let key = match asked_for {
        Some(key) if key.is_empty() => bail!("--checkpoint is empty: give a key"),
        Some(key) => key,
        None if range.contains(&first) && !range.contains(&second) => second,
        None => first,
    };
    // Of every key there is, the checkpoint is one: then it is passed over.
    if range.contains(&key) && *range != KeyRange::all() {
        bail!(
            "the checkpoint's key {} is among the keys mirrored: give another with --checkpoint",
            key.escape_ascii()
        );
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let checkpoint = Checkpoint {
            cluster_id: u64::MAX,
            range: KeyRange::prefix("a\u{ff}"),
            destination: Some(KeyRange::all()),
            revision: 7,
            is_exact: true,
            writer: "w".to_owned(),
            sequence: 3,
        };
        assert_eq!(Checkpoint::decode(&checkpoint.encode()).expect("it is one"), checkpoint);
        let one = Checkpoint { range: KeyRange::key("a"), destination: None, is_exact: false, ..checkpoint };
        assert_eq!(Checkpoint::decode(&one.encode()).expect("it is one"), one);
        assert!(Checkpoint::decode(b"x").is_err());
        assert!(Checkpoint::decode(br#"{"format":2}"#).is_err());
        assert!(Checkpoint::decode(br#"{"format":1}"#).is_err());
    }

    #[test]
    fn the_checkpoint_is_not_mirrored() {
        let name = |range: KeyRange, asked_for: Option<&'static str>| {
            key(&Mapping::same(range), asked_for.map(Bytes::from)).map_err(|error| error.to_string())
        };
        assert_eq!(name(KeyRange::prefix("a/"), None), Ok("etcd-watch/mirror/prefix/a/".into()));
        assert_eq!(name(KeyRange::prefix("etcd"), None), Ok("_etcd-watch/mirror/prefix/etcd".into()));
        assert_eq!(name(KeyRange::key("k"), None), Ok("etcd-watch/mirror/key/k".into()));
        assert_eq!(name(KeyRange::from_key("b"), None), Ok("_etcd-watch/mirror/from/b".into()));
        assert!(name(KeyRange::prefix("a/"), Some("a/b")).is_err_and(|e| e.contains("--checkpoint")));
        assert!(name(KeyRange::prefix("a/"), Some("")).is_err());
        assert!(name(KeyRange::all(), None).is_ok());
    }
}
