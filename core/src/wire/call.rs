//! A gRPC call on HTTP/2, but for its messages: the request's head, the response's head, the trailers
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! Headers come in by a function that looks one up, so that any HTTP library will do.

use alloc::{format, string::String, vec::Vec};

use crate::{Code, Failure, StreamOptions};

/// The calls that a driver of the machines makes. All are `POST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// For [`Action::Open`](crate::Action::Open), a stream of [`Request`](crate::Request)s and their answers.
    Watch,
    /// For [`Action::Range`](crate::Action::Range) and [`MirrorAction::List`](crate::MirrorAction::List): one
    /// request, one answer.
    Range,
    /// For [`MirrorAction::List`](crate::MirrorAction::List) where [a stream](crate::ListRequest::may_stream) may bring it:
    /// one request, a stream of answers. etcd has it from 3.7 on, and its gRPC proxy hasn't: they say
    /// [`Unimplemented`](Code::Unimplemented).
    RangeStream,
    /// For the version in [`Opened`](crate::Opened): one request, one answer.
    Status,
}

impl Method {
    /// The request's `:path`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::RangeStream => "/etcdserverpb.KV/RangeStream",
            Self::Status => "/etcdserverpb.Maintenance/Status",
        }
    }

    /// The request's headers, but for those of HTTP/2 itself: what gRPC asks for, `hasleader` where the options
    /// require a leader, and their metadata. A member tells its version whether it has a leader or not.
    ///
    /// The values of metadata may be secret: don't log them.
    pub fn headers(self, options: &StreamOptions) -> impl Iterator<Item = (&str, &str)> {
        let leader = (options.require_leader && self != Self::Status).then_some(("hasleader", "true"));
        [("content-type", "application/grpc"), ("te", "trailers")]
            .into_iter()
            .chain(leader)
            .chain(options.metadata.iter().map(|(name, value)| (&name[..], &value[..])))
    }
}

/// Looks at the head of a response; messages follow if it is `Ok`. `header` returns the value of a header by
/// its name in lower case.
///
/// ```
/// use etcd_watch_core::{Failure, wire::check_head};
///
/// let grpc = |name: &str| (name == "content-type").then_some(&b"application/grpc"[..]);
/// assert_eq!(check_head(200, grpc), Ok(()));
/// assert!(matches!(check_head(503, grpc), Err(Failure::Status { .. })));
/// ```
///
/// # Errors
/// How the call ended: a response that is nothing but its end has gRPC's status here; another HTTP status or
/// another content than gRPC comes from something between the driver and etcd.
pub fn check_head<'a>(http_status: u16, header: impl Fn(&str) -> Option<&'a [u8]>) -> Result<(), Failure> {
    if header("grpc-status").is_some() {
        return Err(end_of(header));
    }
    if http_status != 200 {
        let message = format!("HTTP status {http_status} instead of a gRPC response");
        return Err(Failure::status(code_of(http_status), message));
    }
    let content = header("content-type").unwrap_or_default();
    match content.strip_prefix(b"application/grpc") {
        Some([] | [b'+' | b';', ..]) => Ok(()),
        _ => {
            let content = String::from_utf8_lossy(&content[..content.len().min(100)]);
            let message = format!("content of type {content:?} instead of a gRPC response");
            Err(Failure::status(Code::Unknown, message))
        }
    }
}

/// How a call ended, by its trailers. `header` returns the value of a trailer by its name in lower case, and
/// always `None` if there were no trailers.
///
/// ```
/// use etcd_watch_core::{Failure, wire::end_of};
///
/// let trailers = [("grpc-status", "14"), ("grpc-message", "etcdserver: no%20leader")];
/// let header = |name: &str| trailers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes());
/// assert_eq!(end_of(header), Failure::status(14, "etcdserver: no leader"));
/// ```
///
/// It is [`Failure::EndOfStream`] where the status is OK: that is the good end of a unary call, after its one
/// message. A stream that ends without a status was cut on its way.
pub fn end_of<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Failure {
    let Some(status) = header("grpc-status") else {
        return Failure::connection("the stream ended without a gRPC status");
    };
    let number = core::str::from_utf8(status).ok().and_then(|status| status.parse::<i32>().ok());
    match number.map_or(Code::Unknown, Code::from) {
        Code::Ok => Failure::EndOfStream,
        code => Failure::status(code, percent_decoded(header("grpc-message").unwrap_or_default())),
    }
}

/// gRPC's table for responses that something else than a gRPC server has made
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
fn code_of(http_status: u16) -> Code {
    match http_status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// As the specification asks, nothing is an error: a `%` without two digits stands for itself.
fn percent_decoded(mut text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        let escaped = if first == b'%' { hex(rest) } else { None };
        bytes.push(escaped.unwrap_or(first));
        text = if escaped.is_some() { &rest[2..] } else { rest };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that two hexadecimal digits at the start of the text stand for.
fn hex(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn lookup(headers: Headers) -> impl Fn(&str) -> Option<&'static [u8]> {
        move |name| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_bytes())
    }

    #[test]
    fn the_path_names_etcd_s_service_and_its_method() {
        let paths = [Method::Watch, Method::Range, Method::Status].map(|method| {
            let (service, name) = method.path().strip_prefix("/etcdserverpb.")?.split_once('/')?;
            Some((service, name))
        });
        assert_eq!(paths, [Some(("Watch", "Watch")), Some(("KV", "Range")), Some(("Maintenance", "Status"))]);
    }

    #[test]
    fn a_watch_asks_for_a_leader_and_carries_metadata() {
        let options =
            StreamOptions { metadata: vec![("x-tenant".into(), "blue".into())], ..Default::default() };
        let headers = |method: Method, options| method.headers(options).collect::<Vec<_>>();
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        let (leader, tenant) = (("hasleader", "true"), ("x-tenant", "blue"));
        assert_eq!(headers(Method::Watch, &options), [&grpc[..], &[leader, tenant]].concat());
        assert_eq!(headers(Method::Range, &options), [&grpc[..], &[leader, tenant]].concat());
        assert_eq!(headers(Method::Status, &options), [&grpc[..], &[tenant]].concat());
        let leaderless = StreamOptions { require_leader: false, ..Default::default() };
        assert_eq!(headers(Method::Watch, &leaderless), grpc);
    }

    #[test]
    fn only_the_head_of_a_grpc_response_is_taken() {
        for content in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            let header = |name: &str| (name == "content-type").then_some(content.as_bytes());
            assert_eq!(check_head(200, header), Ok(()), "{content}");
        }
        for content in ["text/html", "application/grpc-web", ""] {
            let header = |name: &str| (name == "content-type").then_some(content.as_bytes());
            let refused = check_head(200, header);
            assert!(matches!(refused, Err(Failure::Status { code: Code::Unknown, .. })), "{refused:?}");
        }
        assert!(check_head(200, |_| None).is_err());
    }

    #[test]
    fn a_grpc_message_has_its_control_characters_escaped() {
        let trailers = lookup(&[("grpc-status", "14"), ("grpc-message", "two%0Alines%1B[31m")]);
        let Failure::Status { message, .. } = end_of(trailers) else { panic!("it is a status") };
        assert_eq!(message, r"two\nlines\u{1b}[31m");
    }

    #[test]
    fn an_http_status_becomes_the_code_that_grpc_gives_it() {
        for (http, expected) in [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
            (301, Code::Unknown),
            (500, Code::Unknown),
        ] {
            let refused = check_head(http, lookup(&[("content-type", "application/grpc")]));
            assert!(
                matches!(&refused, Err(Failure::Status { code, .. }) if *code == expected),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_response_that_is_only_its_end_has_the_status_in_its_head() {
        let headers: Headers = &[("grpc-status", "14"), ("grpc-message", "etcdserver: no leader")];
        let no_leader = Err(Failure::status(14, "etcdserver: no leader"));
        assert_eq!(check_head(200, lookup(headers)), no_leader);
        assert_eq!(check_head(503, lookup(headers)), no_leader, "gRPC's status goes before HTTP's");
        assert_eq!(check_head(200, lookup(&[("grpc-status", "0")])), Err(Failure::EndOfStream));
    }

    #[test]
    fn trailers_say_how_it_ended() {
        let end = |headers| end_of(lookup(headers));
        assert_eq!(end(&[("grpc-status", "0"), ("grpc-message", "ignored")]), Failure::EndOfStream);
        assert_eq!(end(&[("grpc-status", "7")]), Failure::status(7, ""));
        assert_eq!(end(&[("grpc-status", "99")]), Failure::status(Code::Unknown, ""));
        assert_eq!(
            end(&[("grpc-status", "none"), ("grpc-message", "x")]),
            Failure::status(Code::Unknown, "x")
        );
        assert!(matches!(end(&[]), Failure::Connection { .. }));
    }

    #[test]
    fn messages_are_percent_decoded() {
        for (encoded, decoded) in [
            ("no%20leader 5%", "no leader 5%"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("%E2%82%AC", "\u{20ac}"),
            ("%ff", "\u{fffd}"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(percent_decoded(encoded.as_bytes()), decoded, "{encoded}");
        }
    }
}
