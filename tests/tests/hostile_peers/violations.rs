//! Peers that break HTTP/2, or use it to the client's harm.

use crate::case::Case;
use crate::figures::Bounds;
use crate::peer::run_all;
use crate::raw;
use crate::raw::{
    ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, begin, frame, headed, header, headers, settings,
};

/// Sends these bytes first, in the place of its SETTINGS, and is lawful but for that; it answers no call.
fn first(name: &str, bytes: Vec<u8>) -> Case {
    Case::new(format!("first {name}"), move |socket| {
        let bytes = bytes.clone();
        async move { Connection::open(socket, &bytes).await?.stay().await }
    })
}

/// Answers each stream with these bytes.
fn answers(name: &str, answer: impl Fn(u32) -> Vec<u8> + Send + Sync + Clone + 'static) -> Case {
    raw::answers(format!("answers {name}"), answer)
}

/// Once there is a stream, sends the same without end.
fn floods(name: &str, flood: impl Fn(u32) -> Vec<u8> + Send + Sync + Clone + 'static) -> Case {
    floods_behind(name, |_| Vec::new(), flood)
}

/// Once there is a stream, sends the first bytes, and then others without end.
fn floods_behind(
    name: &str,
    first: impl Fn(u32) -> Vec<u8> + Send + Sync + Clone + 'static,
    flood: impl Fn(u32) -> Vec<u8> + Send + Sync + Clone + 'static,
) -> Case {
    Case::new(format!("a flood of {name}"), move |socket| {
        let (first, flood) = (first.clone(), flood.clone());
        async move {
            let mut connection = Connection::open(socket, &settings(&[])).await?;
            let stream = connection.next_stream().await?;
            connection.send(&first(stream)).await?;
            connection.flood(&flood(stream)).await
        }
    })
}

fn beginnings() -> Vec<Case> {
    let and_settings = |frame: Vec<u8>| [settings(&[]), frame].concat();
    let mut table = vec![
        first("nothing but SETTINGS", settings(&[])),
        first("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[])),
        first("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        first("an ACK that isn't owed", frame(SETTINGS, ACK, 0, &[])),
        first("an ACK with a payload", and_settings(frame(SETTINGS, ACK, 0, &[0; 6]))),
        first("no streams allowed", settings(&[(3, 0)])),
        first("one stream allowed", settings(&[(3, 1)])),
        first("windows of 0", settings(&[(4, 0)])),
        first("windows of 1", settings(&[(4, 1)])),
        first("windows too large", settings(&[(4, 1 << 31)])),
        first("frames of 0 bytes", settings(&[(5, 0)])),
        first("frames too large", settings(&[(5, 1 << 24)])),
        first("a header list of 0 bytes", settings(&[(6, 0)])),
        first("no header table", settings(&[(1, 0)])),
        first("the largest header table", settings(&[(1, u32::MAX)])),
        first("push", settings(&[(2, 1)])),
        first("push of 2", settings(&[(2, 2)])),
        first("settings nobody knows", settings(&[(0, 1), (99, 99), (u16::MAX, u32::MAX)])),
        first("a PING before SETTINGS", frame(PING, 0, 0, &[0; 8])),
        first("a PING of seven bytes", and_settings(frame(PING, 0, 0, &[0; 7]))),
        first("a PING on a stream", and_settings(frame(PING, 0, 1, &[0; 8]))),
        first("a PING's answer that isn't owed", and_settings(frame(PING, ACK, 0, &[7; 8]))),
        first("a window update of 0", and_settings(frame(WINDOW_UPDATE, 0, 0, &[0; 4]))),
        first("a window that overflows", and_settings(frame(WINDOW_UPDATE, 0, 0, &[127, 255, 255, 255]))),
        first("a window update of three bytes", and_settings(frame(WINDOW_UPDATE, 0, 0, &[1; 3]))),
        first("a window for an idle stream", and_settings(frame(WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1]))),
        first("DATA on stream 0", and_settings(frame(DATA, 0, 0, b"data"))),
        first("DATA on an idle stream", and_settings(frame(DATA, 0, 99, b"data"))),
        first("HEADERS on stream 0", and_settings(frame(HEADERS, END_HEADERS, 0, &[0x88]))),
        first("HEADERS on an idle stream", and_settings(frame(HEADERS, END_HEADERS, 99, &[0x88]))),
        first("HEADERS on an even stream", and_settings(frame(HEADERS, END_HEADERS, 2, &[0x88]))),
        first("a reset of an idle stream", and_settings(frame(RST_STREAM, 0, 99, &[0; 4]))),
        first("a reset of stream 0", and_settings(frame(RST_STREAM, 0, 0, &[0; 4]))),
        first("CONTINUATION of nothing", and_settings(frame(CONTINUATION, END_HEADERS, 1, &[0x88]))),
        first("PRIORITY of four bytes", and_settings(frame(PRIORITY, 0, 1, &[0; 4]))),
        first("a frame of a kind nobody knows", and_settings(frame(0xbe, 0xff, 7, &[0; 99]))),
        first("GOAWAY on a stream", and_settings(frame(GOAWAY, 0, 1, &[0; 8]))),
        first("GOAWAY of four bytes", and_settings(frame(GOAWAY, 0, 0, &[0; 4]))),
        first("a frame of 16 MiB", and_settings(headed(0xff_ffff, DATA, 0, 1, &[0; 100]))),
        first("a frame that never ends", and_settings(headed(16_000, HEADERS, 0, 1, &[0; 100]))),
    ];
    let unfinished = frame(HEADERS, 0, 1, &[0x88]);
    table.push(first("HEADERS that don't end", and_settings(unfinished)));
    table
}

fn bad_answers() -> Vec<Case> {
    let block =
        |name, block: Vec<u8>| answers(name, move |stream| frame(HEADERS, END_HEADERS, stream, &block));
    let data = |name, flags, payload: &'static [u8]| {
        answers(name, move |stream| [begin(stream), frame(DATA, flags, stream, payload)].concat())
    };
    vec![
        block("headers without a status", headers(&[("content-type", "application/grpc")])),
        block("no headers at all", Vec::new()),
        block("headers that HPACK doesn't have", vec![0x80]),
        block("an index beyond the table", vec![0xff, 0xff, 0x7f]),
        block("a table size beyond the limit", vec![0x3f, 0xff, 0xff, 0xff, 0x7f]),
        block("half a header", vec![0x88, 0, 99, b'a']),
        block("a number that never ends", vec![0xff; 64]),
        block("bad Huffman", vec![0, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
        block("two statuses", headers(&[(":status", "200"), (":status", "200")])),
        block("a status of words", headers(&[(":status", "fine")])),
        block("a status of 99", headers(&[(":status", "99")])),
        block("a status of 1000", headers(&[(":status", "1000")])),
        block("an upper-case header", headers(&[(":status", "200"), ("Content-Type", "application/grpc")])),
        block("a connection header", headers(&[(":status", "200"), ("connection", "close")])),
        block("a request's header", headers(&[(":status", "200"), (":path", "/")])),
        block("a late status", headers(&[("content-type", "application/grpc"), (":status", "200")])),
        block("a name with a space", headers(&[(":status", "200"), ("a b", "c")])),
        block("a value with a line break", headers(&[(":status", "200"), ("a", "b\r\nc")])),
        block("a length that is wrong", headers(&[(":status", "200"), ("content-length", "x")])),
        block("early hints and nothing else", headers(&[(":status", "103")])),
        block("101", headers(&[(":status", "101")])),
        answers("with a header of 15 KiB", |stream| {
            let block = [headers(&[(":status", "200")]), header("x", &"y".repeat(15_000))].concat();
            frame(HEADERS, END_HEADERS, stream, &block)
        }),
        answers("with headers of 2 MiB", |stream| {
            let first = frame(HEADERS, 0, stream, &headers(&[(":status", "200")]));
            let more = frame(CONTINUATION, 0, stream, &header("x", &"y".repeat(15_000)));
            let last = frame(CONTINUATION, END_HEADERS, stream, &[]);
            [first, more.repeat(140), last].concat()
        })
        .bounds(Bounds { bytes: 8 << 20, ..Bounds::USUAL }),
        answers("with a table of 4 KiB a thousand times", |stream| {
            let mut block = headers(&[(":status", "200")]);
            block.extend(&header("x", &"y".repeat(3_900))[..]);
            // Now with indexing, and then by its index.
            block[header(":status", "200").len()] = 0x40;
            block.extend([0xbe; 1_000]);
            frame(HEADERS, END_HEADERS, stream, &block)
        }),
        answers("DATA before HEADERS", |stream| frame(DATA, 0, stream, b"data")),
        answers("with too much padding", |stream| frame(HEADERS, END_HEADERS | PADDED, stream, &[99, 0x88])),
        answers("with a promise", |stream| {
            let block =
                headers(&[(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]);
            frame(PUSH_PROMISE, END_HEADERS, stream, &[&2_u32.to_be_bytes()[..], &block].concat())
        }),
        answers("HEADERS, interrupted by a PING", |stream| {
            [frame(HEADERS, 0, stream, &[0x88]), frame(PING, 0, 0, &[0; 8])].concat()
        }),
        answers("for another stream", |stream| begin(stream + 2)),
        answers("twice", |stream| [begin(stream), begin(stream)].concat()),
        answers("and goes on behind the end", |stream| {
            let end = frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers(&[(":status", "200")]));
            [end, frame(DATA, 0, stream, b"more")].concat()
        }),
        answers("with a window that overflows", |stream| {
            [begin(stream), frame(WINDOW_UPDATE, 0, stream, &[127, 255, 255, 255])].concat()
        }),
        answers("with a window update of 0", |stream| {
            [begin(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        answers("with a frame over the limit", |stream| {
            [begin(stream), headed(0xff_ffff, DATA, 0, stream, &[0; 9])].concat()
        }),
        data("with padding that is too long", PADDED, &[200, 0, 0]),
        data("with an end in the midst of a message", END_STREAM, &[0, 0, 0, 0, 9, 1]),
        data("with an end without a status", END_STREAM, &[]),
        answers("nothing but headers", begin),
    ]
}

fn all_floods() -> Vec<Case> {
    vec![
        floods("SETTINGS", |_| settings(&[(4, 65_535)]).repeat(100)),
        floods("PING", |_| frame(PING, 0, 0, &[0; 8]).repeat(100)),
        floods("answers to PING", |_| frame(PING, ACK, 0, &[0; 8]).repeat(100)),
        floods("window updates", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(100)),
        floods("PRIORITY", |stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]).repeat(100)),
        floods("frames nobody knows", |stream| frame(0xbe, 0, stream, &[0; 20]).repeat(100)),
        floods("resets", |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]).repeat(100)),
        floods("GOAWAY", |stream| {
            let payload = [stream.to_be_bytes(), [0; 4]].concat();
            frame(GOAWAY, 0, 0, &payload).repeat(100)
        }),
        floods("interim answers", |stream| {
            frame(HEADERS, END_HEADERS, stream, &headers(&[(":status", "103")])).repeat(100)
        }),
        floods("answers", |stream| begin(stream).repeat(100)),
        floods("DATA before an answer", |stream| frame(DATA, 0, stream, &[0; 1000]).repeat(10)),
        floods_behind(
            "CONTINUATION",
            |stream| frame(HEADERS, 0, stream, &[0x88]),
            |stream| frame(CONTINUATION, 0, stream, &header("a", "b")).repeat(100),
        ),
        floods_behind("empty DATA", begin, |stream| frame(DATA, 0, stream, &[]).repeat(100)),
        floods_behind(
            "DATA beyond the window",
            // A message of 16 MiB, which is under the client's limit.
            |stream| [begin(stream), frame(DATA, 0, stream, &[0, 1, 0, 0, 0])].concat(),
            |stream| frame(DATA, 0, stream, &[0; 16_000]).repeat(20),
        )
        .bounds(Bounds { bytes: 24 << 20, polls: 10_000, ..Bounds::USUAL }),
    ]
}

#[test]
fn a_peer_that_begins_badly() {
    run_all(beginnings);
}

#[test]
fn a_peer_that_answers_badly() {
    run_all(bad_answers);
}

#[test]
fn a_peer_that_floods_with_frames() {
    run_all(all_floods);
}
