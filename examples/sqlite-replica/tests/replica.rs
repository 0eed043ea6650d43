//! The program as a process, on an embedded etcd, through a cut, restarts and a compaction.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::path::Path;

use common::{Program, Store, demonstration};
use etcd_watch_testkit::proxy::{Cut, FaultProxy};
use rusqlite::Connection;

const PROGRAM: &str = env!("CARGO_BIN_EXE_etcd-watch-sqlite-replica");

/// The rows, as another process sees them.
fn rows(file: &Path) -> Vec<(String, String)> {
    let db = Connection::open(file).expect("it is a database");
    let select = "SELECT CAST(key AS TEXT), CAST(value AS TEXT) FROM products ORDER BY key";
    let mut statement = db.prepare(select).expect("there is the table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("it is read");
    rows.collect::<Result<_, _>>().expect("they are text")
}

fn insert(file: &Path, key: &str, value: &str) {
    let db = Connection::open(file).expect("it is a database");
    db.execute("INSERT INTO products VALUES (?1, ?2)", (key.as_bytes(), value.as_bytes()))
        .expect("it is written");
}

fn products(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(key, value)| (format!("products/{key}"), value.to_owned())).collect()
}

#[tokio::test]
async fn the_copy_goes_on_after_cuts_and_restarts_and_starts_over_when_history_is_gone() {
    let store = Store::start("etcd").await;
    let proxy = FaultProxy::start(store.endpoint()).await.expect("a port");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("products.db");
    let start = || Program::start(PROGRAM, &proxy.endpoint(), &file);
    store.put("products/1", "tea");
    store.put("products/2", "milk");

    let mut replica = start();
    replica.until("everything before 4@").await;
    assert_eq!(rows(&file), products(&[("1", "tea"), ("2", "milk")]));
    assert!(proxy.cut_all(Cut::Reset) > 0);
    store.delete("products/1");
    replica.until("everything before 5@").await;
    assert_eq!(rows(&file), products(&[("2", "milk")]));
    drop(replica);

    store.put("products/3", "cake");
    store.delete("products/2");
    // A row that no list would leave there.
    insert(&file, "products/mark", "of this test");
    let mut replica = start();
    replica.until("everything before 7@").await;
    assert_eq!(rows(&file), products(&[("3", "cake"), ("mark", "of this test")]));
    drop(replica);

    store.put("products/4", "soup");
    store.delete("products/3");
    store.compact();
    let mut replica = start();
    replica.until("everything before 9@").await;
    assert_eq!(rows(&file), products(&[("4", "soup")]));
}

#[test]
fn the_program_shows_what_it_does_without_an_etcd() {
    let printed = demonstration(PROGRAM);
    assert!(printed.lines().last().is_some_and(|line| line.starts_with("everything before 6@")), "{printed}");
}
