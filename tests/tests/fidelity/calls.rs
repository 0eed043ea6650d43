//! Calls on the side, and their answers in a form that can be compared.

use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, ResponseHeader,
    TxnRequest, TxnResponse, kv_client::KvClient, lease_client::LeaseClient, response_op::Response,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

/// Puts under way at once while one is repeated.
const AT_ONCE: usize = 64;

/// A call with nothing left open.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    Repeat(PutRequest, usize),
}

/// Makes a call and writes the answer down, without what differs from server to server.
pub(crate) async fn answer(channel: &Channel, request: Request) -> String {
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    let answered = match request {
        Request::Put(put) => {
            kv.put(put).await.map(|response| known(Response::ResponsePut(response.into_inner())))
        }
        Request::Delete(delete) => kv
            .delete_range(delete)
            .await
            .map(|response| known(Response::ResponseDeleteRange(response.into_inner()))),
        Request::Txn(txn) => {
            kv.txn(txn).await.map(|response| known(Response::ResponseTxn(response.into_inner())))
        }
        Request::Compact(revision) => kv
            .compact(CompactionRequest { revision, physical: true })
            .await
            .map(|response| format!("compacted at {}", revision_of(response.into_inner().header))),
        // Long enough never to end by itself.
        Request::Grant(id) => {
            leases.lease_grant(LeaseGrantRequest { id, ttl: 100_000 }).await.map(|response| {
                let response = response.into_inner();
                format!("granted {} for {}", response.id, response.ttl)
            })
        }
        Request::Revoke(id) => leases
            .lease_revoke(LeaseRevokeRequest { id })
            .await
            .map(|response| format!("revoked at {}", revision_of(response.into_inner().header))),
        Request::Repeat(put, count) => repeat(&kv, &put, count).await.map(|()| "repeated".to_owned()),
    };
    answered.unwrap_or_else(|status| format!("refused: {:?} {:?}", status.code(), status.message()))
}

async fn repeat(kv: &KvClient<Channel>, put: &PutRequest, count: usize) -> Result<(), Status> {
    let mut under_way = JoinSet::new();
    for _ in 0..count {
        let (mut kv, put) = (kv.clone(), PutRequest { prev_kv: false, ..put.clone() });
        under_way.spawn(async move { kv.put(put).await });
        if under_way.len() == AT_ONCE {
            under_way.join_next().await.expect("one is under way").expect("no panic")?;
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.expect("no panic")?;
    }
    Ok(())
}

fn revision_of(header: Option<ResponseHeader>) -> i64 {
    header.map_or(-1, |header| header.revision)
}

fn known(mut response: Response) -> String {
    forget_identity(&mut response);
    format!("{response:?}")
}

fn forget_identity(response: &mut Response) {
    let header = match response {
        Response::ResponseRange(response) => &mut response.header,
        Response::ResponsePut(response) => &mut response.header,
        Response::ResponseDeleteRange(response) => &mut response.header,
        Response::ResponseTxn(TxnResponse { header, responses, .. }) => {
            responses.iter_mut().filter_map(|inner| inner.response.as_mut()).for_each(forget_identity);
            header
        }
    };
    *header =
        header.take().map(|header| ResponseHeader { revision: header.revision, ..ResponseHeader::default() });
}
