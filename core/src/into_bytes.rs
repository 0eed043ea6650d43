//! What keys and values are given as.

use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};
use bytes::Bytes;

/// What a key or a value can be given as: text or bytes, borrowed, owned or shared.
///
/// What is owned is taken over and what is shared is shared; what is borrowed is copied.
///
/// ```
/// use etcd_watch_core::{IntoBytes, KeyRange};
///
/// let name = String::from("anna");
/// assert_eq!(KeyRange::key(&name), KeyRange::key("anna"));
/// assert_eq!(KeyRange::key(b"anna"), KeyRange::key(name.into_bytes()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a key nor a value",
    label = "give text or bytes",
    note = "such as &str, String, &[u8], Vec<u8> or Bytes"
)]
pub trait IntoBytes {
    /// The bytes.
    fn into_bytes(self) -> Bytes;
}

macro_rules! taken_over {
    ($($owned:ty),*) => {$(
        impl IntoBytes for $owned {
            fn into_bytes(self) -> Bytes {
                Bytes::from(self)
            }
        }
    )*};
}

taken_over! { Bytes, String, Vec<u8>, Box<[u8]> }

macro_rules! copied {
    ($($borrowed:ty),*) => {$(
        impl IntoBytes for $borrowed {
            fn into_bytes(self) -> Bytes {
                let bytes: &[u8] = self.as_ref();
                Bytes::copy_from_slice(bytes)
            }
        }
    )*};
}

copied! { &str, &String, &[u8], &Vec<u8> }

impl<const N: usize> IntoBytes for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoBytes for [u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl IntoBytes for &Bytes {
    fn into_bytes(self) -> Bytes {
        self.clone()
    }
}

impl IntoBytes for Box<str> {
    fn into_bytes(self) -> Bytes {
        String::from(self).into()
    }
}

impl IntoBytes for Cow<'_, str> {
    fn into_bytes(self) -> Bytes {
        match self {
            Cow::Borrowed(text) => text.into_bytes(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl IntoBytes for Cow<'_, [u8]> {
    fn into_bytes(self) -> Bytes {
        match self {
            Cow::Borrowed(bytes) => bytes.into_bytes(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn all_that_is_text_or_bytes_comes_to_the_same() {
        let text = String::from("key");
        let shared = Bytes::from_static(b"key");
        let all = [
            "key".into_bytes(),
            (&text).into_bytes(),
            IntoBytes::into_bytes(text.clone()),
            text.clone().into_boxed_str().into_bytes(),
            Cow::from("key").into_bytes(),
            Cow::<str>::Owned(text.clone()).into_bytes(),
            (&b"key"[..]).into_bytes(),
            b"key".into_bytes(),
            (*b"key").into_bytes(),
            vec![b'k', b'e', b'y'].into_bytes(),
            (&text.clone().into_bytes()).into_bytes(),
            text.into_bytes().into_boxed_slice().into_bytes(),
            Cow::from(&b"key"[..]).into_bytes(),
            (&shared).into_bytes(),
            shared.into_bytes(),
        ];
        assert!(all.iter().all(|bytes| bytes == "key"), "{all:?}");
    }

    #[test]
    fn what_is_shared_or_owned_is_not_copied() {
        let owned = vec![7; 64];
        let at = owned.as_ptr();
        let taken = owned.into_bytes();
        assert_eq!((taken.as_ptr(), (&taken).into_bytes().as_ptr()), (at, at));
    }
}
