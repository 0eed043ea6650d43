//! Each program as a process, on an embedded etcd: what it prints, through restarts and cuts.

mod common;

use common::{Program, Store, demonstration, lines_of_code};
use etcd_watch_testkit::proxy::{Cut, FaultProxy};
use tempfile::tempdir;

const CHECKPOINT: [&str; 2] = [env!("CARGO_BIN_EXE_checkpoint"), env!("CARGO_BIN_EXE_checkpoint-smol")];
const CACHED_LOOKUP: [&str; 2] =
    [env!("CARGO_BIN_EXE_cached-lookup"), env!("CARGO_BIN_EXE_cached-lookup-smol")];
const LEADER_ONLY: &str = env!("CARGO_BIN_EXE_leader-only");
const TRANSFER: &str = env!("CARGO_BIN_EXE_transfer");
const CONFIG_RELOAD: &str = env!("CARGO_BIN_EXE_config-reload");
const DISCOVERY_CHANNEL: &str = env!("CARGO_BIN_EXE_discovery-channel");
const READINESS: &str = env!("CARGO_BIN_EXE_readiness");

#[test]
fn no_program_has_more_than_25_lines() {
    let programs = lines_of_code(&["src/bin", "sqlite-replica/src"]);
    assert_eq!(programs.len(), 10, "{programs:?}");
    assert!(programs.iter().all(|&(_, lines)| lines <= 25), "{programs:?}");
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_and_a_cut_with_exactly_the_next_change() {
    for program in CHECKPOINT {
        let store = Store::start("etcd").await;
        let proxy = FaultProxy::start(store.endpoint()).await.expect("a port");
        let directory = tempdir().expect("a directory");
        let file = directory.path().join("orders.checkpoint");
        let start = || Program::start(program, &proxy.endpoint(), &file);

        let mut orders = start();
        orders.until("everything before 2@").await;
        store.put("orders/1", "tea");
        assert_eq!(orders.until("everything before 3@").await, ["Put orders/1 tea"]);
        assert!(proxy.cut_all(Cut::Reset) > 0);
        store.put("orders/2", "milk");
        assert_eq!(orders.until("everything before 4@").await, ["Put orders/2 milk"]);
        drop(orders);

        store.delete("orders/1");
        let mut orders = start();
        orders.until("everything before 4@").await;
        assert_eq!(orders.until("everything before 5@").await, ["Delete orders/1 "]);
    }
}

#[tokio::test]
async fn a_watch_does_not_resume_in_another_store() {
    for program in CHECKPOINT {
        let directory = tempdir().expect("a directory");
        let file = directory.path().join("orders.checkpoint");
        std::fs::write(&file, "7@abc").expect("it is written");
        let store = Store::start("etcd").await;
        let said = Program::start(program, &store.endpoint(), &file).failure().await;
        assert!(said.contains("StoreChanged") && said.contains("2748"), "{said}");
    }
}

#[tokio::test]
async fn look_ups_are_answered_while_etcd_is_down() {
    for program in CACHED_LOOKUP {
        let mut store = Store::start("etcd").await;
        store.put("users/ann", "admin");
        let mut users = Program::start(program, &store.endpoint(), "".as_ref());
        users.until("1 users are known").await;
        assert_eq!(users.ask("ann").await, "ann: admin");
        assert_eq!(users.ask("ben").await, "ben: unknown");
        store.put("users/ben", "guest");
        while users.ask("ben").await != "ben: guest" {}
        store.stop().await;
        assert_eq!(users.ask("ann").await, "ann: admin");
        assert_eq!(users.ask("ben").await, "ben: guest");
    }
}

#[tokio::test]
async fn only_the_leader_works_and_it_stops_when_it_leads_no_more() {
    let store = Store::start("etcd").await;
    let start = || Program::start(LEADER_ONLY, &store.endpoint(), "".as_ref());
    let mut first = start();
    first.until("working: 2").await;
    let mut second = start();
    while store.keys("elections/worker/") < 2 {
        tokio::task::yield_now().await;
    }
    store.revoke_lease_of_first("elections/worker/");
    first.until("stopped working").await;
    let printed = second.until("working: 1").await;
    assert!(printed.is_empty(), "it worked before it led: {printed:?}");
    second.until("working: 3").await;
    assert_eq!(first.printed_meanwhile(), [""; 0], "it works although another leads");
}

#[tokio::test]
async fn transfers_that_conflict_lose_no_money() {
    let store = Store::start("etcd").await;
    let mut programs = [(); 2].map(|()| Program::start(TRANSFER, &store.endpoint(), "".as_ref()));
    let mut attempts = 0;
    for program in &mut programs {
        let line = program.next_line().await;
        let (made, rest) = line.split_once(" attempts, ").expect("its last line");
        let count = made.rsplit(' ').next().and_then(|count| count.parse::<usize>().ok());
        attempts += count.expect("a number");
        assert_eq!(rest, "and together they have 200");
        assert!(program.ends_well().await);
    }
    assert!(attempts > 18, "they were not in each other's way: {attempts}");
    // The even amounts go from ann to ben, the odd ones back: 20 and 25, twice.
    let balances = ["accounts/ann", "accounts/ben"].map(|account| store.value(account));
    assert_eq!(balances, ["110", "90"]);
}

#[tokio::test]
async fn settings_follow_etcd_and_bad_ones_change_nothing() {
    let store = Store::start("etcd").await;
    let proxy = FaultProxy::start(store.endpoint()).await.expect("a port");
    let mut program = Program::start(CONFIG_RELOAD, &proxy.endpoint(), "".as_ref());
    program.until("there are no settings").await;
    store.put("app/settings", r#"{"workers": 4, "greeting": "hello"}"#);
    program.until("4 workers say hello").await;
    store.put("app/settings", r#"{"workers": "many"}"#);
    program.until("still Some(Settings { workers: 4").await;
    assert!(proxy.cut_all(Cut::Reset) > 0);
    store.put("app/settings", r#"{"workers": 8, "greeting": "hi"}"#);
    program.until("8 workers say hi").await;
}

#[tokio::test]
async fn calls_go_to_the_endpoints_that_are_registered() {
    let store = Store::start("etcd").await;
    let (anna, mut ben) = (Store::start("3.4.1").await, Store::start("3.4.2").await);
    let mut program = Program::start(DISCOVERY_CHANNEL, &store.endpoint(), "".as_ref());
    program.until("endpoints: {}").await;
    store.put("services/status/ben", &ben.registration());
    program.until("version 3.4.2 answers").await;
    store.put("services/status/anna", &anna.registration());
    store.delete("services/status/ben");
    program.until(&format!("endpoints: {{{:?}}}", anna.address())).await;
    ben.stop().await;
    program.until("version 3.4.1 answers").await;
}

#[test]
fn every_program_shows_what_it_does_without_an_etcd() {
    for program in CHECKPOINT {
        let printed = demonstration(program);
        let orders: Vec<&str> = printed.lines().filter(|line| line.starts_with("Put")).collect();
        let expected =
            ["Put orders/1 tea", "Put orders/2 milk, while the program is down", "Put orders/3 cake"];
        assert_eq!(orders, expected, "{printed}");
    }
    for program in CACHED_LOOKUP {
        let expected = ["0 users are known", "ann: unknown", "ann: admin", "ann: guest"];
        assert!(demonstration(program).lines().eq(expected));
    }
    let printed = demonstration(LEADER_ONLY);
    let place = |text: &str| printed.find(text).unwrap_or_else(|| panic!("{text:?} is not in {printed}"));
    assert!(place("working: 1") < place("stopped working"), "{printed}");
    let again = &printed[place("stopped working")..];
    assert!(again.contains("working: 1"), "{printed}");
    let printed = demonstration(TRANSFER);
    assert!(
        printed.contains("9 transfers took") && printed.ends_with("together they have 200\n"),
        "{printed}"
    );
    let printed = demonstration(CONFIG_RELOAD);
    assert!(printed.contains("still Some(") && printed.ends_with("8 workers say hi\n"), "{printed}");
    let printed = demonstration(READINESS);
    let place = |text: &str| printed.find(text).unwrap_or_else(|| panic!("{text:?} is not in {printed}"));
    let late = &printed[place("200 OK: 0 users at revision 1")..];
    assert!(late.contains("503 Service Unavailable: "), "{printed}");
    assert!(printed.ends_with("200 OK: 1 users at revision 2\n"), "{printed}");
    let printed = demonstration(DISCOVERY_CHANNEL);
    assert!(printed.contains("answers") && printed.ends_with("endpoints: {}\n"), "{printed}");
}
