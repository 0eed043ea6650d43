//! Bytes of a fuzzer, read as decisions; and the same decisions written as bytes, for seeds.

/// What a fuzzer made up. When it is used up, everything it says is 0 or empty.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `limit`, which is above 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// The element at that place from the end, since the newest matters most; `None` if there is none.
    pub(super) fn pick_from_end<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let which = usize::from(self.byte());
        (!from.is_empty()).then(|| from[from.len() - 1 - which % from.len()])
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Mostly small, sometimes at one of the ends.
    pub(super) fn number(&mut self) -> i64 {
        match self.byte() {
            0xff => i64::from_le_bytes(self.u64().to_le_bytes()),
            0xfe => i64::MAX,
            0xfd => i64::MAX - 1,
            0xfc => i64::MIN,
            0xfb => -1,
            small => i64::from(small),
        }
    }

    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// Some bytes behind their length, which is one byte, or 255 and two more.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = match self.byte() {
            u8::MAX => usize::from(u16::from_le_bytes([self.byte(), self.byte()])),
            len => usize::from(len),
        };
        self.take(len)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}

/// Writes bytes as [`Input::bytes`] reads them.
pub(super) fn write_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    match u8::try_from(bytes.len()) {
        Ok(len) if len < u8::MAX => to.push(len),
        _ => {
            to.push(u8::MAX);
            let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            to.extend(len.to_le_bytes());
        }
    }
    to.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_were_written_and_nothing_comes_after_the_end() {
        let long = vec![7; 300];
        let mut written = Vec::new();
        write_bytes(&mut written, b"short");
        write_bytes(&mut written, &long);
        let mut input = Input::new(&written);
        assert_eq!((input.bytes(), input.bytes()), (&b"short"[..], &long[..]));
        assert!(input.is_empty());
        assert_eq!((input.byte(), input.number(), input.bytes()), (0, 0, &b""[..]));
    }
}
