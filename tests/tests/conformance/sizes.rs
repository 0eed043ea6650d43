//! Large values, large transactions, fragments.

use etcd_watch_client::{KeyRange, Put, Txn};

use crate::{
    observer::{Ask, Observer},
    world::{Backend, Setup, World},
};

/// With and without fragments, with and without previous values.
fn asks(prefix: &str) -> Vec<Ask> {
    let ask = || Ask::prefix(prefix).from(1);
    vec![
        ask(),
        ask().with(|request| request.fragment(false)),
        ask().prev_kv(),
        ask().prev_kv().with(|request| request.fragment(false)),
    ]
}

pub(crate) async fn large_values_arrive_with_and_without_fragments(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut live: Vec<Observer> = asks("v/").into_iter().map(|ask| ask.open(&client)).collect();
    for observer in &mut live {
        observer.created(&world).await;
    }
    // A megabyte each: one fits below the server's limit for requests, and two are cut apart.
    let last = world.put_many("v/", 12, &vec![b'v'; 1 << 20]).await;
    let mut late: Vec<Observer> = asks("v/").into_iter().map(|ask| ask.open(&client)).collect();
    for observer in live.iter_mut().chain(&mut late) {
        observer.check_through(&world, last).await;
    }
    assert_eq!(client.stats().misbehaved, 0);
}

pub(crate) async fn large_transactions_arrive_whole(backend: Backend) {
    const KEYS: usize = 128;
    let setup = Setup { max_request_bytes: Some(256 << 10), ..Setup::default() };
    let world = World::with(backend, setup).await;
    let client = world.client();
    let mut live: Vec<Observer> = asks("t/").into_iter().map(|ask| ask.open(&client)).collect();
    let mut last = 0;
    for round in 0..4 {
        for part in 0..8 {
            let txn = (0..KEYS).fold(Txn::new(), |txn, index| {
                txn.and_then(Put::new(format!("t/{part}/{index}"), vec![b'0' + round; 1_500]))
            });
            last = world.txn(txn).await;
        }
        if round == 2 {
            // One revision of more than a thousand events, three megabytes with the values before.
            last = world.delete(KeyRange::prefix("t/")).await;
        }
    }
    let mut late: Vec<Observer> = asks("t/").into_iter().map(|ask| ask.open(&client)).collect();
    for observer in live.iter_mut().chain(&mut late) {
        observer.check_through(&world, last).await;
        assert_eq!(observer.events(), 5 * 8 * KEYS);
    }
    assert_eq!(client.stats().stale_events, 0);
}
