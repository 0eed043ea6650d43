//! Users, roles, and what needs `root`.

use etcd_watch_client::{
    CallError, Client, Code, KeyRange, Refusal,
    admin::{Alarm, AlarmKind, Auth, AuthStatus, Permission},
};
use etcd_watch_testkit::harness::EtcdServer;

use crate::world::{Setup, invalid, refusal};

const ROOT_PASSWORD: &str = "password-of-root";
const PASSWORD: &str = "password-of-alice";

/// A client of this user.
fn user(setup: &Setup, server: &EtcdServer, name: &str, password: &str) -> Client {
    setup.builder([server.endpoint()]).user(name, password).connect_lazy().expect("valid settings")
}

/// The state of authentication; `None` from etcd 3.4, which has no `AuthStatus`.
async fn status(server: &EtcdServer, auth: &Auth) -> Option<AuthStatus> {
    let status = auth.status().await;
    if server.version().minor >= 5 {
        return Some(status.expect("it is told"));
    }
    assert_eq!(status.expect_err("there is no such call").code(), Some(Code::Unimplemented));
    None
}

/// Adds `root`, and turns authentication on.
async fn enable(client: &Client) {
    let auth = client.auth();
    auth.user_add("root", ROOT_PASSWORD).await.expect("root is added");
    auth.user_grant_role("root", "root").await.expect("it has its role");
    auth.enable().await.expect("authentication is on");
}

pub(crate) async fn every_call_about_users_and_roles(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    let anonymous = setup.client([server.endpoint()]);
    let auth = anonymous.auth();
    let before = status(&server, &auth).await;
    assert!(
        before.as_ref().is_none_or(|before| !before.is_enabled() && before.header().is_present()),
        "{before:?}"
    );
    assert_eq!(refusal(auth.enable().await), Refusal::RootUserMissing);

    // Users.
    assert_eq!(invalid(auth.user_add("", PASSWORD).await), "user");
    assert_eq!(invalid(auth.user_add("alice", "x".repeat(73)).await), "password");
    auth.user_add("alice", PASSWORD).await.expect("alice is added");
    assert_eq!(refusal(auth.user_add("alice", PASSWORD).await), Refusal::UserExists);
    auth.user_add_no_password("machine").await.expect("it is added");
    assert_eq!(refusal(auth.user_add_no_password("machine").await), Refusal::UserExists);
    assert_eq!(auth.user_list().await.expect("they are listed"), ["alice", "machine"]);
    assert_eq!(auth.user_get("alice").await.expect("she is there"), [""; 0]);
    assert_eq!(refusal(auth.user_get("bob").await), Refusal::UserNotFound);
    assert_eq!(refusal(auth.user_change_password("bob", PASSWORD).await), Refusal::UserNotFound);

    // Roles.
    assert_eq!(invalid(auth.role_add("").await), "role");
    auth.role_add("team").await.expect("the role is added");
    assert_eq!(refusal(auth.role_add("team").await), Refusal::RoleExists);
    assert_eq!(auth.role_list().await.expect("they are listed"), ["team"]);
    assert_eq!(refusal(auth.user_grant_role("alice", "crew").await), Refusal::RoleNotFound);
    assert_eq!(refusal(auth.user_grant_role("bob", "team").await), Refusal::UserNotFound);
    auth.user_grant_role("alice", "team").await.expect("it is granted");
    assert_eq!(auth.user_get("alice").await.expect("she is there"), ["team"]);

    // Permissions. The keys are the server's, also for a client in a namespace.
    let (read, all) = (Permission::read("b"), Permission::read_write(KeyRange::prefix("a/")));
    let namespaced = anonymous.namespaced("n/").expect("a prefix").auth();
    namespaced.role_grant_permission("team", all.clone()).await.expect("it is granted");
    auth.role_grant_permission("team", read.clone()).await.expect("it is granted");
    auth.role_grant_permission("team", Permission::write(KeyRange::all())).await.expect("it is granted");
    let permissions = auth.role_get("team").await.expect("it is there");
    assert_eq!(permissions, [Permission::write(KeyRange::all()), all, read]);
    auth.role_grant_permission("team", Permission::write("b")).await.expect("it takes the place");
    assert_eq!(auth.role_get("team").await.expect("it is there")[2], Permission::write("b"));
    auth.role_revoke_permission("team", KeyRange::all()).await.expect("it is revoked");
    let twice = auth.role_revoke_permission("team", KeyRange::all()).await;
    assert_eq!(refusal(twice), Refusal::PermissionNotGranted);
    assert_eq!(refusal(auth.role_get("crew").await), Refusal::RoleNotFound);
    let to_nobody = auth.role_grant_permission("crew", Permission::read("b")).await;
    assert_eq!(refusal(to_nobody), Refusal::RoleNotFound);
    assert_eq!(invalid(auth.role_grant_permission("team", Permission::read("")).await), "keys");
    assert_eq!(invalid(auth.role_revoke_permission("team", "").await), "keys");

    // On.
    auth.user_add("root", ROOT_PASSWORD).await.expect("root is added");
    assert_eq!(refusal(auth.enable().await), Refusal::RootRoleMissing);
    auth.user_grant_role("root", "root").await.expect("it has its role");
    auth.enable().await.expect("authentication is on");
    assert_eq!(refusal(anonymous.put("a/1", "x").await), Refusal::UserRequired);
    let root = user(&setup, &server, "root", ROOT_PASSWORD);
    let auth = root.auth();
    if let (Some(before), Some(after)) = (before, status(&server, &auth).await) {
        assert!(after.is_enabled() && after.revision() > before.revision(), "{before:?} {after:?}");
    }
    assert_eq!(refusal(auth.user_delete("root").await), Refusal::InvalidAuthManagement);
    assert_eq!(refusal(auth.user_revoke_role("root", "root").await), Refusal::InvalidAuthManagement);
    assert_eq!(refusal(auth.role_delete("root").await), Refusal::InvalidAuthManagement);

    let alice = user(&setup, &server, "alice", PASSWORD);
    alice.put("a/1", "x").await.expect("she may write there");
    assert_eq!(refusal(alice.put("c", "x").await), Refusal::PermissionDenied);
    auth.user_revoke_role("alice", "team").await.expect("it is taken");
    assert_eq!(refusal(auth.user_revoke_role("alice", "team").await), Refusal::RoleNotGranted);
    assert_eq!(refusal(alice.put("a/1", "x").await), Refusal::PermissionDenied);
    auth.user_change_password("alice", "another-password").await.expect("it is changed");
    let old = alice.put("a/1", "x").await;
    assert!(matches!(old, Err(CallError::AuthenticationFailed { .. })), "{old:?}");
    assert_eq!(refusal(old), Refusal::AuthenticationFailed);
    user(&setup, &server, "alice", "another-password").auth().user_get("alice").await.expect("her own");
    auth.user_delete("alice").await.expect("she is deleted");
    assert_eq!(refusal(auth.user_delete("alice").await), Refusal::UserNotFound);
    auth.role_delete("team").await.expect("it is deleted");
    assert_eq!(refusal(auth.role_delete("team").await), Refusal::RoleNotFound);

    // Off.
    auth.disable().await.expect("authentication is off");
    assert!(status(&server, &anonymous.auth()).await.is_none_or(|after| !after.is_enabled()));
}

pub(crate) async fn what_needs_root_is_denied_to_others(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    enable(&setup.client([server.endpoint()])).await;
    let root = user(&setup, &server, "root", ROOT_PASSWORD);
    root.auth().user_add("alice", PASSWORD).await.expect("alice is added");
    let alice = user(&setup, &server, "alice", PASSWORD);
    let (auth, cluster, maintenance) = (alice.auth(), alice.cluster(), alice.maintenance());
    let endpoint = || server.endpoint();
    let urls = ["http://127.0.0.1:1"];
    let member = root.maintenance().status(endpoint()).await.expect("root may ask").header().member_id;
    // What is not denied, and what etcd says to it.
    let mut others = Vec::new();
    for (what, result) in [
        ("user_list", auth.user_list().await.map(drop)),
        ("role_list", auth.role_list().await.map(drop)),
        ("role_add", auth.role_add("team").await.map(drop)),
        ("disable", auth.disable().await.map(drop)),
        ("member_add", cluster.add(urls).await.map(drop)),
        ("member_add as learner", cluster.add_learner(urls).await.map(drop)),
        ("member_update", cluster.update(member, urls).await.map(drop)),
        ("member_remove", cluster.remove(member).await.map(drop)),
        ("disarm", maintenance.disarm(Alarm::new(member, AlarmKind::NoSpace)).await.map(drop)),
        ("defragment", maintenance.defragment(endpoint()).await.map(drop)),
        ("hash", maintenance.hash(endpoint()).await.map(drop)),
        ("hash_kv", maintenance.hash_kv(endpoint(), 0).await.map(drop)),
        ("snapshot", maintenance.snapshot().await.map(drop)),
        ("snapshot_of", maintenance.snapshot_of(endpoint()).await.map(drop)),
        ("move_leader", maintenance.move_leader(member).await.map(drop)),
        ("downgrade", maintenance.downgrade_enable("3.4").await.map(drop)),
    ] {
        if !matches!(&result, Err(error) if error.refusal() == Some(Refusal::PermissionDenied)) {
            others.push((what, result.err().and_then(|error| error.code())));
        }
    }
    // etcd 3.4 lets every user disarm alarms and move the leader, and has no downgrades.
    let of_3_4 = [("disarm", None), ("move_leader", None), ("downgrade", Some(Code::Unimplemented))];
    assert_eq!(others, if server.version().minor >= 5 { &[][..] } else { &of_3_4 });
    assert_eq!(auth.user_get("alice").await.expect("her own"), [""; 0]);
    let after = status(&server, &root.auth()).await;
    assert!(after.is_none_or(|after| after.is_enabled()), "nothing has changed");
    assert_eq!(root.cluster().members().await.expect("they are listed").members().len(), 1);

    // Without a user, and with a password that is wrong.
    let anonymous = setup.client([server.endpoint()]).maintenance();
    assert_eq!(refusal(anonymous.defragment(endpoint()).await), Refusal::UserRequired);
    let mallory = user(&setup, &server, "alice", "not-hers").maintenance();
    assert_eq!(refusal(mallory.defragment(endpoint()).await), Refusal::AuthenticationFailed);
    assert_eq!(refusal(mallory.snapshot_of(endpoint()).await), Refusal::AuthenticationFailed);

    // A token that has gone bad is replaced by another.
    let old = root.maintenance();
    root.auth().user_change_password("root", ROOT_PASSWORD).await.expect("the tokens are forgotten");
    old.defragment(endpoint()).await.expect("it is made with another token");
    root.auth().user_change_password("root", ROOT_PASSWORD).await.expect("the tokens are forgotten");
    drop(old.snapshot_of(endpoint()).await.expect("it is begun with another token"));

    for shown in [format!("{root:?}"), format!("{:?}", root.auth()), format!("{:?}", root.maintenance())] {
        assert!(!shown.contains("password-of"), "{shown}");
    }
}
