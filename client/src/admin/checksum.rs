//! The checksum of a snapshot.

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// The bytes of a SHA-256.
pub(super) const CHECKSUM_BYTES: u64 = 32;

/// Verifies a snapshot: the database, and behind it the SHA-256 of it (etcd's `v3rpc/maintenance.go`). No byte of the
/// checksum is let through before it is known to be right, so that a file of what is let through looks whole only if it
/// is.
#[derive(Debug)]
pub(super) struct Checksum {
    /// How much of the database is still to come.
    left: u64,
    hasher: Sha256,
    /// What has come of the checksum.
    sent: BytesMut,
    is_verified: bool,
}

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The checksum is not that of the bytes before it.
    Checksum,
    /// There is more than was announced.
    TooLong,
}

impl Checksum {
    /// For a database of so many bytes.
    pub(super) fn new(database_bytes: u64) -> Self {
        Self { left: database_bytes, hasher: Sha256::new(), sent: BytesMut::new(), is_verified: false }
    }

    /// Whether all has come, and the checksum is right.
    pub(super) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// Takes the next piece; what may be let through now, possibly nothing.
    pub(super) fn take(&mut self, mut piece: Bytes) -> Result<Bytes, Wrong> {
        let of_database = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        let checksum = piece.split_off(of_database);
        self.hasher.update(&piece);
        self.left -= of_database as u64;
        if checksum.is_empty() {
            return Ok(piece);
        }
        if self.is_verified || (self.sent.len() + checksum.len()) as u64 > CHECKSUM_BYTES {
            return Err(Wrong::TooLong);
        }
        self.sent.extend_from_slice(&checksum);
        if (self.sent.len() as u64) < CHECKSUM_BYTES {
            return Ok(piece);
        }
        if self.hasher.finalize_reset()[..] != self.sent[..] {
            return Err(Wrong::Checksum);
        }
        self.is_verified = true;
        let checksum = std::mem::take(&mut self.sent).freeze();
        if piece.is_empty() {
            return Ok(checksum);
        }
        Ok([piece, checksum].concat().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &[u8] = b"what is in the database";

    fn snapshot() -> Vec<u8> {
        [DATABASE, &Sha256::digest(DATABASE)[..]].concat()
    }

    /// What is let through of these pieces, until something is wrong.
    fn through<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Result<bool, Wrong>) {
        let mut checksum = Checksum::new(DATABASE.len() as u64);
        let mut through = Vec::new();
        for piece in pieces {
            match checksum.take(Bytes::copy_from_slice(piece)) {
                Ok(piece) => through.extend_from_slice(&piece),
                Err(wrong) => return (through, Err(wrong)),
            }
        }
        (through, Ok(checksum.is_verified()))
    }

    #[test]
    fn a_snapshot_is_let_through_however_it_is_cut_into_pieces() {
        let whole = snapshot();
        for size in 1..=whole.len() {
            assert_eq!(through(whole.chunks(size)), (whole.clone(), Ok(true)), "pieces of {size}");
        }
        let empty_ones = [&whole[..0], &whole[..DATABASE.len()], &whole[..0], &whole[DATABASE.len()..]];
        assert_eq!(through(empty_ones), (whole.clone(), Ok(true)));
    }

    #[test]
    fn one_that_ends_too_soon_is_not_verified_and_its_checksum_is_kept_back() {
        let whole = snapshot();
        for end in 0..whole.len() {
            let (through, verified) = through([&whole[..end]]);
            assert_eq!(verified, Ok(false));
            assert_eq!(through, &whole[..end.min(DATABASE.len())]);
        }
    }

    #[test]
    fn a_bit_that_is_wrong_anywhere_is_found_before_the_checksum_is_let_through() {
        for at in 0..snapshot().len() {
            let mut wrong = snapshot();
            wrong[at] ^= 1;
            let (through, verified) = through(wrong.chunks(5));
            assert_eq!(verified, Err(Wrong::Checksum), "byte {at}");
            assert!(through.len() <= DATABASE.len());
        }
    }

    #[test]
    fn more_than_was_announced_is_refused() {
        let longer = [&snapshot()[..], b"x"].concat();
        for size in 1..=longer.len() {
            assert_eq!(through(longer.chunks(size)).1, Err(Wrong::TooLong), "pieces of {size}");
        }
    }
}
