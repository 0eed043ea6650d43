//! Errors of the model as gRPC tells them.

use tonic::{Code, Status};

use crate::model::ModelError;

/// The status etcd answers with: code and text.
pub(super) fn status(error: ModelError) -> Status {
    let code = match error {
        ModelError::EmptyKey
        | ModelError::KeyNotFound
        | ModelError::ValueProvided
        | ModelError::LeaseProvided
        | ModelError::TooManyOps
        | ModelError::DuplicateKey
        | ModelError::InvalidSortOption
        | ModelError::RequestTooLarge => Code::InvalidArgument,
        ModelError::Compacted | ModelError::FutureRevision | ModelError::LeaseTtlTooLarge => Code::OutOfRange,
        ModelError::LeaseNotFound => Code::NotFound,
        ModelError::LeaseExists => Code::FailedPrecondition,
        ModelError::NoLeader => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}
