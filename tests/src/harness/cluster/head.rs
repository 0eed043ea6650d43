//! The heads of the requests on a connection, as far as they tell who sends them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Every request of etcd's raft transport has it: the sender's id, in hexadecimal.
const SENDER: &str = "x-server-from:";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// No head is that long.
const LONGEST: usize = 64 << 10;

/// What was read of a connection and not yet let go, and who sends it.
///
/// A member keeps connections for several requests and sends some without its id, to see whether the other is alive or
/// which version it has. Those are short, so heads are looked at until one names the sender; then all of the
/// connection is the sender's. A connection that carries anything else is nobody's.
pub(super) struct Heads {
    waiting: Vec<u8>,
    sender: Option<u64>,
    is_settled: bool,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self { waiting: Vec::new(), sender: None, is_settled: false }
    }

    /// The id of the sender, once it is known.
    pub(super) fn sender(&self) -> Option<u64> {
        self.sender
    }

    /// Whether nothing that is still to come can tell more.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Reads once; how much that was.
    pub(super) async fn read(&mut self, source: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        source.read_buf(&mut self.waiting).await
    }

    /// What may be let go: heads that are complete, or everything once it is settled whose it is.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut end = 0;
        while !self.is_settled {
            let rest = &self.waiting[end..];
            let Some(length) = rest.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
                self.is_settled = rest.len() > LONGEST;
                break;
            };
            let head = String::from_utf8_lossy(&rest[..length]);
            self.sender = sender_of(&head);
            // Only a request without a body has the next head right behind it.
            self.is_settled = self.sender.is_some() || !head.starts_with("GET ");
            end += length + HEAD_END.len();
        }
        if self.is_settled { self.rest() } else { self.waiting.drain(..end).collect() }
    }

    /// All that waits, complete or not.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }
}

fn sender_of(head: &str) -> Option<u64> {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_at_checked(SENDER.len())?;
        name.eq_ignore_ascii_case(SENDER).then(|| value.trim())
    })?;
    u64::from_str_radix(value, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b"GET /raft/stream/message/2 HTTP/1.1\r\nHost: a\r\nX-Server-From: 8e9e05c52164694d\r\n\r\n";
    const PROBE: &[u8] = b"GET /raft/probing HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Gives the bytes one after the other; all that was let go by each.
    fn one_by_one(heads: &mut Heads, bytes: &[u8]) -> Vec<u8> {
        let mut let_go = Vec::new();
        for &byte in bytes {
            heads.waiting.push(byte);
            let_go.extend(heads.take());
        }
        let_go
    }

    #[test]
    fn the_sender_is_in_the_first_head_and_the_rest_is_not_looked_at() {
        let mut heads = Heads::new();
        assert_eq!(one_by_one(&mut heads, STREAM), STREAM);
        assert_eq!(heads.sender(), Some(0x8e9e_05c5_2164_694d));
        assert!(heads.is_settled());
        assert_eq!(one_by_one(&mut heads, b"body"), b"body");
    }

    #[test]
    fn nothing_of_a_head_is_let_go_before_all_of_it_is_there() {
        let mut heads = Heads::new();
        assert!(one_by_one(&mut heads, &STREAM[..STREAM.len() - 1]).is_empty());
        assert_eq!(heads.rest(), &STREAM[..STREAM.len() - 1]);
    }

    #[test]
    fn a_request_without_the_sender_is_let_go_and_the_next_one_can_name_it() {
        let mut heads = Heads::new();
        assert_eq!(one_by_one(&mut heads, PROBE), PROBE);
        assert_eq!((heads.sender(), heads.is_settled()), (None, false));
        heads.waiting.extend([PROBE, STREAM, b"body"].concat());
        assert_eq!(heads.take(), [PROBE, STREAM, b"body"].concat());
        assert!(heads.sender().is_some());
    }

    #[test]
    fn a_request_with_a_body_and_no_sender_makes_the_connection_nobodys() {
        let mut heads = Heads::new();
        let request = b"POST /members HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(one_by_one(&mut heads, request), request);
        assert_eq!((heads.sender(), heads.is_settled()), (None, true));
    }

    #[test]
    fn a_head_without_end_is_not_waited_for() {
        let mut heads = Heads::new();
        heads.waiting.extend(vec![b'x'; LONGEST + 1]);
        assert_eq!(heads.take().len(), LONGEST + 1);
    }
}
