//! Watches that a proxy has lost: they are created, and hear nothing any more.

use etcd_watch_core::{
    EndpointHint, Failure, Filters, KeyRange, Overflow, StreamEnd, StreamKey, TimeoutReason, WatchConfig,
    WatchKey, WatchRequest, wire::RevisionRequest,
};

use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};

use crate::support::*;

const IDLE: u64 = 5_000;
const PATIENCE: u64 = 1_000;

fn config() -> WatchConfig {
    // Answers to probes are waited for much longer than anything else here.
    let config = WatchConfig::default().answer_timeout(ms(1_000_000));
    config.probe(Some(ms(IDLE))).probe_timeout(ms(PATIENCE)).progress_interval(None)
}

/// Opens the one stream that is to be opened, through a proxy: it chooses the ids 0, 1, ... itself.
fn open_proxied(driver: &mut Driver) -> StreamKey {
    let stream = driver.open(UNTRUSTED);
    create_proxied(driver, stream);
    stream
}

fn create_proxied(driver: &mut Driver, stream: StreamKey) {
    for id in 0.. {
        let creates = driver.creates();
        let [create] = &creates[..] else { break };
        // It makes this up: no cluster, and the revision that was asked for.
        let header = Some(ResponseHeader { revision: create.start_revision, ..ResponseHeader::default() });
        driver.frame(stream, Frame { header, ..created(id) });
    }
    // Its first watch's turn begins.
    driver.sleep(ms(0));
}

fn proxied(config: WatchConfig, request: WatchRequest) -> (Driver, WatchKey, StreamKey) {
    let mut driver = Driver::new(config);
    let watch = driver.watch(request);
    let stream = open_proxied(&mut driver);
    (driver, watch, stream)
}

/// Time passes, and every probe is answered.
fn pass(driver: &mut Driver, millis: u64) {
    driver.sleep(ms(millis));
    for (stream, id) in driver.probed() {
        // A proxy chooses ids that nobody else has.
        let id = if id == 0 { 1_000 + driver.stats().frames.cast_signed() } else { id };
        driver.frame(stream, created(id));
        assert_eq!(driver.cancels(), [id]);
        driver.frame(stream, canceled(id, ""));
    }
}

/// The read that is asked for once a watch has stayed where it is for the time of a probe.
fn asked(driver: &mut Driver) -> Range {
    pass(driver, IDLE);
    let mut reads = driver.ranges();
    assert_eq!(reads.len(), 1, "{reads:?}");
    reads.remove(0)
}

fn deaf(watch: WatchKey, revision: i64) -> StreamEnd {
    StreamEnd::Deaf { watch, revision }
}

#[test]
fn a_watch_that_stays_behind_what_the_store_has_has_its_stream_replaced() {
    let (mut driver, watch, stream) = proxied(config(), all_from(5));
    driver.frame(stream, events(0, &[5]));
    driver.take_all(watch);
    // It has moved in its first turn.
    pass(&mut driver, IDLE);
    assert_eq!(driver.ranges(), []);
    let read = asked(&mut driver);
    let request = RevisionRequest { keys: KeyRange::all(), min_mod_revision: 6 };
    assert_eq!((read.request, read.endpoint, read.fresh_token), (request, EndpointHint::Any, false));
    driver.range_found(read.range, 20, 9);
    driver.sleep(ms(PATIENCE - 1));
    assert_eq!((driver.closes(), driver.watcher.timeout_reason()), (vec![], Some(TimeoutReason::Listen)));
    driver.sleep(ms(1));
    assert_eq!(driver.closes(), [(stream, deaf(watch, 9))]);
    let stats = driver.stats();
    assert_eq!((stats.deaf, stats.reconnects, stats.misbehaved), (1, 1, 0));
    driver.sleep_to_timeout();
    let opens = driver.opens();
    assert_eq!(opens[0].endpoint, EndpointHint::Another);
    driver.opened(opens[0].stream, UNTRUSTED);
    assert_eq!(driver.creates()[0].start_revision, 6, "it resumes where it was");
}

#[test]
fn the_same_is_noticed_while_other_watches_keep_the_stream_busy() {
    let mut driver = Driver::new(config());
    let [lost, busy] = [all_from(1), from_now("k").start_revision(1)].map(|request| driver.watch(request));
    let stream = open_proxied(&mut driver);
    for revision in 2..20 {
        driver.frame(stream, events(1, &[revision]));
        driver.sleep(ms(IDLE / 4));
        for read in driver.ranges() {
            assert_eq!(read.request.keys, KeyRange::all(), "what moves is not asked for");
            driver.range_found(read.range, revision, revision);
        }
        let closes = driver.closes();
        if !closes.is_empty() {
            assert_eq!(closes, [(stream, deaf(lost, 5))]);
            assert_eq!((driver.probes(), driver.revisions(busy)), (vec![], vec![2, 3, 4, 5, 6]));
            return;
        }
    }
    panic!("it is not noticed");
}

/// A step that keeps a watch from being found deaf, after the store has been asked for it.
type Excuse = fn(&mut Driver, WatchKey, StreamKey, Range);

/// An answer that there is more for the watch.
fn more(driver: &mut Driver, read: &Range) {
    driver.range_found(read.range, 100, 9);
}

#[test]
fn a_watch_that_has_an_excuse_is_not_deaf() {
    let excuses: [(&str, Excuse); 12] = [
        ("its events were in flight", |driver, _, stream, read| {
            more(driver, &read);
            driver.frame(stream, events(0, &[9]));
        }),
        ("they came before the answer", |driver, _, stream, read| {
            driver.frame(stream, events(0, &[9]));
            more(driver, &read);
        }),
        ("it is on its way to them", |driver, _, stream, read| {
            more(driver, &read);
            driver.frame(stream, events(0, &[5]));
        }),
        ("it hears a revision in fragments", |driver, _, stream, read| {
            more(driver, &read);
            driver.frame(stream, fragment(0, vec![put(9, "k")]));
        }),
        ("it is told of progress", |driver, _, stream, read| {
            more(driver, &read);
            driver.frame(stream, progress(0, 9));
        }),
        ("it is cancelled", |driver, watch, _, read| {
            more(driver, &read);
            driver.cancel(watch);
        }),
        ("it is sent away, and created again", |driver, _, stream, read| {
            more(driver, &read);
            driver.frame(stream, canceled(0, ""));
            assert_eq!(driver.creates().len(), 1);
            driver.frame(stream, created(77));
        }),
        ("the read fails", |driver, _, _, read| {
            driver.range_failed(read.range, Failure::connection("reset"))
        }),
        ("the read is refused", |driver, _, _, read| {
            driver.range_failed(read.range, Failure::status(7, "etcdserver: permission denied"));
        }),
        ("the store has nothing more", |driver, _, _, read| driver.range_found(read.range, 100, 0)),
        ("an odd server finds what is old", |driver, _, _, read| driver.range_found(read.range, 100, 3)),
        ("the read is never answered", |_, _, _, _| {}),
    ];
    for (what, excuse) in excuses {
        let (mut driver, watch, stream) = proxied(config(), all_from(4));
        let read = asked(&mut driver);
        excuse(&mut driver, watch, stream, read);
        pass(&mut driver, PATIENCE);
        assert_eq!(driver.closes(), [], "{what}");
        assert_eq!(driver.stats().deaf, 0, "{what}");
    }
}

#[test]
fn another_cluster_s_revisions_say_nothing() {
    for (cluster_id, is_deaf) in [(CLUSTER, true), (CLUSTER + 1, false), (0, true)] {
        let (mut driver, watch, stream) = proxied(config(), all_from(4));
        driver.frame(stream, events(0, &[4]));
        driver.take_all(watch);
        pass(&mut driver, IDLE);
        let read = asked(&mut driver);
        let done = etcd_watch_core::RangeDone { revision: 100, cluster_id, mod_revision: 9 };
        driver.watcher.handle_range_done(driver.now, read.range, Ok(done));
        pass(&mut driver, PATIENCE);
        assert_eq!(driver.closes().len(), usize::from(is_deaf), "{cluster_id:x}");
    }
}

#[test]
fn nobody_is_asked_where_ids_are_kept_nor_without_probes_nor_for_watches_that_leave_puts_out() {
    let no_put = all_from(1).filters(Filters { no_put: true, no_delete: false });
    let no_delete = all_from(1).filters(Filters { no_put: false, no_delete: true });
    for (what, config, request, keeps_ids, reads) in [
        ("ids are kept", config(), all_from(1), true, 0),
        ("no probes", config().probe(None), all_from(1), false, 0),
        ("puts are left out", config(), no_put, false, 0),
        ("deletes are left out", config(), no_delete, false, 1),
        ("a proxy", config(), all_from(1), false, 1),
    ] {
        let mut driver = Driver::new(config);
        driver.watch(request);
        if keeps_ids {
            let stream = driver.open(UNTRUSTED);
            driver.create_one(stream);
            driver.sleep(ms(0));
            assert_ne!(driver.watcher.timeout_reason(), Some(TimeoutReason::Listen));
        } else {
            open_proxied(&mut driver);
        }
        driver.sleep(ms(IDLE));
        assert_eq!(driver.ranges().len(), reads, "{what}");
    }
}

#[test]
fn a_connection_that_is_not_read_is_not_listened_to() {
    let request = all_from(4).overflow(Overflow::Pause).buffer_bytes(1);
    for is_asked_before in [true, false] {
        let (mut driver, watch, stream) = proxied(config(), request.clone());
        let read = is_asked_before.then(|| asked(&mut driver));
        // Both wait for the consumer, and with them the connection; a third may be behind them.
        driver.frame(stream, events(0, &[4]));
        driver.frame(stream, events(0, &[5]));
        assert!(!driver.watcher.wants_frame(stream));
        if let Some(read) = read {
            driver.range_found(read.range, 100, 9);
        }
        pass(&mut driver, IDLE + PATIENCE);
        assert_eq!((driver.closes(), driver.ranges()), (vec![], vec![]));
        driver.take_all(watch);
        assert!(driver.watcher.wants_frame(stream));
        pass(&mut driver, 0);
        let read = asked(&mut driver);
        assert_eq!(read.request.min_mod_revision, 6, "all begins again");
        driver.range_found(read.range, 100, 9);
        driver.frame(stream, events(0, &[9]));
        pass(&mut driver, PATIENCE);
        assert_eq!(driver.closes(), []);
    }
}

#[test]
fn a_watch_that_is_off_the_server_for_its_consumer_is_not_listened_to() {
    let (mut driver, watch, stream) = proxied(config(), all_from(4).buffer_bytes(1));
    let read = asked(&mut driver);
    more(&mut driver, &read);
    driver.frame(stream, events(0, &[4]));
    driver.frame(stream, events(0, &[5]));
    assert_eq!(driver.cancels(), [0]);
    pass(&mut driver, PATIENCE);
    pass(&mut driver, 3 * IDLE);
    assert_eq!((driver.closes(), driver.ranges()), (vec![], vec![]));
    assert_eq!(driver.revisions(watch), [4]);
}

#[test]
fn what_was_asked_on_a_connection_that_is_gone_says_nothing_of_the_next() {
    for is_moved in [true, false] {
        let (mut driver, _, stream) = proxied(config(), all_from(4));
        let read = asked(&mut driver);
        if is_moved {
            driver.watcher.move_stream(driver.now, stream).expect("it is open");
            assert_eq!(driver.closes(), [(stream, StreamEnd::Moved)]);
        } else {
            driver.cut(stream);
            driver.sleep_to_timeout();
        }
        open_proxied(&mut driver);
        more(&mut driver, &read);
        pass(&mut driver, PATIENCE);
        assert_eq!(driver.closes(), []);
    }
}

#[test]
fn watches_take_turns_and_each_read_is_for_the_keys_of_one() {
    let mut driver = Driver::new(config());
    let keys = ["a", "b", "c"];
    let [_, _, c] = keys.map(|key| driver.watch(from_now(key).start_revision(3)));
    open_proxied(&mut driver);
    let turn = |driver: &mut Driver| {
        let read = asked(driver);
        driver.range_found(read.range, 100, 0);
        // The next one's turn begins.
        driver.sleep(ms(0));
        read.request.keys
    };
    let asked: Vec<KeyRange> = (0..5).map(|_| turn(&mut driver)).collect();
    assert_eq!(asked, ["a", "b", "c", "a", "b"].map(KeyRange::key));
    driver.cancel(c);
    assert_eq!(driver.cancels(), [2]);
    // Its turn, which had begun, brings no read.
    pass(&mut driver, IDLE);
    assert_eq!((driver.ranges(), turn(&mut driver)), (vec![], KeyRange::key("a")));
}

#[test]
fn reads_that_take_long_are_further_apart() {
    let (mut driver, ..) = proxied(config(), all_from(4));
    let read = asked(&mut driver);
    driver.sleep(ms(100));
    driver.range_found(read.range, 100, 0);
    let pause = 32 * 100 + IDLE;
    for _ in 0..pause / 100 - 1 {
        pass(&mut driver, 100);
        assert_eq!(driver.ranges(), []);
    }
    pass(&mut driver, 100);
    assert_eq!(driver.ranges().len(), 1);
}

#[test]
fn a_watch_that_is_slow_rather_than_deaf_is_given_more_time_and_more_until_it_moves() {
    let (mut driver, watch, mut stream) = proxied(config(), all_from(4));
    let mut patience = PATIENCE;
    for times in 1..10 {
        let read = asked(&mut driver);
        more(&mut driver, &read);
        pass(&mut driver, patience - 1);
        assert_eq!(driver.closes(), []);
        driver.sleep(ms(1));
        assert_eq!(driver.closes(), [(stream, deaf(watch, 9))]);
        assert!(driver.watcher.failures_in_a_row(stream) > times, "pauses grow, too");
        patience = (patience * 2).min(64 * PATIENCE);
        driver.sleep_to_timeout();
        stream = open_proxied(&mut driver);
    }
    driver.frame(stream, events(0, &[4]));
    // Its turn ends by that.
    pass(&mut driver, IDLE);
    let read = asked(&mut driver);
    more(&mut driver, &read);
    driver.sleep(ms(PATIENCE));
    assert_eq!(driver.closes(), [(stream, deaf(watch, 9))]);
}

#[test]
fn every_stream_on_which_the_same_keys_are_watched_through_a_proxy_is_replaced() {
    let own = |key| from_now(key).start_revision(4).own_stream(true);
    let mut driver = Driver::new(config());
    let mut watches = Vec::new();
    let mut streams = Vec::new();
    for key in ["a", "b", "a"] {
        watches.push(driver.watch(own(key)));
        streams.push(open_proxied(&mut driver));
    }
    // Past the proxy.
    driver.watch(own("a"));
    let direct = driver.open(UNTRUSTED);
    driver.create_one(direct);
    pass(&mut driver, IDLE);
    let reads = driver.ranges();
    assert_eq!(reads.len(), 3);
    more(&mut driver, &reads[2]);
    driver.sleep(ms(PATIENCE));
    let end = deaf(watches[2], 9);
    assert_eq!(driver.closes(), [(streams[0], end.clone()), (streams[2], end)]);
    assert_eq!(driver.stats().deaf, 1);
}

#[test]
fn a_watch_has_its_time_again_once_its_connection_is_read_again_whoever_kept_it_from_being_read() {
    let mut driver = Driver::new(config());
    let lost = driver.watch(from_now("a").start_revision(4));
    let slow = driver.watch(from_now("k").start_revision(4).overflow(Overflow::Pause).buffer_bytes(1));
    let stream = open_proxied(&mut driver);
    let read = asked(&mut driver);
    driver.frame(stream, events(1, &[4]));
    driver.frame(stream, events(1, &[5]));
    assert!(!driver.watcher.wants_frame(stream));
    more(&mut driver, &read);
    pass(&mut driver, 10 * PATIENCE);
    driver.take_all(slow);
    pass(&mut driver, 0);
    assert_eq!(driver.closes(), [], "what it is to hear may wait to be read");
    // It is listened to again, and an answer to the question before says nothing of the next.
    let again = asked(&mut driver);
    more(&mut driver, &read);
    pass(&mut driver, PATIENCE);
    assert_eq!(driver.closes(), []);
    more(&mut driver, &again);
    driver.sleep(ms(PATIENCE));
    assert_eq!(driver.closes(), [(stream, deaf(lost, 9))]);
}

/// How long the next deaf watch is given after one has been found, and something has happened to that.
fn patience_after(happens: impl FnOnce(&mut Driver, WatchKey, StreamKey)) -> u64 {
    let (mut driver, watch, _) = proxied(config(), all_from(4));
    let read = asked(&mut driver);
    more(&mut driver, &read);
    driver.sleep(ms(PATIENCE));
    assert_eq!(driver.closes().len(), 1);
    driver.sleep_to_timeout();
    let stream = open_proxied(&mut driver);
    happens(&mut driver, watch, stream);
    let reads = std::iter::repeat_with(|| {
        pass(&mut driver, IDLE);
        driver.ranges()
    });
    let read = reads.take(3).flatten().next().expect("it is asked for");
    more(&mut driver, &read);
    for patience in 1..10 {
        driver.sleep(ms(PATIENCE));
        if matches!(driver.closes()[..], [(closed, StreamEnd::Deaf { revision: 9, .. })] if closed == stream)
        {
            return patience * PATIENCE;
        }
    }
    panic!("it is not found deaf");
}

#[test]
fn patience_grows_until_the_watch_that_was_deaf_is_known_to_hear() {
    assert_eq!(patience_after(|_, _, _| {}), 2 * PATIENCE);
    let hears = patience_after(|driver, _, stream| driver.frame(stream, events(0, &[5])));
    assert_eq!(hears, PATIENCE, "it has moved");
    let has_all = patience_after(|driver, _, _| {
        let read = asked(driver);
        driver.range_found(read.range, 100, 0);
        pass(driver, 0);
    });
    assert_eq!(has_all, PATIENCE, "there is nothing for it to hear");
    let unknown = patience_after(|driver, _, _| {
        let read = asked(driver);
        driver.range_failed(read.range, Failure::connection("reset"));
        pass(driver, 0);
    });
    assert_eq!(unknown, 2 * PATIENCE, "a read that fails says nothing");
    let created_again = patience_after(|driver, _, stream| {
        driver.frame(stream, canceled(0, ""));
        assert_eq!(driver.creates().len(), 1);
        driver.frame(stream, created(77));
    });
    assert_eq!(created_again, 2 * PATIENCE, "it is elsewhere");
    let gone = patience_after(|driver, watch, stream| {
        driver.cancel(watch);
        assert_eq!(driver.cancels(), [0]);
        driver.watch(all_from(4));
        assert_eq!(driver.creates().len(), 1);
        driver.frame(stream, created(77));
    });
    assert_eq!(gone, PATIENCE, "another is not to wait for it");
}

#[test]
fn a_stream_that_has_left_the_proxy_reconnects_as_any_other() {
    let (mut driver, watch, mut stream) = proxied(config(), all_from(4));
    for times in 1..4 {
        let read = asked(&mut driver);
        more(&mut driver, &read);
        pass(&mut driver, PATIENCE << (times - 1));
        assert_eq!(driver.closes(), [(stream, deaf(watch, 9))]);
        driver.sleep_to_timeout();
        if times < 3 {
            stream = open_proxied(&mut driver);
        }
    }
    // A member, at which the watch hears again.
    let stream = driver.open(TRUSTED);
    let id = driver.create_one(stream);
    driver.frame(stream, events(id, &[4]));
    assert_eq!(driver.watcher.failures_in_a_row(stream), 0);
    driver.cut(stream);
    assert_eq!(driver.watcher.failures_in_a_row(stream), 1);
}
