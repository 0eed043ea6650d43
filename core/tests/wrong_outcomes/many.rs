//! Many watches on one stream, for tests that drive the machine by hand.

use std::collections::BTreeMap;

use etcd_watch_core::{Action, Request, StreamKey, WatchKey};

use crate::support::*;

/// Answers every create that is asked for, until none is; the watches' ids.
pub(crate) fn create_all(driver: &mut Driver, stream: StreamKey, revision: i64) -> BTreeMap<WatchKey, i64> {
    let mut ids = BTreeMap::new();
    loop {
        driver.collect();
        let mut asked = Vec::new();
        driver.actions.retain(|action| match action {
            Action::Send { stream: of, request: Request::Create(create), creates } if *of == stream => {
                asked.push((creates.map(|creates| creates.watch), create.watch_id));
                false
            }
            _ => true,
        });
        if asked.is_empty() {
            return ids;
        }
        for (watch, id) in asked {
            driver.frame(stream, created_at(id, revision));
            if let Some(watch) = watch {
                ids.insert(watch, id);
            }
        }
    }
}
