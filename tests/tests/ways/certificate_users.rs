//! Users that a server knows by the common name of their certificate: no password, no token.

use std::time::Duration;

use etcd_watch_client::{Client, ClientBuilder, CloseReason, KeyRange, Tls, WatchRequest};
use etcd_watch_testkit::{
    certificates::TestCa,
    harness::{Access, Auth, EtcdServer, EtcdServerBuilder, EtcdVersion, Keys, ServerTls},
    proxy::{Cut, FaultProxy},
};
use tokio::time::timeout;

use crate::{DEADLINE, nothing_is_lost, on_every_runtime, runtime::On, versions};

on_every_runtime! {
    a_user_by_certificate_may_do_what_the_user_may
}

/// A server on which alice may read and write `ways` and `a/`, and bob only `b/`.
struct World {
    server: EtcdServer,
    ca: TestCa,
    on: On,
}

impl World {
    async fn start(on: On, server: EtcdServerBuilder) -> Self {
        let ca = TestCa::new();
        let tls = ServerTls::new(&ca.server(["127.0.0.1"])).require_client_certificates(&ca);
        let server = server.tls(tls).start_async().await.expect("etcd starts");
        let auth = Auth::enable(&server.etcdctl().expect("its etcdctl"), "r00t").await.expect("it is on");
        for (user, keys) in
            [("alice", &[Keys::One("ways"), Keys::Prefix("a/")][..]), ("bob", &[Keys::Prefix("b/")])]
        {
            auth.add_user(user, "p4ss").await.expect("the user is added");
            auth.add_role(user).await.expect("the role is added");
            for &keys in keys {
                auth.grant(user, Access::ReadWrite, keys).await.expect("it is granted");
            }
            auth.give_role(user, user).await.expect("it is given");
        }
        Self { server, ca, on }
    }

    /// A client with the certificate of this name.
    fn builder(&self, name: &str) -> ClientBuilder {
        let identity = self.ca.client(name);
        let tls = Tls::new().ca_pem(self.ca.pem());
        let tls = tls.identity_pem(identity.certificate_pem(), identity.key_pem());
        self.on.builder().endpoints([self.server.endpoint()]).tls(tls).request_timeout(DEADLINE)
    }

    async fn client(&self, name: &str) -> Client {
        self.builder(name).connect().await.expect("the certificate lets it in")
    }
}

/// Why a watch of keys that may not be read ends.
async fn denied(client: &Client, key: &str) -> CloseReason {
    let mut watch = client.watch(WatchRequest::new(KeyRange::key(key.to_owned()))).expect("it is opened");
    let next = timeout(DEADLINE, watch.next()).await.expect("in time");
    next.expect("it ends with a reason").expect_err("it is not allowed").into_reason()
}

async fn a_user_by_certificate_may_do_what_the_user_may(on: On) {
    for version in versions() {
        let world = World::start(on, EtcdServer::builder(version)).await;
        let proxy = FaultProxy::start(world.server.endpoint()).await.expect("the proxy starts");
        let alice = world.builder("alice").endpoints([proxy.endpoint().replace("http:", "https:")]);
        let alice = alice.connect().await.expect("the certificate lets it in");
        nothing_is_lost(&alice, 2, || {
            proxy.cut_all(Cut::Reset);
        })
        .await;
        let bob = world.client("bob").await;
        bob.put("b/1", "v").await.expect("it is his");
        let refused = alice.put("b/1", "v").await.expect_err("it is not hers").to_string();
        assert!(refused.contains("permission denied"), "{refused}");
        let reason = denied(&alice, "b/1").await;
        assert!(matches!(reason, CloseReason::PermissionDenied { .. }), "{reason:?}");
        let lease = alice.lease_grant(Duration::from_secs(60)).await.expect("anybody may");
        assert!(alice.lease_keep_alive_once(lease.id()).await.expect("it is kept").is_some());
        // Whoever is no user of the server's may do nothing.
        let nobody = world.client("mallory").await;
        let refused = nobody.get("a/1").await.expect_err("she is nobody").to_string();
        assert!(refused.contains("permission denied") || refused.contains("user name is empty"), "{refused}");
        // A name and a password count more than the certificate.
        let both = world.builder("bob").user("alice", "p4ss").connect().await.expect("it is let in");
        both.put("a/1", "v").await.expect("it is alice's");
        both.put("b/1", "v").await.expect_err("it is bob's");
    }
}

/// Tokens of both kinds stay with users who have a password; a certificate needs none.
#[tokio::test]
async fn no_token_is_fetched_for_a_user_by_certificate() {
    for version in [EtcdVersion::V3_4, EtcdVersion::V3_5, EtcdVersion::V3_7] {
        let server = EtcdServer::builder(version);
        for (server, lives) in
            [(server.clone(), Duration::ZERO), (server.jwt(Duration::from_secs(2)), Duration::from_secs(2))]
        {
            let world = World::start(On::Tokio, server).await;
            let checks = || world.server.calls_begun("Authenticate").expect("etcd counts its calls");
            let before = checks();
            let alice = world.client("alice").await;
            alice.put("a/1", "v").await.expect("it is hers");
            // Longer than a signed token lives.
            tokio::time::sleep(lives + lives / 2).await;
            alice.put("a/1", "v").await.expect("it is hers");
            assert_eq!(checks(), before);
        }
    }
}
