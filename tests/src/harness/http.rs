//! Plain HTTP requests to a server's own pages.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Gets a page within `timeout`, and returns its body if the answer is 200.
///
/// HTTP/1.0, so that the body is never chunked. It ends where its length says, or else where the connection does:
/// etcd 3.5's peer port, for one, answers and leaves the connection open.
pub(super) fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !is_complete(&answer) {
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    body_of(&String::from_utf8_lossy(&answer)).map_err(io::Error::other)
}

/// Whether all is there that the answer's head promises; never, if it doesn't say how much that is.
fn is_complete(answer: &[u8]) -> bool {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let Some(head) = answer.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
        return false;
    };
    let lines = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length =
        lines.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= head + HEAD_END.len() + length)
}

fn body_of(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status_line = head.lines().next().unwrap_or_default();
    match status_line.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("{status_line}: {}", body.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_once_its_length_is_there() {
        let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert!(is_complete(answer));
        for length in 0..answer.len() {
            assert!(!is_complete(&answer[..length]), "{length}");
        }
        assert!(!is_complete(b"HTTP/1.0 200 OK\r\n\r\nhello"), "only the end of the connection tells");
    }

    #[test]
    fn only_the_body_of_a_good_answer_is_returned() {
        assert_eq!(body_of("HTTP/1.0 200 OK\r\nA: b\r\n\r\none\r\n\r\ntwo").as_deref(), Ok("one\r\n\r\ntwo"));
        let error = body_of("HTTP/1.0 503 Service Unavailable\r\n\r\n{\"health\":\"false\"}\n").unwrap_err();
        assert_eq!(error, "HTTP/1.0 503 Service Unavailable: {\"health\":\"false\"}");
        assert!(body_of("\0\0\u{1}garbage").is_err());
    }
}
