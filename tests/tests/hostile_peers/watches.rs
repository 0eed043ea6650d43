//! Watch streams that no lawful member sends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_client::proto::etcdserverpb::{WatchRequest, WatchResponse, watch_request::RequestUnion};
use etcd_watch_client::proto::mvccpb::{Event, KeyValue};
use etcd_watch_client::{KeyRange, WatchRequest as WatchOptions};
use etcd_watch_testkit::sim::Sim;

use crate::case::Case;
use crate::figures::Bounds;
use crate::grpc::{Call, REVISION, framed, headed, header, message, serve};
use crate::peer::{MINUTE, alone_in_process, answered, run_all};

/// What a watch stream does once a watch is asked for.
enum Step {
    Say(WatchResponse),
    /// Bytes on the stream, with or without a gRPC frame.
    Bytes(Bytes),
    /// The step again and again, ten times a second, so often at a time.
    Flood(usize, WatchResponse),
    End(u32, &'static str),
    Reset,
}

type Steps = Arc<dyn Fn(i64) -> Vec<Step> + Send + Sync>;

/// Answers the creation of a watch with these steps, which are given the watch's id.
fn says(name: &str, steps: impl Fn(i64) -> Vec<Step> + Send + Sync + 'static) -> Case {
    let steps: Steps = Arc::new(steps);
    Case::new(format!("watch: {name}"), move |socket| {
        let steps = steps.clone();
        async move { serve(socket, |call| answer(call, steps.clone())).await }
    })
}

/// The same behind a lawful `Created`.
fn created_then(name: &str, steps: impl Fn(i64) -> Vec<Step> + Send + Sync + 'static) -> Case {
    says(name, move |id| [vec![Step::Say(created(id))], steps(id)].into_iter().flatten().collect())
}

async fn answer(mut call: Call, steps: Steps) -> io::Result<()> {
    if call.method != "Watch" {
        return call.lawful().await;
    }
    while let Some(request) = call.next::<WatchRequest>().await {
        let Some(RequestUnion::CreateRequest(create)) = request.request_union else { continue };
        for step in steps(create.watch_id) {
            match step {
                Step::Say(response) => call.send(message(&response)).await?,
                Step::Bytes(bytes) => call.send(bytes).await?,
                Step::Flood(times, response) => loop {
                    call.send(message(&response).repeat(times).into()).await?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                },
                Step::End(code, text) => return call.end(code, text).await,
                // Dropped before its end, a stream is reset.
                Step::Reset => return Ok(()),
            }
        }
    }
    call.stay().await
}

fn response(id: i64) -> WatchResponse {
    WatchResponse { header: Some(header(REVISION)), watch_id: id, ..WatchResponse::default() }
}

fn created(id: i64) -> WatchResponse {
    WatchResponse { created: true, ..response(id) }
}

fn canceled(id: i64, reason: &str) -> WatchResponse {
    WatchResponse { canceled: true, cancel_reason: reason.into(), ..response(id) }
}

fn pair(key: &'static str, revision: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: "lie".into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn put(key: &'static str, revision: i64) -> Event {
    Event { kv: Some(pair(key, revision)), ..Event::default() }
}

fn events(id: i64, events: Vec<Event>) -> WatchResponse {
    WatchResponse { events, ..response(id) }
}

fn creations() -> Vec<Case> {
    let with = |name: &str, change: fn(i64, &mut WatchResponse)| {
        says(name, move |id| {
            let mut response = created(id);
            change(id, &mut response);
            vec![Step::Say(response)]
        })
    };
    let mut table = vec![
        says("nothing", |_| Vec::new()),
        says("Created, and nothing more", |id| vec![Step::Say(created(id))]).quiet(),
        says("Created, then the end", |id| vec![Step::Say(created(id)), Step::End(0, "")]),
        says("Created, then a reset", |id| vec![Step::Say(created(id)), Step::Reset]),
        says("Created twice", |id| vec![Step::Say(created(id)), Step::Say(created(id))]),
        says("Created for another too", |id| vec![Step::Say(created(id)), Step::Say(created(id + 1))]),
        says("Created twice, with two ids", |id| {
            vec![Step::Say(created(id + 7)), Step::Say(created(id + 8))]
        }),
        says("a flood of Created", |id| vec![Step::Flood(100, created(id))]),
        says("a flood of Created for others", |id| vec![Step::Flood(100, created(id + 1))]),
        with("Created without a header", |_, response| response.header = None).quiet(),
        with("Created at revision 0", |_, response| response.header = Some(header(0))).quiet(),
        with("Created at a revision below 0", |_, response| response.header = Some(header(-7))),
        with("Created in a fragment", |_, response| response.fragment = true),
        with("Created with an event", |_, response| response.events = vec![put("k", 3)]).quiet(),
        with("Created of another cluster", |_, response| {
            response.header.as_mut().expect("it has one").cluster_id ^= 99;
        })
        .quiet()
        .ends_after("StoreChanged"),
        with("Created of no cluster", |_, response| {
            response.header.as_mut().expect("it has one").cluster_id = 0;
        })
        .quiet(),
        with("Created and canceled", |_, response| response.canceled = true).ends_alone("Refused"),
    ];
    let wrong = |wrong| says(&format!("Created with id {wrong}"), move |_| vec![Step::Say(created(wrong))]);
    table.extend([-1, -2, i64::MIN].map(wrong));
    // Servers that choose ids themselves may choose any other.
    table.extend([i64::MAX, i64::MAX - 1].map(|id| wrong(id).quiet()));
    table
}

fn foreign_events() -> Vec<Case> {
    let lie = |name: &str, event: Event| {
        created_then(name, move |id| vec![Step::Say(events(id, vec![event.clone()]))])
    };
    let kv = |name: &str, change: fn(&mut KeyValue)| {
        let mut pair = pair("k", 3);
        change(&mut pair);
        lie(name, Event { kv: Some(pair), ..Event::default() })
    };
    vec![
        lie("an event without a pair", Event::default()),
        lie("an event of another key", put("other", 3)),
        lie("an event of no key", put("", 3)),
        lie("an event at revision 0", put("k", 0)),
        lie("an event at a revision below 0", put("k", -3)),
        lie("an event at the lowest revision", put("k", i64::MIN)),
        lie("an event at the largest revision", put("k", i64::MAX)),
        lie("an event beyond the header's revision", put("k", REVISION + 1)).believed(),
        lie("an event of a kind nobody knows", Event { r#type: 7, ..put("k", 3) }),
        lie("an event of a negative kind", Event { r#type: -1, ..put("k", 3) }),
        kv("a pair that was created later", |pair| pair.create_revision = 4),
        kv("a pair that was created below 0", |pair| pair.create_revision = -4),
        kv("a pair of version 0", |pair| pair.version = 0).believed(),
        kv("a pair of a version below 0", |pair| pair.version = -1),
        kv("a pair of the largest version", |pair| pair.version = i64::MAX).believed(),
        created_then("backwards in a response", |id| {
            vec![Step::Say(events(id, vec![put("k", 4), put("k", 3)]))]
        }),
        created_then("an event for a watch that isn't there", |id| {
            vec![Step::Say(events(id + 1, vec![put("k", 3)]))]
        }),
        created_then("an event for the stream", |_| vec![Step::Say(events(-1, vec![put("k", 3)]))]),
        says("an event before Created", |id| vec![Step::Say(events(id, vec![put("k", 3)]))]),
        created_then("an event of another cluster", |id| {
            let mut response = events(id, vec![put("k", 3)]);
            response.header.as_mut().expect("it has one").cluster_id ^= 99;
            vec![Step::Say(response)]
        })
        .ends("StoreChanged"),
        created_then("100,000 empty events", |id| {
            vec![Step::Say(events(id, vec![Event::default(); 100_000]))]
        })
        .bounds(Bounds { bytes: 32 << 20, ..Bounds::USUAL }),
        created_then("empty events without end", |id| {
            vec![Step::Flood(1, events(id, vec![Event::default(); 1_000]))]
        }),
        created_then("empty responses without end", |id| {
            let nothing = WatchResponse { header: None, ..response(id) };
            vec![Step::Flood(100, nothing)]
        })
        .quiet()
        .bounds(Bounds { polls: 20_000, ..Bounds::USUAL }),
        created_then("fragments of one revision without end", |id| {
            let part = events(id, vec![put("k", 3); 100]);
            vec![Step::Flood(1, WatchResponse { fragment: true, ..part })]
        })
        .quiet()
        .bounds(Bounds { bytes: 16 << 20, polls: 20_000, ..Bounds::USUAL }),
        created_then("empty fragments without end", |id| {
            vec![Step::Flood(100, WatchResponse { fragment: true, ..response(id) })]
        }),
        created_then("half a fragment, then the end", |id| {
            let part = events(id, vec![put("k", 3)]);
            vec![Step::Say(WatchResponse { fragment: true, ..part }), Step::End(0, "")]
        }),
    ]
}

fn progress() -> Vec<Case> {
    let at = |id, revision| WatchResponse { header: Some(header(revision)), ..response(id) };
    vec![
        created_then("progress at the largest revision, then a reset", move |id| {
            vec![Step::Say(at(id, i64::MAX)), Step::Reset]
        }),
        created_then("progress of the stream at the largest revision, then a reset", move |_| {
            vec![Step::Say(at(-1, i64::MAX)), Step::Reset]
        }),
        created_then("progress at the largest revision", move |id| vec![Step::Say(at(id, i64::MAX))]),
        created_then("progress of the stream at the largest revision", move |_| {
            vec![Step::Say(at(-1, i64::MAX))]
        }),
        // A lawful store may be as far.
        created_then("progress at the largest revision but one", move |id| {
            vec![Step::Say(at(id, i64::MAX - 1))]
        })
        .quiet()
        .ends_after("StoreRegressed"),
        created_then("progress below 0", move |id| vec![Step::Say(at(id, -1))]),
        created_then("progress backwards", move |id| vec![Step::Say(at(id, 5)), Step::Say(at(id, 4))])
            .believed(),
        created_then("progress of a watch that isn't there", move |id| vec![Step::Say(at(id + 1, 6))]),
        created_then("progress without end", move |_| vec![Step::Flood(100, at(-1, 0))])
            .quiet()
            .bounds(Bounds { polls: 20_000, ..Bounds::USUAL }),
    ]
}

/// How a case says that a watch ends.
type Ends = fn(Case, &'static str) -> Case;

fn cancels() -> Vec<Case> {
    // The text, and how a watch ends whose creation is refused with it, and one that is running.
    let groundless = [
        ("", ("Refused", "CancelledByServer")),
        ("mvcc: duplicate watch ID provided on the WatchStream", ("Refused", "Refused")),
        ("rpc error: code = Aborted desc = restarting", ("Refused", "Refused")),
    ];
    let reasons = [
        ("no", Some(("Refused", "CancelledByServer"))),
        ("\u{1b}[31mred\r\n\0", Some(("Refused", "CancelledByServer"))),
        // etcd tells that by `compact_revision`.
        ("etcdserver: mvcc: required revision has been compacted", Some(("Refused", "CancelledByServer"))),
        ("etcdserver: permission denied", Some(("PermissionDenied", "PermissionDenied"))),
        ("etcdserver: invalid auth token", Some(("TokenRefused", "TokenRefused"))),
        ("etcdserver: user name is empty", Some(("TokenRefused", "TokenRefused"))),
        ("rpc error: code = Unavailable desc = etcdserver: server stopped", None),
        ("etcdserver: no leader", None),
        ("etcdserver: too many requests", None),
        ("etcdserver: server stopped", None),
    ];
    // Another member may have no such reason.
    let groundless = groundless.map(|(text, reason)| (text, Some(reason), Case::ends_alone as Ends));
    let reasons = reasons.map(|(text, reason)| (text, reason, Case::ends as Ends));
    let mut table = Vec::new();
    for (text, reason, ending) in groundless.into_iter().chain(reasons) {
        let ends = |case: Case, reason| match reason {
            Some(reason) => ending(case, reason),
            None => case,
        };
        let shown = text.escape_debug().to_string();
        let refused = reason.map(|(refused, _)| refused);
        table.push(ends(
            says(&format!("refused: {shown}"), move |id| {
                vec![Step::Say(WatchResponse { created: true, ..canceled(id, text) })]
            }),
            refused,
        ));
        table.push(ends(
            says(&format!("refused as -1: {shown}"), move |_| {
                vec![Step::Say(WatchResponse { created: true, ..canceled(-1, text) })]
            }),
            refused,
        ));
        table.push(ends(
            created_then(&format!("canceled: {shown}"), move |id| vec![Step::Say(canceled(id, text))]),
            reason.map(|(_, canceled)| canceled),
        ));
    }
    for compact_revision in [1, 7, i64::MAX, -1] {
        let compacted = created_then(&format!("compacted at {compact_revision}"), move |id| {
            vec![Step::Say(WatchResponse { compact_revision, ..canceled(id, "") })]
        });
        let is_possible = (0..i64::MAX).contains(&compact_revision);
        table.push(if is_possible { compacted.ends("Compacted") } else { compacted });
    }
    table.push(created_then("cancels of others without end", |id| {
        vec![Step::Flood(100, canceled(id + 1, "no"))]
    }));
    table.push(
        created_then("a reason of 1 MiB", |id| vec![Step::Say(canceled(id, &"no".repeat(1 << 19)))])
            .ends("CancelledByServer")
            .bounds(Bounds { bytes: 16 << 20, ..Bounds::USUAL }),
    );
    table
}

fn frames() -> Vec<Case> {
    let bytes = |name: &str, bytes: Bytes| created_then(name, move |_| vec![Step::Bytes(bytes.clone())]);
    let garbage = |name: &str, body: &[u8]| bytes(name, framed(0, body));
    let repeated = |byte: u8| vec![byte; 100];
    vec![
        bytes("a compressed message", framed(1, &[0x1f, 0x8b, 8, 0])),
        bytes("a flag of 2", framed(2, &[])),
        bytes("a flag of 255", framed(255, &[])),
        bytes("a message of 4 GiB", headed(0, u32::MAX, &[0; 100])).ends_alone("TooLarge"),
        bytes("a message of 2 GiB", headed(0, 1 << 31, &[0; 100])).ends_alone("TooLarge"),
        says("half a head, then the end", |id| {
            vec![Step::Say(created(id)), Step::Bytes(vec![0, 0, 0].into()), Step::End(0, "")]
        }),
        says("half a message, then the end", |id| {
            vec![Step::Say(created(id)), Step::Bytes(headed(0, 100, &[0; 9])), Step::End(0, "")]
        }),
        garbage("a message of zeros", &[0; 64]),
        garbage("a message of ones", &repeated(255)),
        garbage("field 0", &[0, 1]),
        garbage("a field that ends early", &[0x0a, 99, 1]),
        garbage("a field of another type", &[0x15, 1, 2, 3, 4]),
        garbage("a group", &[0x0b, 0x0c]),
        garbage("groups in groups", &repeated(0x0b)),
        garbage("wire type 6", &[0x0e, 1]),
        garbage("wire type 7", &[0x0f, 1]),
        garbage("a number of eleven bytes", &[[0x10].as_slice(), &[0xff; 10], &[1]].concat()),
        garbage("a number that ends early", &[0x10, 0xff]),
        garbage("a length beyond all", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        garbage("a reason that isn't UTF-8", &[0x20, 1, 0x32, 2, 0xc3, 0x28]),
        garbage("a header that isn't one", &[0x0a, 2, 0xff, 0xff]),
        garbage("an event that isn't one", &[0x5a, 2, 0xff, 0xff]),
    ]
}

#[test]
fn watches_that_are_created_wrongly() {
    run_all(creations);
}

#[test]
fn events_that_history_does_not_have() {
    run_all(foreign_events);
}

#[test]
fn progress_that_is_made_up() {
    run_all(progress);
}

#[test]
fn watches_that_are_refused_and_cancelled() {
    run_all(cancels);
}

#[test]
fn messages_that_are_none() {
    run_all(frames);
}

/// A member without a leader ends watches by a frame, too, and not only their stream.
#[test]
fn members_that_say_in_a_frame_that_there_is_no_leader_are_not_connected_to_for_each_attempt() {
    let _running = alone_in_process();
    let report = Sim::new().members(1).run(7, |world| async move {
        let steps: Steps =
            Arc::new(|id| vec![Step::Say(created(id)), Step::Say(canceled(id, "etcdserver: no leader"))]);
        let script = answered(steps, answer);
        let servers = [script.clone(), script].map(|script| world.listen(move |socket| script(socket)));
        let endpoints = servers.each_ref().map(|server| server.endpoint());
        let client = world.client().endpoints(endpoints).connect_lazy()?;
        let _watch = client.watch(WatchOptions::new(KeyRange::key("k")).start_revision(1))?;
        world.sleep(MINUTE).await;
        let attempts: u64 = servers.iter().map(|server| server.attempts()).sum();
        println!("{attempts} connections in a minute");
        // Some sixteen attempts are made, four at most on a connection.
        assert!((1..=8).contains(&attempts), "{attempts} connections");
        Ok(())
    });
    report.unwrap_or_else(|failure| panic!("{failure}"));
}
