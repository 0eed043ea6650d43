//! Tests of the list of endpoints.

use super::*;

fn endpoint(port: u16) -> Arc<Endpoint> {
    Arc::new(format!("host:{port}").parse().unwrap())
}

fn list(ports: impl IntoIterator<Item = u16>) -> List {
    List::new(ports.into_iter().map(|port| Endpoint::clone(&endpoint(port))).collect())
}

fn fail(list: &mut List, port: u16) {
    list.failed(&endpoint(port), Instant::ZERO);
}

fn port(endpoint: &Endpoint) -> u16 {
    match endpoint.address() {
        crate::Address::Tcp { port, .. } => port,
        crate::Address::Unix { .. } => 0,
    }
}

fn tried(list: &List) -> Vec<u16> {
    list.tried().iter().map(|endpoint| port(endpoint)).collect()
}

fn pick(list: &List, avoid: Option<u16>) -> u16 {
    port(&list.candidates(avoid.map(endpoint).as_deref())[0])
}

fn order(list: &List, avoid: Option<u16>) -> Vec<u16> {
    let candidates = list.candidates(avoid.map(endpoint).as_deref());
    candidates.iter().map(|endpoint| port(endpoint)).collect()
}

fn sync(list: &mut List, listed: &[u16], answered: &[u16]) -> Synced {
    let listed: Vec<_> = listed.iter().copied().map(endpoint).collect();
    let answered = answered.iter().copied().map(endpoint).collect();
    let given = list.given();
    list.sync(&given, &listed, &answered)
}

#[test]
fn the_first_is_preferred_until_it_fails() {
    let mut list = list(1..=3);
    for expected in [1, 2, 3, 1, 2] {
        assert_eq!(pick(&list, None), expected);
        fail(&mut list, expected);
    }
}

#[test]
fn a_failure_reported_twice_does_not_move_the_others() {
    let mut list = list(1..=3);
    fail(&mut list, 1);
    fail(&mut list, 1);
    assert_eq!(pick(&list, None), 2);
    assert_eq!(pick(&list, Some(2)), 3);
}

#[test]
fn another_is_another_if_there_is_one() {
    let three = list(1..=3);
    assert_eq!(pick(&three, Some(1)), 2);
    assert_eq!(pick(&three, Some(3)), 1);
    assert_eq!(pick(&list([1]), Some(1)), 1);
}

#[test]
fn an_endpoint_that_stays_down_is_warned_of_every_ten_seconds() {
    let mut list = list(1..=2);
    let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
    let warned: Vec<_> = [0, 1, 9, 10, 11, 20].map(|seconds| list.failed(&endpoint(1), at(seconds))).into();
    assert_eq!(warned, [true, false, false, true, false, true]);
    assert!(list.failed(&endpoint(2), at(11)), "each has its own");
    assert_eq!(list.answered(&endpoint(1)), Standing::Down);
    assert!(!list.failed(&endpoint(1), at(21)), "one that comes and goes is no news either");
    assert_eq!(list.answered(&endpoint(1)), Standing::DownUnsaid, "nor is that it answers again");
    assert_eq!(list.answered(&endpoint(1)), Standing::Up);
    assert!(!list.failed(&endpoint(3), at(21)), "it is not in the list");
}

#[test]
fn an_endpoint_given_twice_counts_once() {
    let same = ["host:1", "http://host:1/", "host:2"];
    assert_eq!(List::new(same.iter().map(|text| text.parse().unwrap()).collect()).len(), 2);
}

#[test]
fn other_endpoints_that_are_given_replace_all_and_keep_what_is_known() {
    let mut list = list(1..=2);
    fail(&mut list, 1);
    let give = |list: &mut List, ports: &[u16]| {
        list.give(ports.iter().map(|&port| Endpoint::clone(&endpoint(port))).collect())
    };
    assert!(!give(&mut list, &[2, 1]), "the order of the list is the client's");
    assert!(give(&mut list, &[1, 3]));
    assert_eq!(tried(&list), [3, 1], "the one that is down comes last");
    assert!(!list.contains(&endpoint(2)) && list.len() == 2, "it is forgotten");
    assert!(!give(&mut list, &[]));
    assert_eq!(list.len(), 2);
}

#[test]
fn streams_go_where_the_fewest_are_and_not_where_it_is_down() {
    let mut list = list(1..=3);
    let streams = |counts: [usize; 3]| (1..).map(endpoint).zip(counts).collect::<HashMap<_, _>>();
    let pick = |list: &List, avoid: Option<u16>, counts| {
        port(&list.candidates_for_stream(avoid.map(endpoint).as_deref(), &streams(counts))[0])
    };
    assert_eq!(pick(&list, None, [0, 0, 0]), 1);
    assert_eq!(pick(&list, None, [1, 1, 0]), 3);
    fail(&mut list, 3);
    assert_eq!(pick(&list, None, [1, 1, 0]), 1);
    assert_eq!(pick(&list, Some(1), [1, 1, 0]), 2);
    fail(&mut list, 1);
    assert!(list.another_is_up(&endpoint(1)) && !list.another_is_up(&endpoint(2)));
    fail(&mut list, 2);
    assert_eq!(pick(&list, None, [1, 1, 0]), 3, "it failed first");
    assert_eq!(pick(&list, None, [1, 1, 2]), 3, "it failed first");
}

#[test]
fn streams_are_spread_over_the_endpoints_that_are_up() {
    let mut list = list(1..=3);
    let misplaced =
        |list: &List, on: &[u16]| list.misplaced(&on.iter().copied().map(endpoint).collect::<Vec<_>>());
    assert_eq!(misplaced(&list, &[1]), [0; 0]);
    assert_eq!(misplaced(&list, &[1, 1, 1]).len(), 2);
    assert_eq!(misplaced(&list, &[1, 2, 3, 3]), [0; 0]);
    assert_eq!(misplaced(&list, &[1, 1, 1, 1, 2]), [2, 3]);
    fail(&mut list, 3);
    assert_eq!(misplaced(&list, &[1, 2, 3]), [2], "nothing stays where it is down");
    assert_eq!(misplaced(&list, &[1, 1]), [1]);
    fail(&mut list, 1);
    fail(&mut list, 2);
    assert_eq!(misplaced(&list, &[1, 1, 1]), [0; 0], "there is nowhere to go");
}

#[test]
fn a_new_endpoint_takes_part_once_it_has_answered() {
    let mut list = list([1]);
    assert_eq!(sync(&mut list, &[1, 2, 3], &[3]), Synced::Changed);
    assert_eq!(tried(&list), [1, 3]);
    assert_eq!(sync(&mut list, &[1, 2, 3], &[]), Synced::Same);
    assert_eq!(sync(&mut list, &[1, 2, 3], &[2]), Synced::Changed);
    assert_eq!(tried(&list), [1, 3, 2]);
}

#[test]
fn a_list_nobody_answers_at_replaces_nothing() {
    let mut list = list([1, 2]);
    assert_eq!(sync(&mut list, &[3, 4], &[]), Synced::NoneUp);
    assert_eq!(tried(&list), [1, 2]);
    fail(&mut list, 1);
    assert_eq!(sync(&mut list, &[1, 3], &[]), Synced::NoneUp, "the one that stays is down");
    assert_eq!(tried(&list), [2, 1]);
    assert_eq!(list.len(), 2, "and nothing of it is kept");
}

#[test]
fn the_given_endpoints_are_the_last_resort() {
    let mut list = list([1]);
    assert_eq!(sync(&mut list, &[2, 3], &[2, 3]), Synced::Changed);
    assert_eq!(tried(&list), [2, 3]);
    assert!(!list.contains(&endpoint(1)));
    assert_eq!(pick(&list, Some(2)), 3);
    assert!(list.has_other_than(&endpoint(2)));
    fail(&mut list, 2);
    assert_eq!(order(&list, Some(3)), [2, 3, 1], "the one in use that is up comes before it");
    assert_eq!(sync(&mut list, &[3], &[]), Synced::Changed);
    assert_eq!(order(&list, Some(3)), [3, 1]);
    assert!(!list.has_other_than(&endpoint(3)), "it is the only one in use");
    assert_eq!(order(&list, None), [3, 1]);
    assert_eq!(sync(&mut list, &[2, 3], &[2]), Synced::Changed);
    fail(&mut list, 2);
    fail(&mut list, 3);
    assert_eq!((pick(&list, None), tried(&list)), (1, vec![1, 2, 3]));
    assert!(list.contains(&endpoint(1)));
    assert_eq!(list.misplaced(&[endpoint(2), endpoint(1)]), [0]);
    fail(&mut list, 1);
    assert_eq!((pick(&list, None), tried(&list)), (2, vec![2, 3, 1]));
    assert_ne!(list.answered(&endpoint(3)), Standing::Up);
    assert_eq!((pick(&list, None), tried(&list)), (3, vec![3, 2]));
    assert_eq!(list.misplaced(&[endpoint(3), endpoint(1)]), [1]);
    // They may be listed again.
    assert_eq!(sync(&mut list, &[1, 3], &[1]), Synced::Changed);
    assert_eq!(list.len(), 2);
}

#[test]
fn a_member_list_from_before_other_endpoints_were_given_changes_nothing() {
    let mut list = list([1]);
    let given = list.given();
    list.give(vec![Endpoint::clone(&endpoint(2))]);
    let listed = [endpoint(3)];
    assert_eq!(list.sync(&given, &listed, &listed.iter().cloned().collect()), Synced::Outdated);
    assert_eq!(tried(&list), [2]);
}

#[test]
fn endpoints_that_have_left_are_forgotten() {
    let mut list = list([1]);
    for round in 0..1_000_u16 {
        let (old, new) = (2 + round, 3 + round);
        assert_eq!(sync(&mut list, &[old, new], &[old, new]), Synced::Changed);
        assert!(list.len() <= 3, "{}", list.len());
    }
}

#[test]
fn one_that_was_overtaken_is_tried_last_until_it_is_up() {
    let mut list = list([1, 2, 3]);
    list.overtaken(&endpoint(1));
    assert_eq!(order(&list, None), [2, 3, 1]);
    assert_eq!(order(&list, Some(2)), [3, 1, 2]);
    let streams = HashMap::from([(endpoint(2), 1), (endpoint(3), 1)]);
    assert_eq!(port(&list.candidates_for_stream(None, &streams)[0]), 2, "no stream goes to it");
    assert_ne!(list.answered(&endpoint(1)), Standing::Up);
    assert_eq!(port(&list.candidates_for_stream(None, &streams)[0]), 1);
}
