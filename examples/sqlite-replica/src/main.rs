//! Keeps a copy of the products in SQLite. Rows and checkpoint change in one transaction: the copy is always the store
//! as it was at one revision, and after a restart it goes on with exactly the next change.
//!
//! `cargo run -p etcd-watch-sqlite-replica`, or `... -- http://127.0.0.1:2379 products.db`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, Checkpoint, KeyRange, MirrorEvent, MirrorRequest};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    let db = rusqlite::Connection::open(etcd_watch_examples::file("products.db"))?;
    db.execute_batch(include_str!("begin.sql"))?;
    let stored: Option<String> = db.query_row("SELECT max(text) FROM checkpoint", [], |row| row.get(0))?;
    let checkpoint = stored.map(|text| text.parse::<Checkpoint>()).transpose()?;
    let request = MirrorRequest::new(KeyRange::prefix("products/")).keep_index(false);
    let mut mirror = client.mirror(request.resume(checkpoint))?;
    while let Some(event) = mirror.try_next().await? {
        if let MirrorEvent::Listing { .. } = event {
            db.execute("DELETE FROM products", [])?;
        }
        for (key, value) in event.updates() {
            db.execute("REPLACE INTO products VALUES (?1, ?2)", (key, value))?;
        }
        // In the middle of a list there is none: the transaction goes on until its end.
        if let Some(checkpoint) = mirror.checkpoint() {
            db.execute("REPLACE INTO checkpoint VALUES (1, ?1)", [checkpoint.to_string()])?;
            db.execute_batch("DELETE FROM products WHERE value IS NULL; COMMIT; BEGIN")?;
            println!("everything before {checkpoint} is stored");
        }
    }
    Ok(())
}
