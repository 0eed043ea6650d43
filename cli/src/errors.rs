//! Errors of the library in the words of the command line: its flags in place of the library's settings.

use std::error::Error;

use etcd_watch_tokio::{
    BuildError, CallError, EndpointError, ProxyError, StartError, TlsError,
    concurrency::{ContendError, SessionError},
    discovery::DiscoveryError,
};

/// The flags that say where an etcd is and how to talk to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    /// `--endpoints`, `--cacert` and so on: of the etcd that the command is about.
    Main,
    /// `--to`, `--dest-cacert` and so on: of the etcd that a mirror writes to.
    Destination,
}

impl Flags {
    /// What most of them begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Main => "--",
            Self::Destination => "--dest-",
        }
    }

    fn endpoints(self) -> &'static str {
        match self {
            Self::Main => "--endpoints",
            Self::Destination => "--to",
        }
    }

    /// The flags for one of the library's TLS options.
    fn for_tls(self, option: &str) -> String {
        let prefix = self.prefix();
        match option {
            "ca_file" => format!("{prefix}cacert"),
            "identity_files" => format!("{prefix}cert and {prefix}key"),
            other => other.to_owned(),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn in_one_line(error: &anyhow::Error) -> String {
    let causes = error.chain().map(cause);
    causes.reduce(|line, cause| format!("{line}: {cause}")).unwrap_or_default()
}

fn cause(error: &(dyn Error + 'static)) -> String {
    let flags = Flags::Main;
    if let Some(error) = error.downcast_ref() {
        return start(error, flags);
    }
    if let Some(error) = call_within(error) {
        return call(error, flags);
    }
    in_flags(&error.to_string(), flags)
}

/// The call whose error it is, if the error says nothing but that.
fn call_within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CallError> {
    if let Some(DiscoveryError::Call(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(SessionError::Call(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(ContendError::Call(error)) = error.downcast_ref() {
        return Some(error);
    }
    error.downcast_ref()
}

/// Why a client could not be started.
pub(crate) fn start(error: &StartError, flags: Flags) -> String {
    match error {
        StartError::Build(error) => build(error, flags),
        StartError::AuthenticationFailed { message } => wrong_user(message, flags),
        other => in_flags(&other.to_string(), flags),
    }
}

/// Why a call failed.
pub(crate) fn call(error: &CallError, flags: Flags) -> String {
    match error {
        CallError::AuthenticationFailed { method, message, .. } => {
            format!("{method} was not made: {}", wrong_user(message, flags))
        }
        CallError::ResponseTooLarge { method, bytes, limit, .. } => {
            format!("the answer to {method} has {bytes} bytes, over the limit of {limit}: ask for fewer keys")
        }
        other => in_flags(&other.to_string(), flags),
    }
}

fn wrong_user(message: &str, flags: Flags) -> String {
    let prefix = flags.prefix();
    format!("{message}; check {prefix}user and {prefix}password")
}

fn build(error: &BuildError, flags: Flags) -> String {
    match error {
        BuildError::NoEndpoints => {
            format!("{} is empty: give at least one, such as 127.0.0.1:2379", flags.endpoints())
        }
        BuildError::Endpoint(EndpointError::NotTls { endpoint }) => {
            let prefix = flags.prefix();
            let name = if flags == Flags::Main { ", --tls-server-name, --log-tls-keys" } else { "" };
            format!(
                "endpoint {endpoint} would be talked to without TLS, and a flag for TLS is given: write https://, or \
                 leave out {prefix}cacert, {prefix}cert, {prefix}key{name}"
            )
        }
        BuildError::Tls(error) => tls(error, flags),
        BuildError::Proxy(error) => proxy(error),
        BuildError::OutOfRange { field, value, allowed } => {
            format!("{} is {value}: it must be {allowed}", setting(field, flags))
        }
        other => in_flags(&other.to_string(), flags),
    }
}

fn proxy(error: &ProxyError) -> String {
    let flag = |option| if option == "proxy" { "--proxy" } else { option };
    match error {
        ProxyError::Malformed { option, proxy, reason } => format!(
            "{}: {proxy:?} is no proxy: {reason}; write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT",
            flag(option)
        ),
        ProxyError::UnsupportedScheme { option, proxy, scheme } => format!(
            "{}: {proxy:?} is a proxy of the kind {scheme:?}, which is not supported: give an HTTP proxy \
             (http://HOST:PORT), or --no-proxy",
            flag(option)
        ),
        other => other.to_string(),
    }
}

fn setting(field: &str, flags: Flags) -> String {
    match field {
        "dial_timeout" | "connect_timeout" => "--dial-timeout".to_owned(),
        "request_timeout" => "--command-timeout".to_owned(),
        "keepalive interval" => "--keepalive-time".to_owned(),
        "keepalive timeout" => "--keepalive-timeout".to_owned(),
        "user" => format!("{}user", flags.prefix()),
        other => other.to_owned(),
    }
}

fn tls(error: &TlsError, flags: Flags) -> String {
    match error {
        TlsError::Unreadable { option, path, problem } => {
            let (option, path) = (flags.for_tls(option), path.display());
            format!(
                "{option}: can't read {path}: {problem}; give a PEM file that is there and that this process may read"
            )
        }
        TlsError::Unusable { option, file, problem } => {
            format!("{}: {file} can't be used: {problem}", flags.for_tls(option))
        }
        TlsError::KeyMismatch { certificate, key, .. } => {
            let prefix = flags.prefix();
            format!(
                "{prefix}key: the key in {key} does not belong to the certificate in {certificate}; give the key that \
                 the certificate was made for"
            )
        }
        TlsError::ServerName { name } => format!(
            "--tls-server-name: {name:?} is neither a DNS name nor an IP address; give a name that is in the server's \
             certificate, without scheme and port"
        ),
        TlsError::KeyLog { path, problem } => format!(
            "--log-tls-keys: can't write to {}: {problem}; set SSLKEYLOGFILE to a file that this process may write",
            path.display()
        ),
        other => in_flags(&other.to_string(), flags),
    }
}

/// What the library says about a failed handshake has its advice in the text alone.
fn in_flags(text: &str, flags: Flags) -> String {
    ["ca_file", "identity_files"]
        .iter()
        .fold(text.to_owned(), |text, option| {
            text.replace(&format!("with {option}"), &format!("with {}", flags.for_tls(option)))
        })
        .replace("with server_name", "with --tls-server-name")
        .replace("(proxy)", "(--proxy)")
        .replace("leave proxy out or except the endpoint from it", "leave --proxy out")
        .replace("in NO_PROXY, or set no_proxy", "in NO_PROXY, or give --no-proxy")
        .replace("raise the mirror's max_keys, or mirror a smaller range", "ask for fewer keys")
}
