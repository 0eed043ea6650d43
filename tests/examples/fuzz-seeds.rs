//! Writes the hand-made inputs of every fuzz target into its corpus: `cargo run -p etcd-watch-testkit --example
//! fuzz-seeds`. They are for a target whose input has changed; what is there already stays.

use std::path::Path;
use std::{fs, io};

use etcd_watch_testkit::fuzz::TARGETS;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
