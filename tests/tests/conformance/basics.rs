//! What a watch sees with nothing in its way: ranges, starts, filters, previous values.

use etcd_watch_client::{
    Compare, Delete, Filters, KeyRange, OpenError, Put, RequestError, Txn, WatchRequest,
};
use etcd_watch_proto::mvccpb::event::EventType;

use crate::{
    observer::{Ask, Observer},
    workload::Workload,
    world::{Backend, World},
};

/// One watch of every kind, on the keys of a [`Workload`].
pub(crate) fn every_kind(from: i64) -> Vec<Ask> {
    let range = KeyRange::range("w/a2", "w/b3").expect("in order");
    let asks = [
        Ask::prefix("w/"),
        Ask::prefix("w/a"),
        Ask::key("w/b1"),
        Ask::range(range),
        Ask::range(KeyRange::from_key("w/b2")),
        Ask::range(KeyRange::all()),
        Ask::prefix("w/").prev_kv(),
        Ask::key("w/c0").prev_kv(),
        Ask::prefix("w/").no_put(),
        Ask::prefix("w/b").no_delete().prev_kv(),
        Ask::prefix("w/").with(|request| request.fragment(false)),
    ];
    asks.into_iter().map(|ask| if from == 0 { ask } else { ask.from(from) }).collect()
}

/// Writes a last event that every watch of [`every_kind`] sees, each at one of two revisions.
pub(crate) async fn last_words(world: &World) -> (i64, i64) {
    let keys = || ["w/a2", "w/b1", "w/b2", "w/c0"];
    let put =
        world.txn(keys().into_iter().fold(Txn::new(), |txn, key| txn.and_then(Put::new(key, "end")))).await;
    let delete =
        world.txn(keys().into_iter().fold(Txn::new(), |txn, key| txn.and_then(Delete::key(key)))).await;
    (put, delete)
}

/// Takes and checks everything up to the last words.
pub(crate) async fn check_all(world: &World, observers: &mut [Observer], (put, delete): (i64, i64)) {
    for observer in observers {
        let last = if observer.watched.no_delete { put } else { delete };
        observer.check_through(world, last).await;
    }
}

pub(crate) async fn every_kind_of_watch_keeps_the_nine_rules(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observers: Vec<Observer> =
        every_kind(0).into_iter().chain(every_kind(1)).map(|ask| ask.open(&client)).collect();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    Workload::start(&world.direct, 1, 120).finish().await;
    let middle = world.revision().await / 2;
    observers.extend(every_kind(middle).into_iter().map(|ask| ask.open(&client)));
    let last = last_words(&world).await;
    check_all(&world, &mut observers, last).await;
    assert_eq!(client.stats().stale_events, 0);
    assert_eq!(client.stats().misbehaved, 0);
}

pub(crate) async fn many_watches_each_see_only_their_own(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    // Some keys are prefixes of others.
    let keys: Vec<String> = (0..300).map(|index| format!("many/{index}")).collect();
    let mut observers: Vec<Observer> = keys.iter().map(|key| Ask::key(key).from(1).open(&client)).collect();
    for chunk in keys.chunks(100) {
        let txn = chunk.iter().fold(Txn::new(), |txn, key| txn.and_then(Put::new(key.clone(), "1")));
        world.txn(txn).await;
    }
    let mut last = Vec::new();
    for key in &keys {
        last.push(world.put(key, "2").await);
    }
    for (observer, last) in observers.iter_mut().zip(last) {
        observer.check_through(&world, last).await;
        assert_eq!(observer.events(), 2);
    }
}

pub(crate) async fn the_ends_of_the_key_space_are_watched(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let asks = [
        KeyRange::all(),
        KeyRange::prefix(""),
        KeyRange::key(&b"\0"[..]),
        KeyRange::from_key(""),
        KeyRange::from_key(&b"\xff"[..]),
        KeyRange::prefix(&b"\xff\xff"[..]),
        KeyRange::range("", &b"\0\0"[..]).expect("in order"),
        KeyRange::range("b", &b"\0"[..]).expect("open-ended"),
    ];
    let mut observers: Vec<Observer> =
        asks.into_iter().map(|range| Ask::range(range).from(1).open(&client)).collect();
    for key in [&b"\0"[..], b"\0\0", b"a", b"b", b"\xfe\xff", b"\xff", b"\xff\xff", b"\xff\xff\xff"] {
        world.put(key, "v").await;
    }
    let last = world.delete(KeyRange::all()).await;
    for observer in &mut observers {
        observer.check_through(&world, last).await;
    }
    let seen: Vec<usize> = observers.iter().map(Observer::events).collect();
    assert_eq!(seen, [16, 16, 2, 16, 6, 4, 2, 10]);
}

pub(crate) async fn what_can_never_be_served_is_refused_at_once(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    assert!(matches!(KeyRange::range("b", "a"), Err(RequestError::EmptyRange { .. })));
    assert!(matches!(KeyRange::range("a", "a"), Err(RequestError::EmptyRange { .. })));
    let request = || WatchRequest::new(KeyRange::key("k"));
    let too_small =
        RequestError::OutOfRange { field: "buffer_bytes", value: 0, allowed: "from 1 to isize::MAX" };
    for (request, error) in [
        (request().start_revision(-1), RequestError::NegativeRevision { revision: -1 }),
        (request().buffer_bytes(0), too_small),
        (request().filters(Filters { no_put: true, no_delete: true }), RequestError::NothingLeft),
    ] {
        assert_eq!(client.watch(request).err(), Some(OpenError::Request(error)));
    }
    assert_eq!(client.stats().opens, 0, "nothing went to the server");
}

pub(crate) async fn watches_start_in_the_past_now_and_in_the_future(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    for count in 0..5 {
        world.put("k", count.to_string()).await;
    }
    let now = world.revision().await;
    let mut observers: Vec<Observer> =
        [1, 2, now - 1, now, 0, now + 1, now + 3].map(|from| Ask::key("k").from(from).open(&client)).into();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    for count in 0..5 {
        world.put("k", count.to_string()).await;
    }
    let mut seen = Vec::new();
    for observer in &mut observers {
        observer.check_through(&world, now + 5).await;
        seen.push(observer.events());
    }
    assert_eq!(seen, [10, 10, 7, 6, 5, 5, 3]);
}

pub(crate) async fn previous_values_come_if_asked_for(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut with = Ask::prefix("p/").prev_kv().from(1).open(&client);
    let mut without = Ask::prefix("p/").from(1).open(&client);
    world.put("p/a", "first").await;
    world.put("p/a", "second").await;
    world.delete(KeyRange::key("p/a")).await;
    world.put("p/a", "again").await;
    let txn = Txn::new()
        .when(Compare::value("p/a").equals("again"))
        .and_then(Put::new("p/a", "by txn"))
        .and_then(Put::new("p/b", "new"));
    world.txn(txn).await;
    let last = world.delete(KeyRange::prefix("p/")).await;
    with.check_through(&world, last).await;
    without.check_through(&world, last).await;

    let previous: Vec<_> =
        world.history().await.into_iter().map(|event| event.prev_kv.map(|kv| kv.value)).collect();
    let expected =
        [None, Some("first"), Some("second"), None, Some("again"), None, Some("by txn"), Some("new")];
    assert_eq!(previous, expected.map(|value| value.map(bytes::Bytes::from)));
}

pub(crate) async fn filters_leave_out_one_kind_of_event(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut puts = Ask::prefix("f/").no_delete().from(1).open(&client);
    let mut deletes = Ask::prefix("f/").no_put().from(1).open(&client);
    for round in 0..3 {
        world.put("f/a", round.to_string()).await;
        world.put("f/b", round.to_string()).await;
        world.delete(KeyRange::prefix("f/")).await;
    }
    let both = Txn::new().and_then(Put::new("f/c", "v")).and_then(Delete::key("f/d"));
    world.put("f/d", "v").await;
    let last = world.txn(both).await;
    puts.check_through(&world, last).await;
    deletes.check_through(&world, last).await;
    let history = world.history().await;
    let deleted = history.iter().filter(|event| event.r#type() == EventType::Delete).count();
    assert_eq!((puts.events(), deletes.events()), (history.len() - deleted, deleted));
}
