//! What a mirror hands out: pages of a list, then changes of one key each.

use anyhow::{Context, Result};
use etcd_watch_client::fuzzing;
use etcd_watch_core::{
    Action, Frame, Instant, KeyRange, ListKey, Mirror, MirrorAction, MirrorEvent, MirrorRequest, Opened,
    Request, StreamKey, WatchConfig, WatchKey, Watcher,
};
use etcd_watch_proto::{
    etcdserverpb::{RangeResponse, ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
};
use prost::Message;

pub(crate) const PREFIX: &str = "registry/pods/";

const CLUSTER: u64 = 7;

/// The machines of a mirror and of its watch, and the server that they speak to.
pub(crate) struct Feed {
    mirror: Mirror,
    watcher: Watcher,
    listing: Option<ListKey>,
    watch: Option<Running>,
    keys: usize,
    listed: usize,
    value: Vec<u8>,
    revision: i64,
    /// Chooses keys.
    random: u64,
}

struct Running {
    watch: WatchKey,
    stream: StreamKey,
    id: i64,
}

pub(crate) fn key(number: usize) -> Vec<u8> {
    format!("{PREFIX}{number:010}").into_bytes()
}

impl Feed {
    pub(crate) fn new(keys: usize, value: usize) -> Result<Self> {
        let config = WatchConfig::default();
        let request = MirrorRequest::new(KeyRange::prefix(PREFIX)).keep_index(false);
        Ok(Self {
            mirror: Mirror::new(&config, request, 1)?,
            watcher: Watcher::new(config, 1)?,
            listing: None,
            watch: None,
            keys,
            listed: 0,
            value: vec![b'v'; value],
            revision: i64::try_from(keys)? + 1,
            random: 1,
        })
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: CLUSTER, revision: self.revision, ..ResponseHeader::default() })
    }

    fn kv(&self, number: usize, revision: i64) -> KeyValue {
        KeyValue {
            key: key(number).into(),
            value: self.value.clone().into(),
            create_revision: 1,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }
    }

    /// What comes of the next page; `None` after the last.
    pub(crate) fn page(&mut self, size: usize) -> Result<Option<Vec<MirrorEvent>>> {
        let now = Instant::ZERO;
        self.perform()?;
        let Some(list) = self.listing.take() else { return Ok(None) };
        let numbers = self.listed..self.keys.min(self.listed + size);
        self.listed = numbers.end;
        let response = RangeResponse {
            header: self.header(),
            kvs: numbers.map(|number| self.kv(number, 1)).collect(),
            more: self.listed < self.keys,
            count: i64::try_from(self.keys)?,
        };
        self.mirror.handle_page(now, list, Ok(fuzzing::page(&response)));
        drop(response);
        Ok(Some(std::iter::from_fn(|| self.mirror.next(now)).collect()))
    }

    /// What comes of an update of some key.
    pub(crate) fn update(&mut self) -> Result<MirrorEvent> {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(self.random >> 33)? % self.keys;
        self.revision += 1;
        let event = Event { kv: Some(self.kv(number, self.revision)), ..Event::default() };
        let watch = self.watch.as_ref().context("the keys have been listed")?;
        let response = WatchResponse {
            header: self.header(),
            watch_id: watch.id,
            events: vec![event],
            ..WatchResponse::default()
        };
        self.hand_in(&response)?;
        self.watcher.poll_action();
        let now = Instant::ZERO;
        let watch = self.watch.as_ref().context("it runs")?.watch;
        let delivery = self.watcher.next(now, watch).context("an event")?;
        self.watcher.next(now, watch);
        self.mirror.handle_delivery(now, delivery);
        self.mirror.next(now).context("a change")
    }

    fn hand_in(&mut self, response: &WatchResponse) -> Result<()> {
        let stream = self.watch.as_ref().context("it is opened")?.stream;
        let frame = Frame::decode(response.encode_to_vec().into());
        self.watcher.handle_frame(Instant::ZERO, stream, frame);
        Ok(())
    }

    /// Does what the machines ask for.
    fn perform(&mut self) -> Result<()> {
        let now = Instant::ZERO;
        while let Some(action) = self.mirror.poll_action() {
            match action {
                MirrorAction::List { list, .. } => self.listing = Some(list),
                MirrorAction::Watch(request) => {
                    let watch = self.watcher.watch(now, request)?;
                    let Some(Action::Open { stream, .. }) = self.watcher.poll_action() else { continue };
                    self.watcher.handle_opened(now, stream, Opened::default());
                    let Some(Action::Send { request: Request::Create(create), .. }) =
                        self.watcher.poll_action()
                    else {
                        continue;
                    };
                    self.watch = Some(Running { watch, stream, id: create.watch_id });
                    let created = WatchResponse {
                        header: self.header(),
                        watch_id: create.watch_id,
                        created: true,
                        ..WatchResponse::default()
                    };
                    self.hand_in(&created)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
