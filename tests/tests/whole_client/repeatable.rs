//! A run follows from its seed.

use std::env;
use std::process::Command;
use std::time::Duration;

use etcd_watch_client::KeyRange;
use etcd_watch_testkit::sim::{Faults, Report, Sim};

use crate::scenarios;

/// Two clients, a lot of calls and every kind of fault.
fn busy(seed: u64) -> Report {
    let report = Sim::new().limit(Duration::from_secs(86_400)).run(seed, |world| async move {
        let watcher = world.host("watcher").client().connect_lazy()?;
        let mut watch = watcher.watch(KeyRange::prefix("k"))?;
        let writer = world.host("writer");
        let client = writer.client().connect_lazy()?;
        world.faults(Faults::all().every(Duration::from_secs(2))).await;
        let writing = writer.spawn(async move {
            for count in 0..200_u32 {
                // What becomes of it is not the question here.
                let _ = client.put(format!("k{}", count % 7), count.to_string()).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let watching = world.host("watcher").spawn(async move {
            while let Some(response) = watch.next().await {
                drop(response);
            }
        });
        writing.await.expect("nobody kills it");
        world.calm().await;
        watching.abort();
        Ok(())
    });
    report.unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn two_runs_of_a_seed_are_the_same_to_the_last_byte_and_of_two_seeds_are_not() {
    let (one, other) = (busy(1), busy(1));
    println!("{one}");
    assert_eq!((one.hash, one.virtual_time, &one.counts), (other.hash, other.virtual_time, &other.counts));
    assert!(one.counts.faults > 5 && one.counts.bytes > 10_000, "{one}");
    assert_ne!(busy(2).hash, one.hash);
}

#[test]
#[ignore = "run by the test below, in processes of their own, which have other keys for their hash maps"]
fn tells_hashes_to_the_parent() {
    let run = |scenario| {
        scenarios::run(scenario, Duration::from_secs(60), [1]).unwrap_or_else(|failure| panic!("{failure}"))
    };
    let hashes = scenarios::ALL.map(|(_, scenario)| format!("{:x}", run(scenario).hash));
    println!("hashes {:x} {}", busy(3).hash, hashes.join(" "));
}

#[test]
fn two_processes_run_a_seed_in_the_same_way() {
    let run = || {
        let mut child = Command::new(env::current_exe().expect("this test"));
        child.args(["--exact", "repeatable::tells_hashes_to_the_parent", "--ignored", "--nocapture"]);
        let child = child.output().expect("it runs");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let output = String::from_utf8(child.stdout).expect("text");
        let hashes = output.lines().find_map(|line| line.split("hashes ").nth(1));
        hashes.unwrap_or_else(|| panic!("no hashes: {output}")).to_owned()
    };
    assert_eq!(run(), run());
}
