//! `etcd-watch watch` against the embedded etcd.

mod common;

use common::{Running, World, bare, output, text};
use etcd_watch_tokio::proto::etcdserverpb::CompactionRequest;

const HEADER: &str =
    r#"{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":REV,"raft_term":2}"#;

fn header(revision: i64) -> String {
    HEADER.replace("REV", &revision.to_string())
}

/// `a` put at 2 and 3 and deleted at 4; `b` put at 5.
async fn written() -> World {
    let world = World::new().await;
    world.put("a", "1");
    world.put("a", b"x\n\xff".as_slice());
    world.delete("a");
    world.put("b", "3");
    world
}

#[tokio::test]
async fn simple_output_is_type_key_and_value() {
    let world = written().await;
    let output = world.run(&["watch", "a", "c", "--rev", "1", "--until-rev", "5"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"PUT\na\n1\nPUT\na\nx\n\xff\nDELETE\na\n\nPUT\nb\n3\n");
    let output = world.run(&["watch", "a", "--prev-kv", "--hex", "--rev", "3", "--until-rev", "5"]).await;
    let (old, new) = (r"\x61".to_owned() + "\n" + r"\x31", r"\x61".to_owned() + "\n" + r"\x78\x0a\xff");
    let expected = format!("PUT\n{old}\n{new}\nDELETE\n{new}\n\\x61\n\n");
    assert_eq!(text(&output.stdout), expected);
}

#[tokio::test]
async fn json_output_is_what_go_marshals() {
    let world = written().await;
    let output = world
        .run(&["watch", "--prefix", "", "--rev", "1", "--prev-kv", "-w", "json", "--until-rev", "5"])
        .await;
    assert!(output.status.success(), "{output:?}");
    let first = r#"{"key":"YQ==","create_revision":2,"mod_revision":2,"version":1,"value":"MQ=="}"#;
    let second = r#"{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"eAr/"}"#;
    let last = r#"{"key":"Yg==","create_revision":5,"mod_revision":5,"version":1,"value":"Mw=="}"#;
    let expected = format!(
        r#"{{"Header":{},"Events":[{{"kv":{first}}},{{"kv":{second},"prev_kv":{first}}},{{"type":1,"kv":{{"key":"YQ==","mod_revision":4}},"prev_kv":{second}}},{{"kv":{last}}}],"CompactRevision":0,"Canceled":false,"Created":false}}"#,
        header(5)
    );
    assert_eq!(text(&output.stdout), expected + "\n");
}

#[tokio::test]
async fn fields_output_is_a_line_for_each_field() {
    let world = written().await;
    let output =
        world.run(&["watch", "a", "--rev", "3", "-w", "fields", "--prev-kv", "--until-rev", "4"]).await;
    assert!(output.status.success(), "{output:?}");
    let pair = |prefix: &str, create, revision, version, value: &str| {
        format!(
            "\"{prefix}Key\" : \"a\"\n\"{prefix}CreateRevision\" : {create}\n\"{prefix}ModRevision\" : {revision}\n\
             \"{prefix}Version\" : {version}\n\"{prefix}Value\" : \"{value}\"\n\"{prefix}Lease\" : 0\n"
        )
    };
    let expected = [
        "\"ClusterID\" : 14841639068965178418\n\"MemberID\" : 10276657743932975437\n\"Revision\" : 5\n\"RaftTerm\" : 2\n",
        "\"Type\" : PUT\n",
        &pair("Prev", 2, 2, 1, "1"),
        &pair("", 2, 3, 2, r"x\n\xff"),
        "\"Type\" : DELETE\n",
        &pair("Prev", 2, 3, 2, r"x\n\xff"),
        &pair("", 0, 4, 0, ""),
    ]
    .concat();
    assert_eq!(text(&output.stdout), expected);
}

#[tokio::test]
async fn a_watch_from_now_prints_what_happens_as_it_happens() {
    let world = World::new().await;
    world.put("k", "before");
    let mut tool = Running::start(world.tool(&["watch", "k", "-w", "json"]));
    world.until_watchers(1).await;
    for revision in 3..6 {
        assert_eq!(world.put("k", "v"), revision);
        let line = tool.line().await;
        assert!(line.contains(&format!(r#""mod_revision":{revision}"#)), "{line}");
        assert!(line.starts_with(&format!(r#"{{"Header":{}"#, header(revision))), "{line}");
    }
}

#[tokio::test]
async fn until_rev_ends_by_progress_where_no_change_comes() {
    let world = written().await;
    // Nothing of `b` is at or past revision 6.
    world.put("other", "6");
    let output = world.run(&["watch", "b", "--rev", "1", "--until-rev", "6"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "PUT\nb\n3\n");
}

#[tokio::test]
async fn until_rev_waits_for_a_revision_to_come() {
    let world = written().await;
    let mut tool = Running::start(world.tool(&["watch", "a", "--until-rev", "7"]));
    world.until_watchers(1).await;
    world.put("a", "6");
    assert_eq!(tool.lines(3).await, ["PUT", "a", "6"]);
    assert!(tool.child.try_wait().expect("a status").is_none(), "it has ended early");
    world.put("elsewhere", "7");
    let (status, rest, _) = tool.end().await;
    assert!(status.success());
    assert!(rest.is_empty(), "{rest:?}");
    world.until_watchers(0).await;
}

#[tokio::test]
async fn a_compacted_revision_is_an_error_that_says_so() {
    let world = written().await;
    let request = CompactionRequest { revision: 4, ..CompactionRequest::default() };
    world.etcd.with_model(|model| model.compact(&request).expect("compacts"));
    let output = world.run(&["watch", "a", "--rev", "2", "-w", "json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("required revision has been compacted") && stderr.contains("up to 4"),
        "{stderr}"
    );
    let stdout = text(&output.stdout);
    let end = "\"Events\":[],\"CompactRevision\":4,\"Canceled\":true,\"Created\":false}\n";
    assert!(stdout.ends_with(end), "{stdout}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_finds_each_change_in_its_environment() {
    let world = written().await;
    let script =
        r#"printf '%s\n' "$ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE""#;
    let arguments = ["watch", "a", "--rev", "3", "--until-rev", "4", "-w", "json", "--", "sh", "-c", script];
    let output = world.run(&arguments).await;
    assert!(output.status.success(), "{output:?}");
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().skip(1).collect();
    assert_eq!(lines, [r#"5 "PUT" "a" "x\n\xff""#, r#"5 "DELETE" "a" """#]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_finds_each_change_on_its_standard_input_as_json_prints_it() {
    let world = written().await;
    let script = "cat >> \"$0\"";
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("seen");
    let name = file.to_str().expect("text");
    let flags = ["watch", "a", "--rev", "4", "--until-rev", "4", "--prev-kv", "-w", "json"];
    let ran = world.run(&[&flags[..], &["--", "sh", "-c", script, name]].concat()).await;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(std::fs::read_to_string(file).expect("it is there"), text(&ran.stdout));
}

#[cfg(unix)]
#[tokio::test]
async fn what_the_environment_has_no_room_for_is_on_the_commands_standard_input() {
    let world = World::new().await;
    let (long, key) = ("x".repeat(200 << 10), "k".repeat(200 << 10));
    world.put("v", long.clone());
    world.put(&key, "short");
    world.put(&key, long.clone());
    world.put("v", "short");
    // The second line of two has the lengths of what came on standard input.
    let script = r#"printf '%s|%s|%s|' "${ETCD_WATCH_LEFT_OUT-none}" "${ETCD_WATCH_KEY-no key}" "${ETCD_WATCH_VALUE-no value}" |
        sed 's/kkk*/KEY/'; wc -c"#;
    let mut tool =
        world.tool(&["watch", "--prefix", "", "--rev", "2", "--until-rev", "5", "-w", "json", "--"]);
    tool.args(["sh", "-c", script]).env("ETCD_WATCH_LEFT_OUT", "of an outer watch");
    let ran = output(tool).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let stdout = text(&ran.stdout);
    let lines: Vec<&str> = stdout.lines().filter(|line| !line.starts_with('{')).collect();
    let (seen, sizes): (Vec<&str>, Vec<usize>) = lines
        .iter()
        .map(|line| line.rsplit_once('|').expect("a size"))
        .map(|(seen, size)| (seen, size.trim().parse::<usize>().expect("a number")))
        .unzip();
    assert_eq!(
        seen,
        [
            r#"ETCD_WATCH_VALUE|"v"|no value"#,
            r#"ETCD_WATCH_KEY|no key|"short""#,
            r"ETCD_WATCH_KEY ETCD_WATCH_VALUE|no key|no value",
            r#"none|"v"|"short""#,
        ]
    );
    let base64 = (200 << 10) / 3 * 4;
    assert!(sizes[0] > base64 && sizes[1] > base64 && sizes[2] > 2 * base64, "{sizes:?}");
    assert!(sizes[3] < 1000, "{sizes:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_that_reads_nothing_is_not_waited_for_longer_than_it_runs() {
    let world = World::new().await;
    world.put("v", "x".repeat(1 << 20));
    // What it leaves running has its standard input, and reads it no more than it did.
    let script = "sleep 600 <&0 >/dev/null 2>&1 & echo $!";
    let ran = world.run(&["watch", "v", "--rev", "2", "--until-rev", "2", "--", "sh", "-c", script]).await;
    let stdout = text(&ran.stdout);
    let pid = stdout.lines().last().and_then(|pid| pid.parse().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it still runs");
    assert!(ran.status.success(), "{}", text(&ran.stderr));
}

#[cfg(unix)]
#[tokio::test]
async fn a_command_that_fails_ends_the_watch() {
    let world = written().await;
    let output = world.run(&["watch", "a", "--rev", "2", "--", "sh", "-c", "exit 3"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("exit status: 3"), "{output:?}");
    let output = world.run(&["watch", "a", "--rev", "2", "--", "/nonexistent/program"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("can't run"), "{output:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn signals_end_a_watch_cleanly_and_cancel_it_on_the_server() {
    use rustix::process::Signal;
    for (signal, until) in
        [(Signal::INT, false), (Signal::TERM, false), (Signal::INT, true), (Signal::TERM, true)]
    {
        let world = written().await;
        let mut arguments = vec!["watch", "b", "--rev", "2"];
        if until {
            arguments.extend(["--until-rev", "100"]);
        }
        let mut tool = Running::start(world.tool(&arguments));
        assert_eq!(tool.lines(3).await, ["PUT", "b", "3"]);
        tool.signal(signal);
        let (status, _, stderr) = tool.end().await;
        assert_eq!((common::signal_of(status), stderr.as_str()), (Some(signal), ""));
        world.until_watchers(0).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let world = written().await;
    let mut tool = Running::start(world.tool(&["watch", "a", "--rev", "2"]));
    tool.line().await;
    let reading_ends = tool.stop_reading();
    let writing = async {
        loop {
            world.put("a", "more");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        (status, stderr) = reading_ends => assert_eq!((status.code(), stderr.as_str()), (Some(0), "")),
        () = writing => {}
    }
    world.until_watchers(0).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let cases: [(&[&str], &str); 10] = [
        (&["watch"], "<KEY>"),
        (&["watch", "b", "a"], "RANGE_END must be above KEY"),
        (&["watch", "a", "b", "--prefix"], "--prefix"),
        (&["watch", "a", "--rev=-3"], "--rev"),
        (&["watch", "a", "--rev", "x"], "--rev"),
        (&["watch", "a", "--until-rev", "0"], "--until-rev"),
        (&["watch", "a", "-w", "yaml"], "--write-out"),
        (&["watch", "a", "--dial-timeout", "5"], "500ms, 5s or 1m30s"),
        (&["watch", "a", "--endpoints", "https://host:1"], "https"),
        (&["watch", "a", "--endpoints", ","], "endpoint \"\" is malformed"),
    ];
    for (arguments, expected) in cases {
        let output = output(bare(arguments)).await;
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_flag_and_its_variable_are_one_too_many() {
    let cases = [
        ("ETCDCTL_ENDPOINTS", "127.0.0.1:1", ["--endpoints", "127.0.0.1:1"].as_slice()),
        ("ETCDCTL_WRITE_OUT", "json", &["-w", "json"]),
        ("ETCDCTL_HEX", "true", &["--hex"]),
        ("ETCDCTL_DIAL_TIMEOUT", "1s", &["--dial-timeout", "1s"]),
    ];
    for (variable, value, flag) in cases {
        let before = [flag, &["get", "k"]].concat();
        let after = [&["get", "k"], flag].concat();
        for arguments in [before, after] {
            let mut tool = bare(&arguments);
            tool.env(variable, value);
            let output = output(tool).await;
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(text(&output.stderr).contains(&format!("{variable} is set")), "{output:?}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_reported_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = listener.local_addr().expect("its address").to_string();
    drop(listener);
    for command in ["watch", "get", "mirror", "lock"] {
        let output = output(bare(&[command, "k", "--endpoints", &endpoint, "--dial-timeout", "300ms"])).await;
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert!(stderr.contains("can't connect") && stderr.contains(&endpoint), "{stderr}");
        assert!(stderr.contains("300ms"), "{stderr}");
        assert_eq!((stderr.starts_with("error: "), stderr.lines().count()), (true, 1), "{stderr}");
    }
}
