//! Flags of `snapshot`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save the database of the first endpoint that sends it, for `etcdutl snapshot restore`
    ///
    /// Its checksum is verified, and the file has its name only once it is whole and on disk: until then it ends
    /// in .part. A file that is there is replaced. --command-timeout is for each of the messages that bring it.
    Save {
        /// The file
        path: PathBuf,
    },
}
