//! The frames of an HTTP/2 server, as far as this client looks at them itself: the settings that it begins with, and
//! the reason that it may end with. hyper tells of neither.

/// A frame's head (RFC 9113, section 4.1): length, type, flags, stream.
const HEAD: usize = 9;

/// Types of frames (RFC 9113, section 6).
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// What is kept of a GOAWAY's text.
const MAX_TEXT: usize = 256;

/// RFC 9113, section 7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// What was seen in the bytes of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Its settings: it speaks HTTP/2.
    Settings,
    /// It speaks something else; these are its first bytes.
    Stranger(Vec<u8>),
    /// It ends the connection.
    Farewell(Farewell),
}

/// A GOAWAY frame: why a server ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    code: u32,
    text: String,
}

impl Farewell {
    /// Whether it is an error; a server that stops serving says goodbye without one.
    pub(super) fn is_error(&self) -> bool {
        self.code != 0
    }

    /// gRPC's word for pings that come more often than the server allows.
    pub(super) fn is_too_many_pings(&self) -> bool {
        self.code == ENHANCE_YOUR_CALM && self.text == "too_many_pings"
    }

    pub(super) fn code(&self) -> u32 {
        self.code
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Follows the frames through the bytes of a server, in chunks of any size.
#[derive(Debug, Default)]
pub(super) struct Frames {
    place: Place,
    /// Whether the settings have come.
    begun: bool,
}

#[derive(Debug)]
enum Place {
    Head {
        have: usize,
        head: [u8; HEAD],
    },
    Payload {
        left: usize,
    },
    Farewell {
        left: usize,
        payload: Vec<u8>,
    },
    /// No HTTP/2: nothing more is looked at.
    Lost,
}

impl Default for Place {
    fn default() -> Self {
        Self::Head { have: 0, head: [0; HEAD] }
    }
}

impl Frames {
    /// Takes in what the server has sent next.
    pub(super) fn take_in(&mut self, mut bytes: &[u8], mut see: impl FnMut(Sight)) {
        while !bytes.is_empty() {
            let used = match &mut self.place {
                Place::Lost => return,
                Place::Head { have, head } => {
                    let used = bytes.len().min(HEAD - *have);
                    head[*have..*have + used].copy_from_slice(&bytes[..used]);
                    *have += used;
                    let (have, head) = (*have, *head);
                    if !self.begun && !may_be_settings(&head[..have]) {
                        self.place = Place::Lost;
                        return see(Sight::Stranger([&head[..have - used], bytes].concat()));
                    }
                    if have == HEAD {
                        self.begin(head, &mut see);
                    }
                    used
                }
                Place::Payload { left } => {
                    let used = bytes.len().min(*left);
                    *left -= used;
                    if *left == 0 {
                        self.place = Place::default();
                    }
                    used
                }
                Place::Farewell { left, payload } => {
                    let used = bytes.len().min(*left);
                    let room = (MAX_TEXT + 8).saturating_sub(payload.len());
                    payload.extend_from_slice(&bytes[..used.min(room)]);
                    *left -= used;
                    if *left == 0 {
                        if let Some(farewell) = farewell(payload) {
                            see(Sight::Farewell(farewell));
                        }
                        self.place = Place::default();
                    }
                    used
                }
            };
            bytes = &bytes[used..];
        }
    }

    fn begin(&mut self, head: [u8; HEAD], see: &mut impl FnMut(Sight)) {
        if !std::mem::replace(&mut self.begun, true) {
            see(Sight::Settings);
        }
        let left = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        self.place = match head[3] {
            _ if left == 0 => Place::default(),
            GOAWAY => Place::Farewell { left, payload: Vec::new() },
            _ => Place::Payload { left },
        };
    }
}

/// Whether the first frame's head, as far as it has come, is that of settings: shorter than 64 KiB, on stream 0.
fn may_be_settings(head: &[u8]) -> bool {
    head[0] == 0
        && head.get(3).is_none_or(|&kind| kind == SETTINGS)
        && head.iter().skip(5).all(|&byte| byte == 0)
}

/// The last stream's number, a code, and text.
fn farewell(payload: &[u8]) -> Option<Farewell> {
    let code = payload.get(4..8)?.try_into().ok().map(u32::from_be_bytes)?;
    Some(Farewell { code, text: String::from_utf8_lossy(&payload[8..]).escape_debug().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn goaway(code: u32, text: &str) -> Vec<u8> {
        frame(GOAWAY, &[&[0, 0, 0, 1], &code.to_be_bytes()[..], text.as_bytes()].concat())
    }

    /// What is seen when the bytes come in chunks of this size.
    fn seen(bytes: &[u8], chunk: usize) -> Vec<Sight> {
        let mut frames = Frames::default();
        let mut sights = Vec::new();
        bytes.chunks(chunk).for_each(|chunk| frames.take_in(chunk, |sight| sights.push(sight)));
        sights
    }

    #[test]
    fn settings_and_farewell_are_seen_in_chunks_of_any_size() {
        let text = "too_many_pings";
        let bytes =
            [&EMPTY_SETTINGS[..], &frame(6, &[7; 8]), &frame(0, &[7; 200]), &goaway(11, text)].concat();
        for chunk in 1..=bytes.len() {
            let farewell = Farewell { code: 11, text: text.into() };
            assert!(farewell.is_too_many_pings());
            assert_eq!(seen(&bytes, chunk), [Sight::Settings, Sight::Farewell(farewell)], "{chunk}");
        }
    }

    #[test]
    fn a_tls_alert_and_another_http_are_strangers_at_once() {
        let alert = [0x15, 3, 1, 0, 2, 2, 0x46];
        assert_eq!(seen(&alert, 7), [Sight::Stranger(alert.into())]);
        assert_eq!(seen(b"HTTP/1.1 400 Bad Request\r\n", 5), [Sight::Stranger(b"HTTP/".into())]);
        let data = frame(0, &[1; 4]);
        assert_eq!(seen(&data, data.len()), [Sight::Stranger(data.clone())]);
    }

    #[test]
    fn a_farewell_without_an_error_is_none() {
        let seen = seen(&[&EMPTY_SETTINGS[..], &goaway(0, "")].concat(), 1_000);
        let Some(Sight::Farewell(farewell)) = seen.last() else { panic!("{seen:?}") };
        assert!(!farewell.is_error() && !farewell.is_too_many_pings());
    }

    #[test]
    fn a_long_farewell_is_cut_and_a_short_one_is_passed_over() {
        let long = [&[0_u8; 8][..], &[b'x'; 1_000]].concat();
        let head = [0, 3, 0xf0, GOAWAY, 0, 0, 0, 0, 0];
        let bytes = [&EMPTY_SETTINGS[..], &head, &long, &frame(GOAWAY, &[1; 3])].concat();
        let seen = seen(&bytes, 100);
        let [Sight::Settings, Sight::Farewell(farewell)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(farewell.text().len(), MAX_TEXT);
    }
}
