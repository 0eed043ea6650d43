//! Making a list that fails shorter.

/// Leaves out what the failure doesn't need, as far as that is found: first many entries at once, then one by one. `run`
/// tells whether, and how, a shorter list fails; it is asked `runs` times at most. Returns the shortest list that fails
/// and its failure.
pub(crate) fn shortest<T: Clone, F>(
    mut list: Vec<T>,
    mut failure: F,
    runs: usize,
    mut run: impl FnMut(&[T]) -> Option<F>,
) -> (Vec<T>, F) {
    let mut left = runs;
    let mut chunk = list.len().div_ceil(2).max(1);
    loop {
        let (mut at, mut has_shrunk) = (0, false);
        while at < list.len() {
            if left == 0 {
                return (list, failure);
            }
            left -= 1;
            let mut shorter = list.clone();
            shorter.drain(at..(at + chunk).min(shorter.len()));
            match run(&shorter) {
                Some(smaller) => (list, failure, has_shrunk) = (shorter, smaller, true),
                None => at += chunk,
            }
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else if !has_shrunk {
            return (list, failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let mut runs = 0;
        let (list, failure) = shortest((0..100).collect(), 0, 1000, |list: &[i32]| {
            runs += 1;
            (list.contains(&17) && list.contains(&80)).then_some(list.len())
        });
        assert_eq!((list, failure), (vec![17, 80], 2));
        assert!(runs < 60, "{runs}");
    }

    #[test]
    fn it_asks_no_more_often_than_it_may() {
        let mut runs = 0;
        let (list, _) = shortest((0..100).collect(), (), 3, |list: &[i32]| {
            runs += 1;
            list.contains(&17).then_some(())
        });
        assert_eq!(runs, 3);
        assert!(list.len() <= 50 && list.contains(&17), "{list:?}");
    }

    #[test]
    fn nothing_is_left_of_a_list_that_the_failure_does_not_need() {
        let (list, ()) = shortest(vec![1, 2, 3], (), 100, |_| Some(()));
        assert!(list.is_empty(), "{list:?}");
    }
}
