//! The demonstration: an embedded etcd, and the program itself as a child process of it.
//!
//! The program runs in a process of its own, so that it can be killed and started again, and so that the tokio runtime
//! of the embedded etcd isn't in the process of a program for smol.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use etcd_watch_proto::etcdserverpb::{DeleteRangeRequest, LeaseRevokeRequest, PutRequest};
use etcd_watch_testkit::{
    model::{ModelConfig, ModelEtcd},
    proxy::FaultProxy,
    server::EmbeddedEtcd,
};

use crate::steps::{self, Step};

/// The time between two steps, for those who look on.
const PAUSE: Duration = Duration::from_millis(400);

/// How long a program may take to print what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The endpoint of etcd: the program's first argument. Without one, the program's demonstration is performed with an
/// embedded etcd and the program as a child process, and the process ends.
#[must_use]
pub fn endpoint() -> String {
    // On a thread of its own: the program may be on a runtime already, where another can't be waited for.
    env::args().nth(1).unwrap_or_else(|| match thread::spawn(perform).join() {
        Ok(Ok(())) => std::process::exit(0),
        Ok(Err(error)) => fail(&error),
        Err(_) => fail(&io::Error::other("it panicked")),
    })
}

/// The file that the program keeps: its second argument, or `default`.
#[must_use]
pub fn file(default: &str) -> PathBuf {
    env::args_os().nth(2).unwrap_or_else(|| default.into()).into()
}

#[expect(clippy::print_stderr, reason = "it is a program's last word")]
fn fail(error: &io::Error) -> ! {
    eprintln!("the demonstration failed: {error}");
    std::process::exit(1)
}

fn perform() -> io::Result<()> {
    let program = env::current_exe()?;
    let steps = steps::of(&program.file_stem().unwrap_or_default().to_string_lossy())
        .ok_or_else(|| io::Error::other("this program has none: give it an endpoint"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let etcd = runtime.block_on(EmbeddedEtcd::start(ModelConfig::default()))?;
    let proxy = runtime.block_on(FaultProxy::start(etcd.endpoint()))?;
    let directory = tempfile::tempdir()?;
    let start = || Program::start(&proxy.endpoint(), directory.path().join("file"));
    let mut program = Some(start()?);
    for step in steps {
        if !matches!(step, Step::Until(_)) {
            thread::sleep(PAUSE);
        }
        match step {
            Step::Type(line) => program.as_mut().ok_or_else(not_running)?.read(line)?,
            Step::Until(begin) => {
                program.as_ref().ok_or_else(not_running)?.prints(begin)?;
            }
            Step::Get(begin) => program.as_ref().ok_or_else(not_running)?.get_until(begin)?,
            Step::Hold => proxy.hold(),
            Step::Release => proxy.release(),
            Step::Kill => program = None,
            Step::Start => program = Some(start()?),
            change => {
                let address = etcd.address().to_string();
                etcd.with_model(|model| apply(change, model, &address)).map_err(io::Error::other)?;
            }
        }
    }
    thread::sleep(PAUSE);
    Ok(())
}

fn not_running() -> io::Error {
    io::Error::other("the program is not running at this step")
}

/// Changes the store.
fn apply(
    step: &Step,
    model: &mut ModelEtcd,
    address: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match step {
        Step::Put(key, value) => {
            let value = value.replace("{address}", address).into();
            model.put(&PutRequest { key: (*key).into(), value, ..PutRequest::default() })?;
        }
        Step::Delete(key) => {
            model
                .delete_range(&DeleteRangeRequest { key: (*key).into(), ..DeleteRangeRequest::default() })?;
        }
        Step::EndLeases => {
            for lease in model.lease_leases().leases {
                model.lease_revoke(&LeaseRevokeRequest { id: lease.id })?;
            }
        }
        Step::Type(_)
        | Step::Until(_)
        | Step::Get(_)
        | Step::Hold
        | Step::Release
        | Step::Kill
        | Step::Start => {}
    }
    Ok(())
}

/// The program as a child process. Dropping it kills it.
#[derive(Debug)]
struct Program {
    child: Child,
    stdin: ChildStdin,
    printed: Receiver<String>,
    /// The first line that it printed.
    first: String,
}

impl Program {
    /// Starts it, and waits for the first line that it prints.
    fn start(endpoint: &str, file: PathBuf) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(endpoint).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child process has no pipes"));
        };
        let printed = forward(BufReader::new(stdout));
        let mut program = Self { child, stdin, printed, first: String::new() };
        program.first = program.prints("")?;
        Ok(program)
    }

    /// Asks for the page whose URL it has printed first, again and again until it prints a line that begins so.
    fn get_until(&self, begin: &str) -> io::Result<()> {
        let address = self.first.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut socket = TcpStream::connect(address)?;
            socket.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
            if self.prints("")?.starts_with(begin) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("the program answered nothing that begins with {begin:?}")))
    }

    /// Waits until it prints a line that begins so: that line.
    fn prints(&self, begin: &str) -> io::Result<String> {
        let until = Instant::now() + PATIENCE;
        let left = || until.saturating_duration_since(Instant::now());
        while let Ok(line) = self.printed.recv_timeout(left()) {
            if line.starts_with(begin) {
                return Ok(line);
            }
        }
        Err(io::Error::other(format!("the program printed no line that begins with {begin:?}")))
    }

    fn read(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.stdin, "{line}")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Prints the lines of the program as its own, and passes them on.
fn forward(lines: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, printed) = mpsc::channel();
    thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            #[expect(clippy::print_stdout, reason = "it is what the program printed")]
            {
                println!("{line}");
            }
            // The demonstration may be over.
            let _unheard = sender.send(line);
        }
    });
    printed
}
