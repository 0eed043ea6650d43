//! Writes of one key under a condition on it: a transaction each, and what it answers.

use std::fmt;

use etcd_watch_core::{Header, OwnedKeyValue};

use super::{
    answers::{DeleteResponse, PutResponse, TxnResponse, TxnResult},
    compare::Compare,
    kv::{Delete, Get, Put, not_negative},
    txn::Txn,
};
use crate::CallError;

/// The answer to a write that was asked for under a condition: [`Client::create`](crate::Client::create),
/// [`Client::update_if`](crate::Client::update_if), [`Client::delete_if`](crate::Client::delete_if).
#[derive(Clone, Debug, PartialEq)]
#[must_use = "it says whether the write was made"]
#[expect(clippy::exhaustive_enums, reason = "a condition holds or it doesn't")]
pub enum Conditional<T> {
    /// The condition held, and the write was made.
    Done(T),
    /// The condition did not hold, and nothing was changed.
    Conflict(Conflict),
}

impl<T> Conditional<T> {
    /// Whether the write was made.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// The answer to the write, if it was made.
    #[must_use]
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(answer) => Some(answer),
            Self::Conflict(_) => None,
        }
    }

    /// What was in the way, if the write was not made.
    #[must_use]
    pub fn conflict(self) -> Option<Conflict> {
        match self {
            Self::Done(_) => None,
            Self::Conflict(conflict) => Some(conflict),
        }
    }

    /// The conflict as an error: for those who have no other plan.
    ///
    /// # Errors
    /// The write was not made.
    pub fn into_result(self) -> Result<T, Conflict> {
        match self {
            Self::Done(answer) => Ok(answer),
            Self::Conflict(conflict) => Err(conflict),
        }
    }
}

/// What was in the way of a write under a condition. It was read in the same transaction.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the condition of the write did not hold: {}", is_now(.found.as_deref()))]
pub struct Conflict {
    header: Header,
    /// In a box: it is a part of results, and large.
    found: Option<Box<OwnedKeyValue>>,
}

impl Conflict {
    /// What the server tells of itself with the answer; zeros when it told nothing.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The store's revision when this was so: a watch from the next one on sees all that comes after it.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header.revision
    }

    /// The pair that is there; `None` if the key doesn't exist.
    #[must_use]
    pub fn found(&self) -> Option<&OwnedKeyValue> {
        self.found.as_deref()
    }

    /// The pair that is there, by value.
    #[must_use]
    pub fn into_found(self) -> Option<OwnedKeyValue> {
        self.found.map(|kv| *kv)
    }
}

impl fmt::Debug for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflict")
            .field("revision", &self.revision())
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

fn is_now(found: Option<&OwnedKeyValue>) -> String {
    match found {
        Some(kv) => format!("the key was last changed at revision {}", kv.mod_revision),
        None => "the key does not exist".to_owned(),
    }
}

/// Puts, if the key was last changed at this revision; 0 for a key that doesn't exist.
pub(crate) fn put_if(method: &'static str, put: Put, mod_revision: i64) -> Result<Txn, CallError> {
    // Refused by the name of the call that was made.
    let key = put.clone().into_request(method)?.key;
    not_negative(method, "mod_revision", mod_revision)?;
    let condition = Compare::mod_revision(key.clone()).equals(mod_revision);
    Ok(Txn::new().when(condition).and_then(put).or_else(Get::key(key)))
}

/// Deletes one key, if it was last changed at this revision.
pub(crate) fn delete_if(method: &'static str, delete: Delete, mod_revision: i64) -> Result<Txn, CallError> {
    let key = delete.clone().into_request(method)?.key;
    if mod_revision <= 0 {
        let problem = "is not above 0: give the mod_revision of the pair that was read";
        return Err(CallError::InvalidArgument { method, field: "mod_revision", problem });
    }
    let condition = Compare::mod_revision(key.clone()).equals(mod_revision);
    Ok(Txn::new().when(condition).and_then(delete).or_else(Get::key(key)))
}

impl Conditional<PutResponse> {
    pub(crate) fn of_put(response: TxnResponse) -> Self {
        Self::read(response, |header, result| match result {
            Some(TxnResult::Put(put)) => PutResponse { header, ..put },
            _ => PutResponse { header, ..PutResponse::default() },
        })
    }
}

impl Conditional<DeleteResponse> {
    pub(crate) fn of_delete(response: TxnResponse) -> Self {
        Self::read(response, |header, result| match result {
            Some(TxnResult::Delete(delete)) => DeleteResponse { header, ..delete },
            // The condition held, so the key was there.
            _ => DeleteResponse { header, deleted: 1, ..DeleteResponse::default() },
        })
    }
}

impl<T> Conditional<T> {
    fn read(response: TxnResponse, done: impl FnOnce(Header, Option<TxnResult>) -> T) -> Self {
        let (header, succeeded) = (response.header(), response.succeeded());
        let result = response.into_results().into_iter().next();
        if succeeded {
            return Self::Done(done(header, result));
        }
        let found = match result {
            Some(TxnResult::Get(get)) => get.into_first().map(Box::new),
            _ => None,
        };
        Self::Conflict(Conflict { header, found })
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_proto::{
        etcdserverpb::{self as pb, response_op::Response},
        mvccpb::KeyValue,
    };

    use super::*;

    fn answer(succeeded: bool, step: Response) -> TxnResponse {
        let header = pb::ResponseHeader { cluster_id: 3, revision: 9, ..Default::default() };
        let responses = vec![pb::ResponseOp { response: Some(step) }];
        pb::TxnResponse { header: Some(header), succeeded, responses }.into()
    }

    #[test]
    fn a_write_that_was_made_has_the_header_of_its_transaction() {
        let kv = KeyValue { key: "k".into(), mod_revision: 5, ..Default::default() };
        let put = pb::PutResponse { prev_kv: Some(kv), ..Default::default() };
        let put = Conditional::of_put(answer(true, Response::ResponsePut(put))).done().expect("it is made");
        assert_eq!((put.header().cluster_id, put.revision()), (3, 9));
        assert_eq!(put.prev().map(|kv| kv.mod_revision), Some(5));
        let delete = pb::DeleteRangeResponse { deleted: 1, ..Default::default() };
        let delete = Conditional::of_delete(answer(true, Response::ResponseDeleteRange(delete)));
        assert_eq!(delete.done().map(|delete| (delete.deleted(), delete.revision())), Some((1, 9)));
    }

    #[test]
    fn a_conflict_says_what_is_there() {
        let kv = KeyValue { key: "k".into(), value: "secret".into(), mod_revision: 5, ..Default::default() };
        let there = pb::RangeResponse { kvs: vec![kv], ..Default::default() };
        let conflict = Conditional::of_put(answer(false, Response::ResponseRange(there))).conflict();
        let conflict = conflict.expect("it is not made");
        assert_eq!((conflict.revision(), conflict.found().map(|kv| kv.mod_revision)), (9, Some(5)));
        assert!(conflict.to_string().ends_with("last changed at revision 5"), "{conflict}");
        assert!(!format!("{conflict:?}").contains("secret"), "{conflict:?}");
        let nothing = answer(false, Response::ResponseRange(pb::RangeResponse::default()));
        let conflict = Conditional::of_delete(nothing).into_result().expect_err("it is not made");
        assert!(conflict.found().is_none() && conflict.to_string().ends_with("does not exist"), "{conflict}");
    }

    #[test]
    fn what_can_not_be_is_refused_by_the_name_of_the_call() {
        let field = |result: Result<Txn, CallError>| match result {
            Err(CallError::InvalidArgument { method, field, .. }) => (method, field),
            other => panic!("{other:?}"),
        };
        assert_eq!(field(put_if("create", Put::new("", "v"), 0)), ("create", "key"));
        assert_eq!(field(put_if("update_if", Put::new("k", "v"), -1)), ("update_if", "mod_revision"));
        assert_eq!(field(delete_if("delete_if", Delete::key("k"), 0)), ("delete_if", "mod_revision"));
        assert_eq!(field(delete_if("delete_if", Delete::key(""), 1)), ("delete_if", "key"));
    }
}
