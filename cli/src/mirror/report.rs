//! The progress bar of a list, and the statistics.

use std::io::{self, IsTerminal};

use etcd_watch_tokio::ListProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::{
    args::{Format, Global},
    log,
};

/// What has been done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Statistics {
    pub(super) puts: u64,
    pub(super) deletes: u64,
    pub(super) left_alone: u64,
    pub(super) lists: u64,
}

impl Statistics {
    /// The line at the end.
    pub(super) fn line(self, global: &Global, revision: i64, is_exact: bool, transactions: u64) -> String {
        let Self { puts, deletes, left_alone, lists } = self;
        if global.write_out == Format::Json {
            let object = json!({
                "type": "end", "revision": revision, "exact": is_exact, "puts": puts, "deletes": deletes,
                "left_alone": left_alone, "transactions": transactions, "lists": lists,
            });
            return format!("{object}\n");
        }
        let place = if is_exact { "mirrored up to revision" } else { "in the middle of a copy of revision" };
        format!(
            "{place} {revision}: {puts} puts, {deletes} deletes, {transactions} transactions, {lists} lists, \
             {left_alone} extra keys left alone\n"
        )
    }
}

/// Shows on a terminal how far a list is; elsewhere nothing.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Draws only if standard error is a terminal.
    pub(super) fn new() -> Self {
        Self::on(ProgressDrawTarget::stderr())
    }

    /// Draws only if standard error is a terminal and the keys go elsewhere.
    pub(super) fn beside_output() -> Self {
        let is_shown = !io::stdout().is_terminal();
        Self::on(if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() })
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{bar:30} {pos}/{len} keys, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// A list begins, perhaps again.
    pub(super) fn restart(&self) {
        self.bar.reset();
    }

    /// So many keys have been dealt with.
    pub(super) fn add(&self, keys: u64) {
        self.bar.inc(keys);
    }

    /// How many keys there are is known from the list's first page on.
    pub(super) fn expect(&self, list: Option<ListProgress>) {
        if let Some(total) = list.and_then(|list| list.total) {
            self.bar.set_length(total);
        }
    }

    /// How far the list has come.
    pub(super) fn at(&self, list: Option<ListProgress>) {
        self.expect(list);
        if let Some(list) = list {
            self.bar.set_position(list.keys);
        }
    }

    pub(super) fn done(&self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }

    /// A warning on standard error, above the bar.
    pub(super) fn warning(&self, text: &str) {
        self.bar.suspend(|| log::warning(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}
