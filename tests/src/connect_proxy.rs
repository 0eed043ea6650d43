//! An HTTP proxy that makes tunnels: what a client finds in `HTTPS_PROXY`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use etcd_watch_testkit::connect_proxy::ConnectProxy;
//!
//! let proxy = ConnectProxy::start().await?;
//! proxy.knows("etcd.example", ([127, 0, 0, 1], 2379).into());
//! proxy.require("alice", "secret");
//! println!("export HTTPS_PROXY={}", proxy.url_with("alice:secret"));
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The longest request that is read.
const LONGEST: usize = 8 << 10;

/// A proxy on a loopback port. Dropping it ends it, and its tunnels.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts the commands to cut tunnels.
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, SocketAddr>,
    /// What `Proxy-Authorization` has to be.
    credentials: Option<String>,
    answer: Option<&'static str>,
    is_silent: bool,
    asked: Vec<String>,
    tunnels: usize,
}

impl ConnectProxy {
    /// Listens on a free port, lets everybody in, and connects to where it is asked to.
    ///
    /// # Errors
    /// If no port can be listened on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::default(), cuts: watch::Sender::new(0) });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, listening })
    }

    /// Its URL, as `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL with a user in it, as `http://user:password@127.0.0.1:port`.
    pub fn url_with(&self, user: &str) -> String {
        format!("http://{user}@{}", self.address)
    }

    /// Knows a name that nobody else need know: tunnels to it, whatever the port, go to this address.
    pub fn knows(&self, name: &str, address: SocketAddr) {
        self.shared.state().names.insert(name.to_owned(), address);
    }

    /// Lets in nobody but this user from now on.
    pub fn require(&self, name: &str, password: &str) {
        self.shared.state().credentials = Some(format!("Basic {}", base64(&format!("{name}:{password}"))));
    }

    /// Answers every request with these bytes, and hangs up; `None` to be a proxy again.
    pub fn answer(&self, answer: Option<&'static str>) {
        self.shared.state().answer = answer;
    }

    /// Never answers anything, from now on.
    pub fn fall_silent(&self) {
        self.shared.state().is_silent = true;
    }

    /// What it was asked to connect to, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shared.state().asked.clone()
    }

    /// How many tunnels it has made.
    pub fn tunnels(&self) -> usize {
        self.shared.state().tunnels
    }

    /// Closes every tunnel.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let shared = Arc::clone(&shared);
                connections.spawn(async move { drop(serve(client, &shared).await) });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut cuts = shared.cuts.subscribe();
    client.set_nodelay(true)?;
    let request = head(&mut client).await?;
    let mut lines = request.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let credentials = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
    });
    let answer = {
        let mut state = shared.state();
        state.asked.push(target.to_owned());
        match state.answer {
            _ if state.is_silent => None,
            Some(answer) => Some(answer),
            None if method != "CONNECT" => Some("HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
            None if state.credentials.is_some() && state.credentials != credentials => {
                Some("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
            }
            None => None,
        }
    };
    if let Some(answer) = answer {
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    if shared.state().is_silent {
        return std::future::pending().await;
    }
    let known = {
        let state = shared.state();
        target.rsplit_once(':').and_then(|(name, _)| state.names.get(name).copied())
    };
    let connected = match known {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect(target).await,
    };
    let Ok(mut upstream) = connected else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    };
    upstream.set_nodelay(true)?;
    shared.state().tunnels += 1;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut upstream) => copied.map(|_| ()),
        _ = cuts.changed() => Ok(()),
    }
}

/// A request up to its empty line. A client says nothing more before it has an answer.
async fn head(client: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut bytes).await? == 0 || bytes.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// By hand, so that a client's own encoding is compared with another.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let three = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let bits = three[0] << 16 | three[1] << 8 | three[2];
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            encoded.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_in_base64() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text), encoded, "{text}");
        }
    }

    #[tokio::test]
    async fn what_goes_through_a_tunnel_comes_out_of_it() {
        let echo = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = echo.local_addr().expect("bound");
        let proxy = ConnectProxy::start().await.expect("a free port");
        proxy.knows("echo.example", address);
        proxy.require("a", "b");
        for (credentials, status) in [("", "407"), ("Proxy-Authorization: Basic YTpi\r\n", "200")] {
            let mut client = TcpStream::connect(proxy.address).await.expect("it listens");
            let request = format!("CONNECT echo.example:7 HTTP/1.1\r\n{credentials}\r\n");
            client.write_all(request.as_bytes()).await.expect("it reads");
            let answer = head(&mut client).await.expect("it answers");
            assert!(answer.contains(status), "{answer}");
            if status == "200" {
                let (mut inner, _) = echo.accept().await.expect("it connects");
                client.write_all(b"hello").await.expect("it forwards");
                let mut heard = [0; 5];
                inner.read_exact(&mut heard).await.expect("it is forwarded");
                assert_eq!(&heard, b"hello");
                proxy.cut_all();
                assert_eq!(inner.read(&mut heard).await.expect("it is closed"), 0);
            }
        }
        assert_eq!((proxy.tunnels(), proxy.asked().len()), (1, 2));
    }
}
