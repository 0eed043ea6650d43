//! Flags of `mirror`.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use super::{Keys, Secret};

/// What is printed, for the end of the help text; as wide as that.
const OUTPUT: &str = r#"Output:
  What is printed leads to the exact state of the store at every "synced" and after every change,
  through cuts and compaction: where history is lost, the keys are listed again, and what differs
  is printed. Between "listing" and "synced" the state is a mix of two.

  With -w simple: SNAPSHOT, PUT or DELETE, the key and the value, each on a line of its own, and
  "listing: REVISION (WHY)" before keys are listed, "synced: REVISION" when a state is reached.
  With -w json, one object a line; keys and values in base64, fields that are zero left out:

  {"type":"listing","revision":N,"reason":TEXT}  the keys are listed, at revision N
  {"type":"snapshot","revision":N,"key":KEY,"value":VALUE,"create_revision":N,"mod_revision":N,
   "version":N,"lease":ID}                       a key as it is at revision N
  {"type":"put", the same fields}                a key was put by revision N
  {"type":"delete","revision":N,"key":KEY}       a key was deleted by revision N, or, between
                                                 "listing" and "synced", was found to be gone
  {"type":"synced","revision":N}                 the state of revision N is reached

  With --to, one line at the end: how far the mirror has come, and what it has done; with -w json
  the fields type ("end"), revision, exact, puts, deletes, left_alone, transactions and lists."#;

#[derive(Args, Debug)]
#[command(after_long_help = OUTPUT)]
pub(crate) struct MirrorArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Stop, with status 0, once everything up to revision N has been mirrored
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) until_rev: Option<i64>,
    #[command(flatten)]
    pub(crate) to: ToArgs,
}

/// Where to, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Replication")]
pub(crate) struct ToArgs {
    /// Keep the keys in this etcd equal to those mirrored, instead of printing them
    ///
    /// How far it has come is written to a key at the destination in the same transactions as the changes.
    /// Started again, it goes on from there, or, when that history is compacted, lists the keys and writes what
    /// differs. It never replaces a newer state by an older one: it refuses a source that has gone back or is
    /// another cluster, and a mirror that has been replaced by another one with the same checkpoint stops. It
    /// refuses to copy what another mirror copies back, which it knows by that one's checkpoint at the source: two
    /// clusters that mirror each other need different prefixes (--dest-prefix).
    ///
    /// Revisions are written in order, each in one transaction, some of them together, as long as they have no
    /// more changes than --max-txn-ops. Leases are not carried over: keys go when they go at the source. Keys
    /// that others write under the destination's prefix stay until the keys have to be listed again.
    ///
    /// Prints a line of statistics at the end. With --until-rev, makes one copy.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    pub(crate) to: Vec<String>,
    /// Replace the prefix KEY by this one at the destination; needs --prefix
    #[arg(long, requires_all = ["to", "prefix"], value_name = "PREFIX")]
    pub(crate) dest_prefix: Option<OsString>,
    /// Leave the prefix KEY out at the destination; needs --prefix
    #[arg(long, requires_all = ["to", "prefix"], conflicts_with = "dest_prefix")]
    pub(crate) no_dest_prefix: bool,
    /// Delete keys at the destination that the source doesn't have, when keys are copied; without it, those that
    /// were there before the first copy are left alone
    #[arg(long, requires = "to")]
    pub(crate) delete_extra: bool,
    /// The key at the destination that says how far the mirror has come; it must not be one that is mirrored.
    /// By default it begins with etcd-watch/mirror/ and is named after the keys at the destination
    #[arg(long, requires = "to", value_name = "KEY")]
    pub(crate) checkpoint: Option<OsString>,
    /// The most operations in one transaction, the checkpoint's among them: the destination's --max-txn-ops
    #[arg(long, requires = "to", default_value_t = 128, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(4..=1_000_000))]
    pub(crate) max_txn_ops: u64,
    /// Trust the certificates in this PEM file at the destination
    #[arg(long, requires = "to", value_name = "FILE")]
    pub(crate) dest_cacert: Option<PathBuf>,
    /// Show the destination the certificate in this PEM file
    #[arg(long, requires = "to", value_name = "FILE")]
    pub(crate) dest_cert: Option<PathBuf>,
    /// The PEM file with that certificate's key
    #[arg(long, requires = "to", value_name = "FILE")]
    pub(crate) dest_key: Option<PathBuf>,
    /// The user at the destination; asks for the password if it isn't given here or by --dest-password
    #[arg(long, env = "ETCDCTL_DEST_USER", hide_env_values = true)]
    #[arg(value_name = "NAME[:PASSWORD]")]
    pub(crate) dest_user: Option<Secret>,
    /// That user's password; better set the variable, since others on this machine can see flags
    #[arg(long, env = "ETCDCTL_DEST_PASSWORD", hide_env_values = true)]
    #[arg(value_name = "PASSWORD")]
    pub(crate) dest_password: Option<Secret>,
}
