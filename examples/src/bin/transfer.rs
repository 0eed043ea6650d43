//! Moves money between two accounts by nine tasks at once. Their transactions conflict, and no money is lost.
//!
//! `cargo run -p etcd-watch-examples --bin transfer`, or, several at once, `... -- http://127.0.0.1:2379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, concurrency::Stm, concurrency::StmTxn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    let (stm, mut tasks) = (Stm::new(&client), tokio::task::JoinSet::new());
    for amount in 1..=9 {
        let (stm, [from, to]) = (stm.clone(), [["ann", "ben"], ["ben", "ann"]][amount % 2]);
        tasks.spawn(async move { Ok(stm.run(|txn| transfer(txn, from, to, amount)).await?.attempts()) });
    }
    let attempts = tasks.join_all().await.into_iter().sum::<Result<u32, BoxError>>()?;
    let sum = stm.run(|txn| transfer(txn, "ann", "ben", 0)).await?.into_value();
    println!("9 transfers took {attempts} attempts, and together they have {sum}");
    (sum == 200).then_some(()).ok_or_else(|| "money was lost or made".into())
}

/// Moves so much, or all that is left, and returns what both accounts have. After a conflict it is run again.
async fn transfer(txn: StmTxn, from: &str, to: &str, amount: usize) -> Result<usize, BoxError> {
    let (left, other) = (balance(&txn, from).await?, balance(&txn, to).await?);
    txn.put(format!("accounts/{from}"), (left - amount.min(left)).to_string());
    txn.put(format!("accounts/{to}"), (other + amount.min(left)).to_string());
    Ok(left + other)
}

/// A new account has 100.
async fn balance(txn: &StmTxn, name: &str) -> Result<usize, BoxError> {
    let value = txn.get(format!("accounts/{name}")).await?.unwrap_or_else(|| "100".into());
    Ok(std::str::from_utf8(&value)?.parse()?)
}
