//! What `watch` runs for each event.

use std::{ffi::OsString, process::ExitStatus};

use anyhow::{Context, bail};
use etcd_watch_tokio::{Event, EventKind, Header};
use tokio::process::Command;

use crate::output::quote;

/// Runs the command for an event and waits for it. Dropping the future kills it.
///
/// # Errors
/// A command that can't be started, or that fails.
pub(crate) async fn run(command: &[OsString], header: Header, event: &Event<'_>) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let kind = match event.kind() {
        EventKind::Delete => "\"DELETE\"",
        _ => "\"PUT\"",
    };
    let status: ExitStatus = Command::new(program)
        .args(arguments)
        .env("ETCD_WATCH_REVISION", header.revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", kind)
        .env("ETCD_WATCH_KEY", quote::quoted(event.key()))
        .env("ETCD_WATCH_VALUE", quote::quoted(event.value()))
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("can't run {program:?}"))?;
    if !status.success() {
        bail!(
            "{program:?} failed for key {} at revision {}: {status}",
            quote::quoted(event.key()),
            event.mod_revision()
        );
    }
    Ok(())
}
