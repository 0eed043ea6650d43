//! Trying several ways at once, the next a moment after the one before it (RFC 8305, "happy eyeballs").

use std::{future::Future, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    Runtime,
    runtime::{BoxFuture, timeout},
};

/// How long one way is waited for before the next is tried beside it: RFC 8305's "connection attempt delay".
pub(crate) const STAGGER: Duration = Duration::from_millis(250);

/// One attempt, with what it was made for.
type Attempt<'a, K, T, E> = BoxFuture<'a, (K, Result<T, E>)>;

/// How a race was won.
pub(crate) struct Won<'a, K, T, E> {
    pub(crate) winner: K,
    pub(crate) value: T,
    /// Began before the winner, and are still under way: they are slow, or hang.
    pub(crate) overtaken: Vec<K>,
    /// Every attempt that is still under way.
    pub(crate) under_way: FuturesUnordered<Attempt<'a, K, T, E>>,
}

/// Tries the entrants in order, each a quarter of a second after the one before it or as soon as another has failed;
/// the first that succeeds wins.
///
/// # Errors
/// What became of each, when all have failed or there is none.
pub(crate) async fn race<'a, K, T, E, F>(
    runtime: &dyn Runtime,
    entrants: impl IntoIterator<Item = K>,
    mut attempt: impl FnMut(K) -> F,
) -> Result<Won<'a, K, T, E>, Vec<(K, E)>>
where
    K: Clone + PartialEq + Send + 'a,
    F: Future<Output = Result<T, E>> + Send + 'a,
{
    let mut entrants = entrants.into_iter().peekable();
    let mut under_way: FuturesUnordered<Attempt<'a, K, T, E>> = FuturesUnordered::new();
    let mut running: Vec<K> = Vec::new();
    let mut failures = Vec::new();
    loop {
        if let Some(entrant) = entrants.next() {
            running.push(entrant.clone());
            let attempt = attempt(entrant.clone());
            under_way.push(Box::pin(async move { (entrant, attempt.await) }));
        }
        let finished = if entrants.peek().is_some() {
            timeout(runtime, STAGGER, under_way.next()).await
        } else {
            Some(under_way.next().await)
        };
        match finished {
            Some(Some((winner, Ok(value)))) => {
                running.truncate(running.iter().position(|each| *each == winner).unwrap_or(0));
                return Ok(Won { winner, value, overtaken: running, under_way });
            }
            Some(Some((loser, Err(error)))) => {
                running.retain(|each| *each != loser);
                failures.push((loser, error));
            }
            Some(None) => return Err(failures),
            // Still under way: the next beside it.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt, future::Either};

    use super::*;
    use crate::testing::{NoNetwork, NoTime};

    #[test]
    fn the_next_begins_when_one_has_failed_and_the_first_to_succeed_wins() {
        let attempt = |n: u32| ready(if n < 3 { Err(n) } else { Ok(n * 10) });
        let won = race(&NoNetwork, [1, 2, 3, 4], attempt).now_or_never().expect("at once");
        let won = won.ok().expect("one succeeds");
        assert_eq!((won.winner, won.value, won.overtaken.len(), won.under_way.len()), (3, 30, 0, 0));
    }

    #[test]
    fn one_that_hangs_is_overtaken() {
        let attempt = |n: u32| {
            if n == 1 { Either::Left(pending::<Result<u32, u32>>()) } else { Either::Right(ready(Ok(n))) }
        };
        let won = race(&NoTime, [1, 2, 3], attempt).now_or_never().expect("no time passes");
        let won = won.ok().expect("one succeeds");
        assert_eq!((won.winner, won.overtaken, won.under_way.len()), (2, vec![1], 1));
        assert!(race(&NoNetwork, [1, 2, 3], attempt).now_or_never().is_none(), "but only after a while");
    }

    #[test]
    fn when_all_have_failed_every_cause_is_told() {
        let failed =
            race(&NoNetwork, [1, 2], |n| ready(Err::<(), _>(n * 10))).now_or_never().expect("at once");
        assert_eq!(failed.err(), Some(vec![(1, 10), (2, 20)]));
        let none = race(&NoNetwork, [0; 0], |n| ready(Err::<(), _>(n))).now_or_never().expect("at once");
        assert_eq!(none.err(), Some(vec![]));
    }
}
