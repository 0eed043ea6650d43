//! Makes up scripts, with what is wrong or rare among the rest.

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    watch_create_request::FilterType,
};

use crate::{
    MAX_REQUEST_BYTES,
    script::{Call, Id, Start, Step, Target, Wish},
};

/// The keys most things happen to.
const KEYS: u8 = 6;
/// The keys with large values.
const LARGE_KEYS: u8 = 16;
/// More than a watch gets in one batch while it catches up.
const MANY: usize = 1100;

/// Makes up one script.
pub(crate) struct Author {
    random: fastrand::Rng,
    values: u32,
    /// Whether values are large enough for responses to be cut.
    large: bool,
}

impl Author {
    pub(crate) fn write(seed: u64) -> Vec<Step> {
        let mut random = fastrand::Rng::with_seed(seed);
        let large = random.u8(0..4) == 0;
        let many = random.u8(0..5) == 0;
        let mut author = Self { random, values: 0, large };
        let mut steps = vec![Step::Open];
        // Some that live to see things happen.
        for _ in 0..author.random.usize(0..4) {
            let start = if author.random.bool() { Start::Now } else { Start::Future(2) };
            let wish = Wish { id: Id::Any, start, ..author.wish() };
            steps.push(Step::Create { stream: author.index(), wish });
        }
        let rounds = author.random.usize(4..9);
        let many_in = many.then(|| author.random.usize(0..rounds));
        for round in 0..rounds {
            for _ in 0..author.random.usize(3..14) {
                steps.push(author.step());
            }
            if author.random.bool() {
                author.add_compaction(&mut steps);
            }
            if many_in == Some(round) {
                let put = author.put();
                steps.push(Step::Call(Call::Repeat(PutRequest { lease: 0, ..put }, MANY)));
                for _ in 0..3 {
                    let start = Start::Past(author.random.i64(900..1200));
                    let wish = Wish { start, ..author.wish() };
                    steps.push(Step::Create { stream: author.index(), wish });
                }
            }
            if large && author.random.bool() {
                author.add_burst(&mut steps);
            }
            steps.push(Step::Settle);
        }
        steps
    }

    /// More than goes into one response: as one change, and for one that catches up.
    fn add_burst(&mut self, steps: &mut Vec<Step>) {
        let all_large = |author: &mut Self, start| {
            let (key, range_end) = ("large/".into(), "large0".into());
            let wish = Wish { id: Id::Any, start, key, range_end, filters: vec![], ..author.wish() };
            Step::Create { stream: author.index(), wish }
        };
        let from_now = all_large(self, Start::Now);
        steps.extend([from_now, Step::Settle]);
        for number in 0..LARGE_KEYS {
            let put = self.large_put(number);
            steps.push(Step::Call(Call::Put(put)));
        }
        steps.push(all_large(self, Start::Past(i64::from(LARGE_KEYS))));
        if self.random.bool() {
            steps.push(Step::Settle);
        }
        let (key, range_end) = ("large/".into(), "large0".into());
        steps.push(Step::Call(Call::Delete(DeleteRangeRequest { key, range_end, prev_kv: false })));
    }

    /// A compaction right at a change, before or after it, and watches from there.
    fn add_compaction(&mut self, steps: &mut Vec<Step>) {
        let put = self.small_put();
        let range_end = if self.random.bool() { "l".into() } else { Bytes::new() };
        let change = match self.random.u8(0..4) {
            0 => Call::Delete(DeleteRangeRequest { key: put.key.clone(), range_end, prev_kv: false }),
            1 => Call::Txn(self.transaction(1)),
            2 => Call::Txn(self.double_change()),
            _ => Call::Put(self.small_put()),
        };
        steps.extend([Call::Put(put), change].map(Step::Call));
        if self.random.bool() {
            let call = self.call();
            steps.push(Step::Call(call));
        }
        // The runner makes a change of its own before a compaction.
        steps.push(Step::Call(Call::Compact(self.random.i64(0..4))));
        for _ in 0..2 {
            let (key, range_end) = self.watched_range();
            let start = Start::Compaction(self.random.i64(0..2));
            let wish = Wish { id: Id::Any, start, key, range_end, ..self.wish() };
            steps.push(Step::Create { stream: self.index(), wish });
        }
    }

    /// What puts a key and deletes it at once: that is refused, but for a delete "from a key on".
    fn double_change(&mut self) -> TxnRequest {
        let put = self.small_put();
        let delete = DeleteRangeRequest { key: put.key.clone(), range_end: "\0".into(), prev_kv: false };
        let mut success = [Request::RequestPut(put), Request::RequestDeleteRange(delete)];
        if self.random.bool() {
            success.reverse();
        }
        let success = success.map(|request| RequestOp { request: Some(request) }).to_vec();
        TxnRequest { success, ..TxnRequest::default() }
    }

    fn large_put(&mut self, number: u8) -> PutRequest {
        let size = self.random.usize(MAX_REQUEST_BYTES / 2..MAX_REQUEST_BYTES * 9 / 10);
        PutRequest {
            key: format!("large/{number:02}").into(),
            value: vec![self.random.u8(b'a'..=b'z'); size].into(),
            ..PutRequest::default()
        }
    }

    fn index(&mut self) -> usize {
        self.random.usize(0..8)
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.random.u8(0..n) == 0
    }

    fn step(&mut self) -> Step {
        let stream = self.index();
        match self.random.u8(0..60) {
            0..2 => Step::Open,
            2 => Step::Close(stream),
            3..19 => Step::Create { stream, wish: self.wish() },
            19..26 => Step::Cancel { stream, target: self.target(), settled: self.random.bool() },
            26..32 => Step::Progress { stream, settled: !self.one_in(3) },
            32..35 => Step::Call(Call::Compact(if self.one_in(6) { -1 } else { self.random.i64(0..8) })),
            35..37 => Step::Settle,
            _ => Step::Call(self.call()),
        }
    }

    fn wish(&mut self) -> Wish {
        let id = match self.random.u8(0..20) {
            0..8 => Id::Any,
            8..12 => Id::Small(self.random.i64(1..6)),
            12..15 => Id::New,
            15..17 => Id::Taken(self.index()),
            17..19 => Id::Again(self.index()),
            _ => Id::Negative,
        };
        let start = match self.random.u8(0..20) {
            0..7 => Start::Now,
            7..12 => Start::Past(self.random.i64(0..20)),
            12..15 => Start::Compaction(self.random.i64(-1..2)),
            15..18 => Start::Future(self.random.i64(1..6)),
            18 => Start::Number(1),
            _ => Start::Number(-self.random.i64(1..4)),
        };
        let (key, range_end) = self.watched_range();
        let filters = match self.random.u8(0..10) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            2 => vec![FilterType::Nodelete.into(), FilterType::Noput.into()],
            _ => vec![],
        };
        Wish {
            id,
            start,
            key,
            range_end,
            filters,
            prev_kv: self.random.bool(),
            fragment: self.random.bool(),
            progress_notify: self.one_in(4),
        }
    }

    /// A range of any shape.
    fn watched_range(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.random.u8(0..24) {
            0..6 => (key, Bytes::new()),
            6..10 => ("k".into(), "l".into()),
            10 => (key.clone(), key),
            11..14 => (key, self.key()),
            14..17 => (key, "\0".into()),
            17 => (Bytes::new(), "\0".into()),
            18 => (Bytes::new(), Bytes::new()),
            19 => (Bytes::new(), self.key()),
            20 => ("\0".into(), "\0".into()),
            21 => ("l".into(), "k".into()),
            22 => (key.clone(), [&key[..], b"\0"].concat().into()),
            _ => ("large/".into(), "large0".into()),
        }
    }

    fn target(&mut self) -> Target {
        match self.random.u8(0..8) {
            0 => Target::Nobody,
            1 => Target::LastChosen,
            _ => Target::Known(self.index()),
        }
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.random.u8(0..KEYS)).into()
    }

    fn put(&mut self) -> PutRequest {
        self.values += 1;
        let mut put = PutRequest {
            key: self.key(),
            value: format!("v{:05}", self.values).into(),
            lease: if self.one_in(5) { self.random.i64(1..4) } else { 0 },
            prev_kv: self.one_in(3),
            ..PutRequest::default()
        };
        if self.large && self.random.bool() {
            let number = self.random.u8(0..LARGE_KEYS);
            put = PutRequest { prev_kv: put.prev_kv, ..self.large_put(number) };
        } else if self.one_in(60) {
            // Too large for a request, not for a message.
            put.value = vec![b'x'; MAX_REQUEST_BYTES * 2].into();
        }
        put
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = match self.random.u8(0..12) {
            0..6 => (self.key(), Bytes::new()),
            6..9 => (self.key(), self.key()),
            9 => (self.key(), "\0".into()),
            10 => ("large/".into(), "large0".into()),
            _ => ("k".into(), "l".into()),
        };
        DeleteRangeRequest { key, range_end, prev_kv: self.one_in(3) }
    }

    fn transaction(&mut self, depth: u8) -> TxnRequest {
        let compare = (0..self.random.u8(0..2))
            .map(|_| Compare {
                result: i32::from(if self.random.bool() {
                    CompareResult::Equal
                } else {
                    CompareResult::Greater
                }),
                target: CompareTarget::Version.into(),
                key: self.key(),
                target_union: Some(TargetUnion::Version(self.random.i64(0..3))),
                ..Compare::default()
            })
            .collect();
        TxnRequest { compare, success: self.operations(depth), failure: self.operations(depth) }
    }

    fn operations(&mut self, depth: u8) -> Vec<RequestOp> {
        (0..self.random.u8(0..5))
            .map(|_| {
                let request = match self.random.u8(0..if depth == 0 { 9 } else { 10 }) {
                    0..6 => Request::RequestPut(self.small_put()),
                    6..8 => Request::RequestDeleteRange(self.delete()),
                    8 => Request::RequestRange(RangeRequest { key: self.key(), ..RangeRequest::default() }),
                    _ => Request::RequestTxn(self.transaction(depth - 1)),
                };
                RequestOp { request: Some(request) }
            })
            .collect()
    }

    fn small_put(&mut self) -> PutRequest {
        self.values += 1;
        PutRequest { key: self.key(), value: format!("v{:05}", self.values).into(), ..PutRequest::default() }
    }

    fn call(&mut self) -> Call {
        match self.random.u8(0..20) {
            0..10 => Call::Put(self.put()),
            10..13 => Call::Delete(self.delete()),
            13..17 => Call::Txn(self.transaction(1)),
            17..19 => Call::Grant(self.random.i64(1..4)),
            _ => Call::Revoke(self.random.i64(1..4)),
        }
    }
}
