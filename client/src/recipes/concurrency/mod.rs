//! Locks, elections and transactions that are code, understood by Go's `clientv3/concurrency`: a program in Go and one
//! with this client contend for the same lock.
//!
//! - [`Session`]: a lease that is kept alive; what is held, is held for as long as it lives.
//! - [`Mutex`]: one holder at a time, first come, first served.
//! - [`Election`]: the same with a value that everybody sees; [`observe`] and [`leader`] need no session.
//! - [`Stm`]: a closure that reads and writes keys, run until it is committed as a whole; it needs no session either.
//!
//! ```no_run
//! use etcd_watch_client::{
//!     Client, Put, Txn,
//!     concurrency::{Mutex, Name, Session},
//! };
//!
//! # async fn program(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! // A name that can't be one is refused before there is a lease.
//! let name = Name::new("locks/report")?;
//! let session = Session::open(&client).await?;
//! let mutex = Mutex::new(&session, name);
//! let guard = mutex.lock().await?;
//! // Takes place only if the lock is still held when the server executes it.
//! let write = Txn::new().when(guard.is_owner()).and_then(Put::new("report", "done"));
//! let done = client.txn(write).await?.succeeded();
//! guard.unlock().await?;
//! # let _ = done;
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! **In the store.** Contenders are keys under `<name>/`; the one created first is the owner. There is one at any
//! revision, and ownership passes in the order of creation. Every owner has a greater create revision than the
//! one before: its *fencing token*. A transaction with the condition [`MutexGuard::is_owner`] (or
//! [`Leadership::is_owner`]) is executed only while the token's owner is the owner, whatever clocks and networks do.
//!
//! **Outside of it**, a lock by a lease is advisory. A process that was frozen for longer than its lease lasts still
//! believes in its lock until it asks. [`MutexGuard::is_held`] counts the lease's time from the *sending* of its last
//! renewal, by a local clock that goes on while the machine sleeps, so a holder that asks knows of the loss no later
//! than the server, if its clock runs as fast; but between asking and acting, time passes. What must not happen twice
//! takes the fencing token along: in etcd by `is_owner`, elsewhere by a store that refuses a
//! [token](MutexGuard::fencing_token) lower than one it has seen.
//!
//! **A lease is lost for two reasons only**: the server says that it has no such lease, or its time is over without a
//! renewal. Every other failure to renew it is waited out, with attempts at all members.
//!
//! **Liveness.** A contender that is dropped at any moment (a future that was not polled to its end, a guard, a
//! session) takes its key away in the background. One whose process dies blocks the others until its lease is over.
//!
//! # Names
//!
//! A name is not empty, does not end in `/` and has no control characters: what lists keys or logs them would show
//! another name than the one that is locked. (Go takes any bytes; a lock with such a name can't be shared with it.) All keys under `<name>/` contend, whoever made them: a name that
//! continues another (`a/b` and `a`) contends for that one too, as in Go. Who contends needs permission to read and
//! write all of `<name>/`.
//!
//! # Logs
//!
//! | event | level | fields |
//! |---|---|---|
//! | `session_opened` | debug | `lease`, `ttl` |
//! | `session_lost` | warn | `lease`, `reason` |
//! | `session_closed` | debug | `lease`, `reason` |
//! | `claim_entered` | debug | `key`, `create_revision` |
//! | `claim_waiting` | debug | `key`, `create_revision`, `behind` |
//! | `claim_held` | debug | `key`, `create_revision` |
//! | `claim_lost` | warn | `key`, `create_revision`, `reason` |
//! | `claim_left` | debug | `key` |
//! | `claim_not_removed` | warn | `key`, `reason` |
//! | `stm_conflicted` | debug | `isolation`, `attempts` |
//!
//! A *claim* is a key in the queue for a lock or a leadership. Values are in none of them.
//!
//! With the feature `metrics`, sessions, locks and leaderships are counted, with the label `client`: `docs/metrics.md` has
//! the names.

mod claim;
mod election;
mod error;
mod health;
mod leader;
mod metrics;
mod mutex;
mod name;
mod patience;
mod queue;
mod session;
mod stm;
mod telemetry;

pub use election::{Election, Leadership};
pub use error::{ContendError, Lost, NameError, SessionError, SessionLost};
pub use leader::{Leader, Observe, leader, observe};
pub use mutex::{Mutex, MutexGuard};
pub use name::Name;
pub use session::{Session, SessionBuilder};
pub use stm::{Committed, Isolation, Stm, StmError, StmTxn};
