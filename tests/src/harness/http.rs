//! Plain HTTP requests to a server's own pages.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Gets a page within `timeout`, and returns its body if the answer is 200.
///
/// HTTP/1.0, so that the body ends where the connection does and is never chunked.
pub(super) fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    body_of(&String::from_utf8_lossy(&answer)).map_err(io::Error::other)
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
    fn only_the_body_of_a_good_answer_is_returned() {
        assert_eq!(body_of("HTTP/1.0 200 OK\r\nA: b\r\n\r\none\r\n\r\ntwo").as_deref(), Ok("one\r\n\r\ntwo"));
        let error = body_of("HTTP/1.0 503 Service Unavailable\r\n\r\n{\"health\":\"false\"}\n").unwrap_err();
        assert_eq!(error, "HTTP/1.0 503 Service Unavailable: {\"health\":\"false\"}");
        assert!(body_of("\0\0\u{1}garbage").is_err());
    }
}
