//! Proxies, as flags and variables name them.

mod common;

use common::{World, bare, output, text, tool_for};
use etcd_watch_testkit::connect_proxy::ConnectProxy;
use tokio::process::Command;

/// A name that no resolver knows.
const ENDPOINT: &str = "http://etcd.invalid:2379";

/// Every variable about proxies.
const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// An etcd behind a proxy that lets alice in.
async fn behind_a_proxy() -> (World, ConnectProxy) {
    let (world, proxy) = (World::new().await, ConnectProxy::start().await.expect("a free port"));
    world.put("k", "v");
    proxy.knows("etcd.invalid", world.etcd.address());
    proxy.require("alice", "s3cret");
    (world, proxy)
}

/// The tool with these variables about proxies and no others.
fn get(variables: &[(&str, &str)], flags: &[&str]) -> Command {
    let mut command = bare(&[&["get", "k", "--endpoints", ENDPOINT, "--dial-timeout", "3s"], flags].concat());
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied());
    command
}

#[tokio::test]
async fn the_proxy_is_the_one_in_the_environment_or_the_one_given() {
    let (world, proxy) = behind_a_proxy().await;
    let url = proxy.url_with("alice:s3cret");
    let dead = "http://alice:s3cret@127.0.0.1:1";
    let (https, both) = ([("HTTPS_PROXY", &*url)], [("HTTPS_PROXY", &*url), ("no_proxy", "other.invalid")]);
    for (variables, flags) in [
        (&https[..], &[][..]),
        (&both, &[]),
        (&[("https_proxy", &*url), ("ALL_PROXY", dead)], &[]),
        (&[("ALL_PROXY", &*url), ("HTTP_PROXY", dead), ("HTTPS_PROXY", "")], &[]),
        (&[("HTTPS_PROXY", dead), ("NO_PROXY", "*")], &["--proxy", &url]),
    ] {
        let read = output(get(variables, flags)).await;
        assert_eq!(text(&read.stdout), "k\nv\n", "{variables:?} {flags:?}: {read:?}");
    }
    let tunnels = proxy.tunnels();
    assert!(tunnels >= 5, "{tunnels}");
    // Without the proxy nobody knows the name.
    for (variables, flags) in [
        (&[("HTTPS_PROXY", &*url), ("NO_PROXY", "10.0.0.0/8,.invalid")][..], &[][..]),
        (&https, &["--no-proxy"]),
        (&[("HTTP_PROXY", &*url)], &[]),
        (&[("HTTPS_PROXY", ""), ("all_proxy", "")], &[]),
    ] {
        let failed = output(get(variables, flags)).await;
        assert!(!failed.status.success(), "{variables:?} {flags:?}: {failed:?}");
        assert!(
            text(&failed.stderr).contains("looking up \"etcd.invalid\""),
            "{variables:?} {flags:?}: {failed:?}"
        );
    }
    assert_eq!(proxy.tunnels(), tunnels);
    // This machine's own addresses need no proxy, even where it can't be used.
    for variable in [dead, "socks5://127.0.0.1:1"] {
        let mut local = tool_for(&world.etcd.endpoint(), &["get", "k"]);
        local.env("HTTPS_PROXY", variable).env_remove("NO_PROXY").env_remove("no_proxy");
        let local = output(local).await;
        assert_eq!(text(&local.stdout), "k\nv\n", "{local:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_by_the_name_of_its_flag_or_variable_and_no_password_is() {
    let (_world, proxy) = behind_a_proxy().await;
    let refused = async |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = get(variables, flags);
        command.env("RUST_LOG", "trace");
        let refused = output(command).await;
        assert!(!refused.status.success(), "{refused:?}");
        let told = text(&refused.stderr);
        assert!(!told.contains("s3cret") && !told.contains("czNj"), "{told}");
        told
    };
    let (plain, wrong) = (proxy.url(), proxy.url_with("alice:s3cret2"));
    let told = refused(&[("ALL_PROXY", &plain)], &[]).await;
    assert!(
        told.contains("(ALL_PROXY) wants a user and a password: write http://user:password@127"),
        "{told}"
    );
    let told = refused(&[], &["--proxy", &wrong]).await;
    assert!(told.contains("(--proxy) does not accept the user and the password"), "{told}");
    proxy.answer(Some("HTTP/1.1 403 Forbidden\r\n\r\n"));
    let told = refused(&[("HTTPS_PROXY", &plain)], &[]).await;
    assert!(told.contains("(HTTPS_PROXY) does not allow") && told.contains("give --no-proxy"), "{told}");
    let told = refused(&[("ALL_PROXY", "socks5://alice:s3cret@127.0.0.1:1080")], &[]).await;
    assert!(
        told.contains("ALL_PROXY: ") && told.contains("\"socks5\"") && told.contains("--no-proxy"),
        "{told}"
    );
    let told = refused(&[], &["--proxy", "http://alice:s3cret@proxy:port"]).await;
    assert!(told.contains("--proxy: ") && told.contains("its port is no number"), "{told}");
    let told = refused(&[], &["--proxy", &plain, "--no-proxy"]).await;
    assert!(told.contains("--no-proxy") && told.contains("--proxy"), "{told}");
}
