//! The client's process, from both sides: how it is started and asked, and what it holds in memory.

use std::{env, process::Stdio, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{
    ALLOCATOR, DEADLINE,
    client::{self, Answer, Command},
};

/// Where a process finds that it is the client's, and its settings.
const VARIABLE: &str = "ETCD_WATCH_MEMORY_TEST_CLIENT";

/// What comes before each answer of the client: the test's own output is on the same pipe.
pub(crate) const ANSWER: &str = "the client answers: ";

/// Between two looks at a condition in the client's process.
const INTERVAL: Duration = Duration::from_millis(20);

/// How the client's process is to manage freed memory. Where the allocator isn't glibc's, both are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Malloc {
    /// Blocks of 128 KiB or more are always mapped by themselves, and are returned when they are freed: what glibc
    /// starts with.
    FixedThresholds,
    /// The threshold follows the largest block that was freed, up to 32 MiB.
    AsItComes,
}

impl Malloc {
    pub(crate) const ALL: [Self; 2] = [Self::FixedThresholds, Self::AsItComes];

    fn apply(self, command: &mut tokio::process::Command) {
        const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
        match self {
            Self::FixedThresholds => command.env(THRESHOLD, (128 << 10).to_string()),
            Self::AsItComes => command.env_remove(THRESHOLD),
        };
    }
}

/// A test's full name, and how its client's process is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) test: &'static str,
    pub(crate) malloc: Malloc,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) endpoint: String,
    /// The common budget of all watches, in bytes.
    pub(crate) total: usize,
}

/// What a process holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Bytes in memory, as the kernel counts them, and the most there ever were.
    pub(crate) resident: usize,
    pub(crate) resident_peak: usize,
    /// Bytes asked of the allocator and not given back, and the most there ever were.
    pub(crate) allocated: usize,
    pub(crate) allocated_peak: usize,
    /// What the machine counts.
    pub(crate) queued_bytes: usize,
    pub(crate) overflows: u64,
    pub(crate) creates: u64,
    /// Events that were taken by `Consume`.
    pub(crate) consumed: usize,
    /// Watches with events that wait.
    pub(crate) waiting: usize,
    /// Watches that go on when their consumers have drained them.
    pub(crate) overflowed: usize,
}

impl Figures {
    /// The memory of this process.
    pub(crate) fn of_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
        let kilobytes = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        Self {
            resident: kilobytes("VmRSS:") << 10,
            resident_peak: kilobytes("VmHWM:") << 10,
            allocated: ALLOCATOR.current_usage(),
            allocated_peak: ALLOCATOR.peak_usage(),
            ..Self::default()
        }
    }
}

/// Runs a test in each of these ways, or its client if this is the client's process.
pub(crate) fn measured<F: Future<Output = ()>>(
    test: &'static str,
    mallocs: &[Malloc],
    run: impl Fn(Case) -> F,
) {
    if let Ok(settings) = env::var(VARIABLE) {
        return client::run(serde_json::from_str(&settings).expect("they are settings"));
    }
    if !cfg!(target_os = "linux") {
        eprintln!(
            "\n*** {test} WAS NOT RUN: resident memory is read from /proc/self/status, which is Linux's ***\n"
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("it starts");
    for &malloc in mallocs {
        runtime.block_on(run(Case { test, malloc }));
    }
}

/// A process with a client in it. Dropping it kills the process.
pub(crate) struct ClientProcess {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl ClientProcess {
    /// Starts this program once more, as the client of the test.
    pub(crate) async fn start(case: Case, endpoint: &str, total: usize) -> Self {
        let settings = Settings { endpoint: endpoint.to_owned(), total };
        let settings = serde_json::to_string(&settings).expect("they can be said");
        let mut command = tokio::process::Command::new(env::current_exe().expect("this program"));
        case.malloc.apply(&mut command);
        let mut child = command
            .args(["--exact", case.test, "--nocapture"])
            .env(VARIABLE, settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { _child: child, stdin, stdout }
    }

    /// Has a command performed.
    pub(crate) async fn ask(&mut self, command: Command) -> Answer {
        let line = serde_json::to_string(&command).expect("it can be said");
        let asked = async {
            self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the client listens");
            loop {
                let line = self.stdout.next_line().await.expect("the client answers");
                let line = line.unwrap_or_else(|| panic!("the client ended over {command:?}"));
                if let Some((_, answer)) = line.split_once(ANSWER) {
                    return serde_json::from_str(answer).expect("it is an answer");
                }
            }
        };
        timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("no answer in time to {command:?}"))
    }

    pub(crate) async fn figures(&mut self) -> Figures {
        self.ask(Command::Figures).await.figures
    }

    /// The first figures that are as wanted.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Figures) -> bool) -> Figures {
        let mut figures = self.figures().await;
        let end = tokio::time::Instant::now() + DEADLINE;
        while !is_wanted(&figures) {
            assert!(tokio::time::Instant::now() < end, "in time: {figures:?}");
            tokio::time::sleep(INTERVAL).await;
            figures = self.figures().await;
        }
        figures
    }
}
