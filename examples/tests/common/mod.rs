//! What the tests share: an embedded etcd, and a program that runs beside it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    fs,
    path::Path,
    process::{Command as Blocking, Stdio},
    time::Duration,
};

use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
};
use etcd_watch_testkit::{
    model::{ModelConfig, ModelEtcd},
    server::EmbeddedEtcd,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    time::timeout,
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An embedded etcd.
pub(crate) struct Store(EmbeddedEtcd);

impl Store {
    /// Starts one that says it is of this version, if the text is one.
    pub(crate) async fn start(version: &str) -> Self {
        let mut config = ModelConfig::default();
        if version.starts_with(char::is_numeric) {
            config.version = version.to_owned();
        }
        Self(EmbeddedEtcd::start(config).await.expect("a port"))
    }

    pub(crate) fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    pub(crate) fn address(&self) -> String {
        self.0.address().to_string()
    }

    /// Itself, as an endpoint of a service.
    pub(crate) fn registration(&self) -> String {
        format!(r#"{{"Op": 0, "Addr": "{}", "Metadata": null}}"#, self.address())
    }

    pub(crate) async fn stop(&mut self) {
        self.0.stop().await;
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let request = PutRequest { key, value, ..PutRequest::default() };
        self.0.with_model(|model| model.put(&request)).expect("it is put");
    }

    pub(crate) fn delete(&self, key: &str) {
        let request = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        self.0.with_model(|model| model.delete_range(&request)).expect("it is deleted");
    }

    /// The value of a key that exists.
    pub(crate) fn value(&self, key: &str) -> String {
        let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let answer = self.0.with_model(|model| model.range(&request)).expect("it is read");
        String::from_utf8(answer.kvs[0].value.to_vec()).expect("it is text")
    }

    /// Forgets all history before the present revision.
    pub(crate) fn compact(&self) {
        self.0.with_model(|model| {
            let request = CompactionRequest { revision: model.revision(), physical: true };
            model.compact(&request).expect("it is compacted");
        });
    }

    /// How many keys have the prefix, which ends in a slash.
    pub(crate) fn keys(&self, prefix: &str) -> usize {
        self.0.with_model(|model| under(model, prefix).len())
    }

    /// Revokes the lease of the key with this prefix that was created first.
    pub(crate) fn revoke_lease_of_first(&self, prefix: &str) {
        self.0.with_model(|model| {
            let keys = under(model, prefix);
            let (_, id) = keys.into_iter().min().expect("there is a key");
            model.lease_revoke(&LeaseRevokeRequest { id }).expect("there is the lease");
        });
    }
}

/// The create revisions and leases of the keys with a prefix that ends in a slash.
fn under(model: &ModelEtcd, prefix: &str) -> Vec<(i64, i64)> {
    // The character after the slash.
    let range_end = format!("{}0", prefix.trim_end_matches('/'));
    let request = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: range_end.into(),
        ..RangeRequest::default()
    };
    let answer = model.range(&request).expect("it is read");
    answer.kvs.into_iter().map(|kv| (kv.create_revision, kv.lease)).collect()
}

/// A program that runs. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Program {
    pub(crate) fn start(program: &str, endpoint: &str, file: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg(endpoint).arg(file).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdin = child.stdin.take().expect("its input");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await
                && sender.send(line).is_ok()
            {}
        });
        Self { child, stdin, lines }
    }

    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.recv()).await.expect("a line in time")
    }

    /// Waits for the next line.
    pub(crate) async fn next_line(&mut self) -> String {
        match self.line().await {
            Some(line) => line,
            None => panic!("it ended: {}", self.said().await),
        }
    }

    /// Waits for a line that begins so, and returns those before it.
    pub(crate) async fn until(&mut self, beginning: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.line().await {
                Some(line) if line.starts_with(beginning) => return before,
                Some(line) => before.push(line),
                None => panic!("it ended without {beginning:?} after {before:?}: {}", self.said().await),
            }
        }
    }

    /// What it has printed since the last line that was waited for.
    pub(crate) fn printed_meanwhile(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// Types a line, and returns the line that answers it.
    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
        self.line().await.expect("an answer")
    }

    /// Waits for its end, which has to be a failure, and returns what it said.
    pub(crate) async fn failure(mut self) -> String {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("its end in time").expect("a status");
        assert!(!status.success());
        self.said().await
    }

    /// Waits for its end, and says whether it went well.
    pub(crate) async fn ends_well(&mut self) -> bool {
        timeout(PATIENCE, self.child.wait()).await.expect("its end in time").expect("a status").success()
    }

    async fn said(&mut self) -> String {
        let mut said = String::new();
        let stderr = self.child.stderr.as_mut().expect("its errors");
        stderr.read_to_string(&mut said).await.expect("they are text");
        said
    }
}

/// Runs a program without an endpoint, and returns what it printed.
pub(crate) fn demonstration(program: &str) -> String {
    let output = Blocking::new(program).stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

/// The programs in some folders of this package, with their lines of code: comments, blank lines and the attributes
/// that are about the lints of this workspace don't count.
pub(crate) fn lines_of_code(folders: &[&str]) -> Vec<(String, usize)> {
    let mut programs = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the program");
                let counts =
                    |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.starts_with("#![");
                programs
                    .push((path.display().to_string(), text.lines().map(str::trim).filter(counts).count()));
            }
        }
    }
    programs
}
