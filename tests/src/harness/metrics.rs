//! What a server counts, from its metrics.

use std::{io, net::SocketAddr};

use super::{EtcdServer, HarnessError, http, start::PAGE_TIMEOUT};

impl EtcdServer {
    /// The value of one of its metrics, summed over the metric's labels.
    ///
    /// # Errors
    /// If the server doesn't answer, or has no such metric.
    pub fn metric(&self, name: &str) -> Result<f64, HarnessError> {
        self.metrics_page()?.get(name).ok_or_else(|| self.no_metric(name))
    }

    fn metrics_page(&self) -> Result<Metrics, HarnessError> {
        Metrics::read(self.pages_address()).map_err(HarnessError::io("read etcd's metrics"))
    }

    fn no_metric(&self, name: &str) -> HarnessError {
        HarnessError::NoMetric { name: name.to_owned(), version: self.version().to_string() }
    }

    /// How many calls of a gRPC method it has begun to answer, over all clients.
    ///
    /// # Errors
    /// If the server doesn't answer, or doesn't count calls.
    pub fn calls_begun(&self, method: &str) -> Result<u64, HarnessError> {
        const CALLS: &str = "grpc_server_started_total";
        let label = format!("grpc_method=\"{method}\"");
        let page = self.metrics_page()?;
        page.get(CALLS).ok_or_else(|| self.no_metric(CALLS))?;
        // A method that the server doesn't know has no count.
        Ok(page.sum(CALLS, |labels| labels.contains(&label)).unwrap_or(0.0) as u64)
    }

    /// How many watches it holds, over all clients.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn watcher_count(&self) -> Result<u64, HarnessError> {
        Ok(self.metric("etcd_debugging_mvcc_watcher_total")? as u64)
    }

    /// How many of its watches still catch up with history.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn slow_watcher_count(&self) -> Result<u64, HarnessError> {
        Ok(self.metric("etcd_debugging_mvcc_slow_watcher_total")? as u64)
    }

    /// How many watch streams it holds, over all clients.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn watch_stream_count(&self) -> Result<u64, HarnessError> {
        Ok(self.metric("etcd_debugging_mvcc_watch_stream_total")? as u64)
    }

    /// Whether it takes itself for the leader.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn is_leader(&self) -> Result<bool, HarnessError> {
        Ok(self.metric("etcd_server_is_leader")? == 1.0)
    }

    /// Whether it knows of a leader, itself or another.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub fn has_leader(&self) -> Result<bool, HarnessError> {
        Ok(self.metric("etcd_server_has_leader")? == 1.0)
    }
}

/// A page of metrics.
pub(super) struct Metrics(String);

impl Metrics {
    pub(super) fn read(address: SocketAddr) -> io::Result<Self> {
        http::get(address, "/metrics", PAGE_TIMEOUT).map(Metrics)
    }

    /// The sum of a metric's samples.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.sum(name, |_| true)
    }

    /// The sum of those of a metric's samples whose labels are wanted.
    fn sum(&self, name: &str, is_wanted: impl Fn(&str) -> bool) -> Option<f64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_whole_name = labels.is_empty() || labels.starts_with('{');
            (is_whole_name && is_wanted(labels)).then(|| value.parse::<f64>().ok())?
        });
        values.fold(None, |sum: Option<f64>, value| Some(sum.unwrap_or(0.0) + value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_mixed_with_others() {
        let page = "# HELP watcher_total Watchers.\n# TYPE watcher_total gauge\nwatcher_total 3\n\
                    watcher_total_more 100\nsent{to=\"a b\"} 1.5e+06\nsent{to=\"c\"} 2\n";
        let page = Metrics(page.to_owned());
        assert_eq!(page.get("watcher_total"), Some(3.0));
        assert_eq!(page.get("sent"), Some(1_500_002.0));
        assert_eq!(page.get("watcher"), None);
        assert_eq!(page.sum("sent", |labels| labels.contains("to=\"c\"")), Some(2.0));
    }
}
