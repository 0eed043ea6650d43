//! The machine alone, with a server that answers creates.

use etcd_watch_core::{
    Action, Frame, Instant, KeyRange, Opened, Request, ServerVersion, WatchConfig, WatchRequest, Watcher,
};
use etcd_watch_proto::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    prost::Message,
};

use crate::{ALLOCATOR, key};

const NOW: Instant = Instant::ZERO;

/// Says what a watch costs a machine with so many.
pub(crate) fn measure(count: usize) {
    let config = WatchConfig::default().max_watches_per_stream(count + 1);
    let mut watcher = Watcher::new(config, 1).expect("a valid configuration");
    open(&mut watcher, count);
    answer_all(&mut watcher);
    let before = ALLOCATOR.current_usage();
    // All together, so that what a storm of creates takes is measured if it is kept.
    (0..count).for_each(|index| open(&mut watcher, index));
    answer_all(&mut watcher);
    assert_eq!(watcher.stats().creates, count as u64 + 1, "every watch is created");
    let bytes = (ALLOCATOR.current_usage() - before) / count;
    println!("a machine with {count} watches: {bytes} bytes for each");
}

fn open(watcher: &mut Watcher, index: usize) {
    let request = WatchRequest::new(KeyRange::key(key(index))).start_revision(2);
    watcher.watch(NOW, request).expect("a valid request");
}

/// Does all that the machine asks for.
fn answer_all(watcher: &mut Watcher) {
    while let Some(action) = watcher.poll_action() {
        match action {
            Action::Open { stream, .. } => {
                let version = Some(ServerVersion::new(3, 5, 30));
                watcher.handle_opened(NOW, stream, Opened { version, authenticated: false });
            }
            Action::Send { stream, request: Request::Create(create), .. } => {
                let header = Some(ResponseHeader { cluster_id: 7, member_id: 7, revision: 1, raft_term: 2 });
                let created =
                    WatchResponse { header, watch_id: create.watch_id, created: true, ..Default::default() };
                watcher.handle_frame(NOW, stream, Frame::decode(created.encode_to_vec().into()));
            }
            _ => {}
        }
    }
}
