//! Whatever the crate hands out can be kept anywhere: in a static, in another task, on another thread.

use etcd_watch_client::{cache, concurrency, config, *};

fn anywhere<T: Send + Sync + 'static>() {}

/// Handles that are polled are moved between threads, and need not be shared.
fn movable<T: Send + 'static>() {}

#[test]
fn handles_requests_and_errors_are_send_and_sync() {
    anywhere::<Client>();
    anywhere::<ClientBuilder>();
    anywhere::<Watch>();
    anywhere::<WatchRequest>();
    anywhere::<WatchResponse>();
    anywhere::<Event<'static>>();
    anywhere::<OwnedEvent>();
    anywhere::<OwnedKeyValue>();
    anywhere::<LeaseKeeper>();
    anywhere::<(Get, Put, Delete, Txn, Compact)>();
    anywhere::<(GetResponse, PutResponse, DeleteResponse, TxnResponse)>();
    anywhere::<(CallError, BuildError, StartError, WatchError, LeaseLost, SyncError, ApiMisuse)>();
    anywhere::<cache::Cache>();
    anywhere::<cache::Snapshot>();
    anywhere::<cache::CacheRequest>();
    anywhere::<config::Config<String>>();
    anywhere::<concurrency::Session>();
    anywhere::<concurrency::Mutex>();
    anywhere::<concurrency::MutexGuard>();
    anywhere::<concurrency::Election>();
    anywhere::<concurrency::Leadership>();
    movable::<Mirror>();
    movable::<cache::Subscription>();
    movable::<concurrency::Observe>();
}

#[cfg(feature = "discovery")]
#[test]
fn discovery_is_too() {
    anywhere::<discovery::Discovery>();
    anywhere::<discovery::Registration>();
    movable::<discovery::EndpointWatch>();
}
