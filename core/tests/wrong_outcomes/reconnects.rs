//! Streams and watches that fail again and again: nothing new came, so nothing was proved.

use etcd_watch_core::{CloseReason, Failure, WatchConfig};
use etcd_watch_proto::etcdserverpb::WatchResponse as Frame;

use crate::{
    support::*,
    world::{Asked, World},
};

/// A frame for the watch with this id.
type FrameFor = fn(i64) -> Frame;

/// What the default backoff allows in a minute: seven delays come to about 3 s, the others are 2.5 s on average.
const RECONNECTS_A_MINUTE: usize = 40;

#[test]
fn a_stream_that_answers_one_create_and_ends_is_opened_no_oftener_than_the_backoff_allows() {
    for seed in 1..=3 {
        let mut world = World::with_seed(WatchConfig::default(), seed);
        let watches = world.driver.watch_together((0..100).map(|_| all_from(1)));
        let mut answered = None;
        let mut server = |world: &mut World, asked: Asked| match asked {
            Asked::Create { stream, .. } if answered == Some(stream) => {}
            Asked::Create { stream, .. } => {
                answered = Some(stream);
                world.answer(asked);
                world.fail_in(ms(2), stream, Failure::EndOfStream);
            }
            other => world.answer(other),
        };
        world.run(ms(60_000), &mut server);
        let (reconnects, creates) = (world.reconnects(), world.creates);
        assert!(reconnects <= 60, "{reconnects} reconnects, {creates} creates");
        assert!(creates <= 100 * 60, "{creates} creates");
        assert!(reconnects >= 5 && world.ended.is_empty(), "and it goes on");
        assert_eq!(watches.len(), world.driver.stats().watches);
    }
}

#[test]
fn a_stream_that_is_cut_behind_created_is_opened_no_oftener_than_the_backoff_allows() {
    for seed in 1..=3 {
        let mut world = World::with_seed(WatchConfig::default(), seed);
        let watch = world.driver.watch(all_from(1));
        let mut server = |world: &mut World, asked: Asked| {
            world.answer(asked.clone());
            if let Asked::Create { stream, .. } = asked {
                world.fail_in(ms(2), stream, Failure::connection("reset by peer"));
            }
        };
        world.run(ms(60_000), &mut server);
        let reconnects = world.reconnects();
        assert!(reconnects <= RECONNECTS_A_MINUTE, "{reconnects} reconnects");
        assert!(reconnects >= 5 && !world.ended.contains_key(&watch), "and it goes on");
    }
}

#[test]
fn a_watch_that_is_cancelled_behind_old_news_is_not_created_again_without_a_pause() {
    let news: [(&str, FrameFor); 2] =
        [("progress", |id| progress(id, 100)), ("a stale event", |id| events(id, &[40]))];
    let reasons =
        ["", "etcdserver: duplicate watch ID", "mvcc: duplicate watch ID provided on the WatchStream"];
    for (name, frame) in news {
        for reason in reasons {
            let mut world = World::new(WatchConfig::default());
            let neighbour = world.driver.watch(from_now("quiet").start_revision(1));
            let watch = world.driver.watch(from_now("k").start_revision(50));
            let mut server = |world: &mut World, asked: Asked| {
                world.answer(asked.clone());
                if let Asked::Create { stream, create, watch: Some(created) } = asked
                    && created == watch
                {
                    let id = create.watch_id;
                    world.say(stream, frame(id));
                    world.end_on_server(stream, id, canceled(id, reason));
                }
            };
            world.run(ms(5_000), &mut server);
            let creates = world.creates;
            assert!(creates <= 100, "{creates} creates in 5 s after {name} and {reason:?}");
            let end = world.ended.get(&watch);
            assert!(
                matches!(
                    end,
                    None | Some(CloseReason::CancelledByServer { .. } | CloseReason::Refused { .. })
                ),
                "{end:?}"
            );
            world.run(ms(60_000), &mut server);
            assert!(!world.ended.contains_key(&neighbour));
        }
    }
}
