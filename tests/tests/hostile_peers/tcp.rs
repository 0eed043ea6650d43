//! Peers that don't get as far as HTTP/2.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case::Case;
use crate::peer::run_all;
use crate::raw;

/// Says something at once, and keeps the connection open without a further word.
fn says(name: &str, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    Case::new(format!("says {name} and stays"), move |mut socket| {
        let bytes = bytes.clone();
        async move {
            socket.write_all(&bytes).await?;
            pending::<io::Result<()>>().await
        }
    })
}

/// Says something and hangs up.
fn hangs_up(name: &str, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    Case::new(format!("says {name} and hangs up"), move |mut socket| {
        let bytes = bytes.clone();
        async move { socket.write_all(&bytes).await }
    })
}

fn silence() -> Vec<Case> {
    vec![
        Case::new("silent", |socket| async move {
            let _open = socket;
            pending::<()>().await;
        }),
        Case::new("closes at once", |_| async {}),
        Case::new("resets at once", |socket| async move { socket.reset() }),
        Case::new("reads and says nothing", |mut socket| async move {
            let mut bytes = [0; 4096];
            while socket.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        }),
        Case::new("closes after a second", |socket| async move {
            let _open = socket;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }),
        Case::new("resets after a second", |socket| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            socket.reset();
        }),
        Case::new("a lawful beginning, a byte a second", |mut socket| async move {
            let lawful = [raw::settings(&[]), raw::frame(raw::PING, 0, 0, &[0; 8])].concat();
            for byte in lawful.iter().cycle() {
                socket.write_u8(*byte).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            io::Result::Ok(())
        }),
    ]
}

fn others() -> Vec<Case> {
    let words: [(&str, &[u8]); 14] = [
        ("HTTP/1.1 400", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/1.1 200 with a body", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("HTTP/1.1 505", b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n\r\n"),
        ("HTTP/1.1 101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
        ("a TLS alert", &[0x15, 3, 1, 0, 2, 2, 40]),
        ("half a TLS record", &[0x16, 3, 3, 0x40, 0]),
        ("an SSH banner", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("a Redis error", b"-ERR unknown command 'PRI'\r\n"),
        ("an SMTP greeting", b"220 mail.example.com ESMTP\r\n"),
        ("the client's own preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("zeros", &[0; 64]),
        ("ones", &[255; 64]),
        ("a part of a frame's head", &[0, 0, 6, 4]),
        ("a part of SETTINGS", &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3]),
    ];
    words.iter().flat_map(|(name, bytes)| [says(name, *bytes), hangs_up(name, *bytes)]).collect()
}

fn floods() -> Vec<Case> {
    let random: Vec<u8> = {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..4096).map(|_| rng.u8(..)).collect()
    };
    let floods =
        [("zeros", vec![0; 4096]), ("text", b"nothing of interest\n".repeat(200)), ("noise", random)];
    let flood = |(name, bytes): (&str, Vec<u8>)| {
        Case::new(format!("a flood of {name}"), move |mut socket| {
            let bytes = bytes.clone();
            async move { raw::flood(&mut socket, &bytes).await }
        })
    };
    floods.into_iter().map(flood).collect()
}

#[test]
fn a_peer_that_is_silent_or_gone() {
    run_all(silence);
}

#[test]
fn a_peer_that_speaks_something_else() {
    run_all(others);
}

#[test]
fn a_peer_that_floods() {
    run_all(floods);
}
