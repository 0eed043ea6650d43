//! Peers that answer with every code there is.

use crate::case::Case;
use crate::peer::run_all;
use crate::raw::{
    Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, answers, begin, frame, headers,
    settings, status,
};

/// Those of HTTP/2, and some that it doesn't have.
fn http2_codes() -> impl Iterator<Item = u32> {
    (0..=14).chain([255, u32::MAX])
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    let payload = [&last.to_be_bytes()[..], &code.to_be_bytes(), b"too_many_pings"].concat();
    frame(GOAWAY, 0, 0, &payload)
}

fn goaways() -> Vec<Case> {
    let at_once = |code| {
        Case::new(format!("GOAWAY {code} at once"), move |socket| async move {
            let first = [settings(&[]), goaway(0, code)].concat();
            Connection::open(socket, &first).await?.stay().await
        })
    };
    let in_place_of = |code| answers(format!("GOAWAY {code} for an answer"), move |_| goaway(0, code));
    let within = |code| {
        answers(format!("GOAWAY {code} in a stream"), move |stream| {
            [begin(stream), goaway(stream, code)].concat()
        })
    };
    http2_codes().flat_map(|code| [at_once(code), in_place_of(code), within(code)]).collect()
}

fn resets() -> Vec<Case> {
    let reset = |stream, code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    let at_once = move |code| answers(format!("RST {code}"), move |stream| reset(stream, code));
    let within = move |code| {
        answers(format!("RST {code} behind headers"), move |stream| {
            [begin(stream), reset(stream, code)].concat()
        })
    };
    http2_codes().flat_map(|code| [at_once(code), within(code)]).collect()
}

fn http_statuses() -> Vec<Case> {
    let codes = [
        "200", "204", "206", "301", "302", "304", "400", "401", "403", "404", "405", "407", "408", "413",
        "415", "418", "421", "426", "429", "431", "451", "500", "501", "502", "503", "504", "505", "511",
        "599", "999",
    ];
    let bare = |code: &'static str| {
        answers(format!("HTTP {code}"), move |stream| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers(&[(":status", code)]))
        })
    };
    let page = |code: &'static str| {
        answers(format!("HTTP {code} with a page"), move |stream| {
            let block = headers(&[(":status", code), ("content-type", "text/html")]);
            let page = b"<html>etcdserver: mvcc: required revision has been compacted</html>".repeat(20);
            [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, END_STREAM, stream, &page)].concat()
        })
    };
    codes.into_iter().flat_map(|code| [bare(code), page(code)]).collect()
}

/// None of them ends a watch: their text is not etcd's.
fn grpc_statuses() -> Vec<Case> {
    let codes = [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
        "13",
        "14",
        "15",
        "16",
        "17",
        "99",
        "-1",
        "",
        "x",
        "99999999999999999999",
    ];
    codes
        .into_iter()
        .flat_map(|code| {
            [
                answers(format!("gRPC {code:?}"), move |stream| status(stream, code, "no")),
                answers(format!("gRPC {code:?} behind headers"), move |stream| {
                    let trailers = headers(&[("grpc-status", code), ("grpc-message", "no")]);
                    let end = frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
                    [begin(stream), end].concat()
                }),
            ]
        })
        .collect()
}

/// Statuses with texts of etcd's, each with the reason that a watch ends for. The last three end none: a text of etcd's is
/// within another text, or comes with a code that etcd does not send it with.
fn etcd_statuses() -> Vec<Case> {
    let statuses = [
        ("14", "etcdserver: no leader", None),
        ("14", "etcdserver: server stopped", None),
        ("14", "etcdserver: request timed out", None),
        ("8", "etcdserver: too many requests", None),
        ("8", "etcdserver: mvcc: database space exceeded", Some("Refused")),
        ("11", "etcdserver: mvcc: required revision has been compacted", None),
        ("11", "etcdserver: mvcc: required revision is a future revision", None),
        ("7", "etcdserver: permission denied", Some("PermissionDenied")),
        ("16", "etcdserver: invalid auth token", Some("TokenRefused")),
        ("3", "etcdserver: user name is empty", Some("TokenRefused")),
        ("3", "etcdserver: authentication failed, invalid user ID or password", Some("AuthenticationFailed")),
        ("12", "unknown service etcdserverpb.Watch", Some("Unsupported")),
        ("12", "unknown method Watch for service etcdserverpb.Watch", Some("Unsupported")),
        (
            "2",
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            Some("PermissionDenied"),
        ),
        ("2", "rpc error: code = Unknown desc = rpc error: code = Unavailable desc = down", None),
        ("2", "an error: etcdserver: permission denied", None),
        ("14", "etcdserver: permission denied", None),
        ("3", "etcdserver: no leader", None),
    ];
    let case = |(code, text, end): (&'static str, &'static str, Option<&'static str>)| {
        let case = answers(format!("gRPC {code} {text:?}"), move |stream| status(stream, code, text));
        match end {
            Some(reason) => case.ends(reason),
            None => case,
        }
    };
    statuses.into_iter().map(case).collect()
}

#[test]
fn statuses_with_the_words_of_etcd() {
    run_all(etcd_statuses);
}

#[test]
fn goaway_with_every_code() {
    run_all(goaways);
}

#[test]
fn rst_stream_with_every_code() {
    run_all(resets);
}

#[test]
fn every_http_status() {
    run_all(http_statuses);
}

#[test]
fn every_grpc_status() {
    run_all(grpc_statuses);
}
