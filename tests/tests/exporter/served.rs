//! What an exporter serves, and what the documentation lists.

use std::collections::{BTreeMap, BTreeSet};

/// The type and the labels of metrics, by name.
pub(crate) type Metrics = BTreeMap<String, Metric>;

/// A metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) kind: String,
    pub(crate) labels: BTreeSet<String>,
}

/// A line of the text format with a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The samples in Prometheus' text format. No value of a label has a quote or a comma here.
pub(crate) fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?.split(',').filter(|label| !label.is_empty());
        let label = |label: &str| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        };
        let labels = labels.map(label).collect::<Option<_>>()?;
        Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
    };
    lines.map(|line| sample(line).unwrap_or_else(|| panic!("this is no sample: {line}"))).collect()
}

/// The metrics in Prometheus' text format. A histogram's own label, `le`, is not among its labels.
pub(crate) fn served(text: &str) -> Metrics {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let metric = |(name, kind): (&str, &str)| {
        (name.to_owned(), Metric { kind: kind.to_owned(), labels: BTreeSet::new() })
    };
    let mut metrics: Metrics = types.map(metric).collect();
    for sample in samples(text) {
        let name = family(&metrics, &sample.name).unwrap_or_else(|| panic!("{} has no type", sample.name));
        let labels = sample.labels.into_keys().filter(|label| label != "le");
        metrics.entry(name).or_default().labels.extend(labels);
    }
    metrics
}

/// The metric that a series belongs to: a histogram has three.
pub(crate) fn family(metrics: &Metrics, series: &str) -> Option<String> {
    let is_histogram = |name: &&str| metrics.get(*name).is_some_and(|metric| metric.kind == "histogram");
    let of_histogram =
        ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end).filter(is_histogram));
    let name = of_histogram.or_else(|| metrics.get_key_value(series).map(|(name, _)| &name[..]))?;
    (is_histogram(&name) == of_histogram.is_some()).then(|| name.to_owned())
}

/// The metrics in the tables of `docs/metrics.md`, in their order.
pub(crate) fn documented(text: &str) -> Vec<(String, Metric)> {
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [name, kind, labels, meaning] = cells[..] else { return None };
        let [name] = &words(name)[..] else { return None };
        assert!(meaning.len() > 10, "{name} has no meaning");
        let labels = words(labels).into_iter().collect();
        Some((name.clone(), Metric { kind: kind.to_owned(), labels }))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_text_format_is_read() {
    let text = "# TYPE a_seconds histogram\na_seconds_bucket{x=\"1\",le=\"+Inf\"} 2\na_seconds_count{x=\"1\"} 2\n\n\
                # HELP b words\n# TYPE b gauge\nb 1.5\n";
    let metrics = served(text);
    assert_eq!(metrics["a_seconds"].labels, BTreeSet::from(["x".to_owned()]));
    assert_eq!((&metrics["b"].kind[..], samples(text)[2].value), ("gauge", 1.5));
    assert_eq!(family(&metrics, "a_seconds_bucket").as_deref(), Some("a_seconds"));
    assert_eq!((family(&metrics, "a_seconds"), family(&metrics, "b_sum")), (None, None));
}
