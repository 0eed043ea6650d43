//! Auth tokens, as requests carry them.

use std::fmt;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// Which of a client's tokens: they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(super) u64);

/// A token; or that none is needed, as far as is known.
#[derive(Clone)]
pub(crate) struct Token {
    generation: Option<Generation>,
    value: Option<AsciiMetadataValue>,
}

impl Token {
    /// One of the client's own.
    pub(super) fn of_client(generation: Generation, value: Option<AsciiMetadataValue>) -> Self {
        Self { generation: Some(generation), value }
    }

    /// One that [`CallOptions`](crate::CallOptions) put in the place of the client's.
    pub(crate) fn of_options(value: AsciiMetadataValue) -> Self {
        Self { generation: None, value: Some(value) }
    }

    /// Which of the client's tokens it is; `None` if it is none of them.
    pub(crate) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// The token itself, if there is one.
    pub(super) fn value(&self) -> Option<AsciiMetadataValue> {
        self.value.clone()
    }

    /// Whether there is one.
    pub(crate) fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// Puts it on a request, in the place of one that was there.
    pub(crate) fn attach(&self, metadata: &mut MetadataMap) {
        if let Some(value) = &self.value {
            metadata.insert("token", value.clone());
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// What a refused token is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// By another one: the next request has it.
    Another,
    /// By itself: the application gave it, and has to give another.
    Same,
}
