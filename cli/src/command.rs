//! What `watch` runs for each event.

use std::{
    cmp::Reverse,
    ffi::{OsStr, OsString},
    future::pending,
    io,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, bail};
use etcd_watch_tokio::{Event, EventKind, Header};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, Command},
};

use crate::{
    child,
    output::{self, quote},
};

/// Names the variables for which there was no room.
const LEFT_OUT: &str = "ETCD_WATCH_LEFT_OUT";

/// Runs the command for an event and waits for it. Dropping the future kills it.
///
/// # Errors
/// A command that can't be started, or that fails.
pub(crate) async fn run(command: &[OsString], header: Header, event: &Event<'_>) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let start = || start(program, arguments, header, event);
    let mut child = start().with_context(|| format!("can't run {program:?}"))?;
    let input = output::event_json(header, event);
    let stdin = child.stdin.take();
    let status: ExitStatus = tokio::select! {
        status = child.wait() => status?,
        // What it has not read when it ends, it doesn't want.
        () = feed(stdin, &input) => unreachable!("it goes on until it is dropped"),
    };
    if !status.success() {
        bail!(
            "{program:?} failed for key {} at revision {}: {status}",
            quote::quoted(event.key()),
            event.mod_revision()
        );
    }
    Ok(())
}

/// Starts the command with the event in its environment. A system limits how long variables may be, each and
/// all together, and tells only by refusing: then the longer of key and value is left out, or both.
fn start(program: &OsStr, arguments: &[OsString], header: Header, event: &Event<'_>) -> io::Result<Child> {
    let mut contents =
        [("ETCD_WATCH_KEY", quote::quoted(event.key())), ("ETCD_WATCH_VALUE", quote::quoted(event.value()))];
    contents.sort_by_key(|(_, text)| Reverse(text.len()));
    let mut command = Command::new(program);
    child::keep_passwords_from(&mut command);
    command
        .args(arguments)
        .env("ETCD_WATCH_REVISION", header.revision.to_string())
        .env(
            "ETCD_WATCH_EVENT_TYPE",
            if event.kind() == EventKind::Delete { "\"DELETE\"" } else { "\"PUT\"" },
        )
        .envs(contents.iter().map(|(name, text)| (name, text)))
        .env_remove(LEFT_OUT)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    let mut left_out = Vec::new();
    let mut rest = contents.iter();
    loop {
        let refused = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => error,
            result => return result,
        };
        let Some((name, _)) = rest.next() else { return Err(refused) };
        left_out.push(*name);
        command.env_remove(name).env(LEFT_OUT, left_out.join(" "));
    }
}

/// Writes the event to the command's standard input and closes it. Never completes.
async fn feed(stdin: Option<ChildStdin>, event: &[u8]) {
    if let Some(mut stdin) = stdin {
        // A command need not read it.
        let _ = stdin.write_all(event).await;
    }
    pending().await
}
