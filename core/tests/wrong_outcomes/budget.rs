//! The budget that all consumers share.

use etcd_watch_core::{CloseReason, Overflow, WatchConfig};

use crate::{
    support::*,
    world::{World, healthy},
};

const TOTAL: usize = 3 << 20;

/// More than the largest response of these tests takes.
const ONE_RESPONSE: usize = 8 << 10;

/// 300 consumers that never take have received more than the budget; then a watch whose consumer takes after
/// each frame receives 1,000 events, and now and then the others receive one more.
fn healthy_beside_stalled(policy: Overflow) {
    let config = WatchConfig::default().overflow(policy).buffer_bytes(64 << 10).total_buffer_bytes(TOTAL);
    let mut world = World::new(config);
    let taking = world.driver.watch(from_now("taken").start_revision(1));
    let stalled = world.driver.watch_together((0..300).map(|_| from_now("unread").start_revision(1)));
    world.stalled.extend(&stalled);
    world.run(ms(1_000), &mut healthy);
    for _ in 0..4 {
        world.put("unread", &[b'x'; 5000]);
        world.run(ms(100), &mut healthy);
    }
    world.run(ms(2_000), &mut healthy);
    for event in 0..1000 {
        if event % 100 == 0 {
            world.put("unread", &[b'x'; 5000]);
        }
        world.put("taken", &[b'x'; 100]);
        world.run(ms(2), &mut healthy);
    }
    world.run(ms(1_000), &mut healthy);
    assert_eq!(world.ended.get(&taking), None);
    let stats = world.driver.watcher.watch_stats(taking).expect("it is open");
    assert_eq!((stats.overflows, stats.recreates), (0, 0), "its own buffer is never full");
    assert_eq!(world.seen_by(taking), world.puts_of("taken"));
    assert_eq!(world.seen_by(taking).len(), 1000);
    assert!(world.most_queued <= TOTAL + ONE_RESPONSE, "{} bytes waited", world.most_queued);
    assert_eq!(world.opens, 1);

    // The others go on where they were, or say where that is.
    world.stalled.clear();
    stalled.iter().for_each(|&watch| world.take(watch));
    world.run(ms(10_000), &mut healthy);
    for watch in stalled {
        let goes_on_at = match world.ended.get(&watch) {
            None => i64::MAX,
            Some(CloseReason::Lagged { next_revision, .. }) if policy == Overflow::Fail => *next_revision,
            Some(reason) => panic!("{watch:?}: {reason}"),
        };
        let mut puts = world.puts_of("unread");
        puts.retain(|&revision| revision < goes_on_at);
        assert_eq!(world.seen_by(watch), puts, "{watch:?}");
    }
}

#[test]
fn consumers_that_never_take_do_not_cost_a_healthy_watch_its_place_on_the_server() {
    healthy_beside_stalled(Overflow::Replay);
}

#[test]
fn consumers_that_never_take_do_not_end_a_healthy_watch_that_fails_on_overflow() {
    healthy_beside_stalled(Overflow::Fail);
}

#[test]
fn the_total_budget_is_passed_by_no_more_than_one_response() {
    for policy in [Overflow::Replay, Overflow::Fail] {
        let config = WatchConfig::default().overflow(policy).buffer_bytes(64 << 10).total_buffer_bytes(TOTAL);
        let mut world = World::new(config);
        let stalled = world.driver.watch_together((0..1000).map(|_| from_now("unread").start_revision(1)));
        world.stalled.extend(stalled);
        world.run(ms(1_000), &mut healthy);
        for _ in 0..4 {
            world.put("unread", &[b'x'; 5000]);
            world.run(ms(1_000), &mut healthy);
        }
        assert!(world.most_queued <= TOTAL + ONE_RESPONSE, "{policy:?}: {} bytes waited", world.most_queued);
        assert!(world.most_queued >= TOTAL / 2, "{policy:?}: the budget is there to be used");
    }
}
