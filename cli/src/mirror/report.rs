//! The progress bar of the first copy, and the statistics.

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

/// Shows on a terminal how far a copy is; elsewhere nothing.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(keys: u64) -> Self {
        // Draws only if standard error is a terminal.
        let bar = ProgressBar::with_draw_target(Some(keys), ProgressDrawTarget::stderr());
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

    pub(super) fn add(&self, keys: u64) {
        self.bar.inc(keys);
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
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
