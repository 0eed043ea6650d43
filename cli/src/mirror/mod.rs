//! `mirror`.
//!
//! | file | owns |
//! |---|---|
//! | `print` | the mirror that prints |
//! | `replicate` | the mirror that writes: the loop from source to destination |
//! | `source` | where changes come from: a watch from a checkpoint on, or a list |
//! | `destination` | transactions, each fenced by the checkpoint |
//! | `checkpoint` | how far a mirror has come, and how that is written down |
//! | `batch` | whole revisions that go into one transaction |
//! | `difference` | what a part of a list changes at the destination |
//! | `mapping` | keys of the source as keys of the destination |
//! | `opposite` | a mirror in the opposite direction, which is refused |
//! | `report` | the progress bar and the statistics |

mod batch;
mod checkpoint;
mod destination;
mod difference;
mod mapping;
mod opposite;
mod print;
mod replicate;
mod report;
mod source;

use etcd_watch_tokio::{MirrorRequest, WatchConfig};

use crate::{
    args::{Global, MirrorArgs, refuse_fields},
    connect,
    ending::Ending,
    signals,
};

pub(crate) async fn run(global: &Global, args: &MirrorArgs) -> anyhow::Result<Ending> {
    refuse_fields(global, "mirror")?;
    let range = connect::range(&args.keys)?;
    MirrorRequest::new(range.clone()).validate()?;
    let mut stop = signals::listen(true);
    let client = tokio::select! {
        client = connect::connect(global, WatchConfig::default()) => client?,
        signal = stop.asked() => return Ok(Ending::Signal(signal)),
    };
    if args.to.to.is_empty() {
        print::run(global, args, client, range, &mut stop).await
    } else {
        replicate::run(global, args, client, range, &mut stop).await
    }
}
