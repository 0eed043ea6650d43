//! Frames of HTTP/2 (RFC 9113, section 4.1).

/// The bytes before a frame's payload.
pub(crate) const HEAD: usize = 9;

/// The largest payload that every peer takes, and the one that grpc-go sends.
pub(crate) const MAX_PAYLOAD: usize = 16_384;

/// What a client sends before its first frame.
pub(crate) const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The windows of a connection and of its streams before anyone changes them.
pub(crate) const DEFAULT_WINDOW: i64 = 65_535;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// The setting by which a peer says how large the windows of its streams are at first.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame that has arrived, or is to be sent, in whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    /// Head and payload.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`, if all of it is there.
    pub(crate) fn first(bytes: &'a [u8]) -> Option<Self> {
        let &[a, b, c, kind, _, s0, s1, s2, s3] = bytes.first_chunk::<HEAD>()?;
        let payload = u32::from_be_bytes([0, a, b, c]) as usize;
        let bytes = bytes.get(..HEAD + payload)?;
        Some(Self { kind, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), bytes })
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[HEAD..]
    }

    /// By how much a window update enlarges the window.
    pub(crate) fn increment(&self) -> Option<i64> {
        let bytes = self.payload().first_chunk()?;
        Some(i64::from(u32::from_be_bytes(*bytes) & 0x7fff_ffff))
    }

    /// The window that settings give each stream.
    pub(crate) fn initial_window(&self) -> Option<i64> {
        let settings = self.payload().chunks_exact(6).filter_map(|setting| setting.first_chunk::<6>());
        let mut windows = settings.filter_map(|&[a, b, v0, v1, v2, v3]| {
            let is_window = u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE;
            is_window.then(|| i64::from(u32::from_be_bytes([v0, v1, v2, v3])))
        });
        windows.next_back()
    }
}

/// The head of a DATA frame.
pub(crate) fn data_head(payload: usize, stream: u32) -> [u8; HEAD] {
    // At most `MAX_PAYLOAD`.
    let [_, a, b, c] = (payload as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [a, b, c, DATA, 0, s0, s1, s2, s3]
}
