//! What the programs of the bench share.

pub mod meter;
pub mod process;
pub mod running;
pub mod usage;

/// What the keys of all events begin with.
pub const PREFIX: &str = "/registry/pods/";

/// HTTP/2's windows of this project's client, in bytes: of a stream, and of a connection.
pub const STREAM_WINDOW: u32 = 2 << 20;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 32 << 20;

/// The figure in the middle, or between the two there; not a number without figures.
#[must_use]
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.get(middle) {
        None => f64::NAN,
        Some(_) if figures.len().is_multiple_of(2) => f64::midpoint(figures[middle - 1], figures[middle]),
        Some(&median) => median,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_or_between_the_two_there() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
