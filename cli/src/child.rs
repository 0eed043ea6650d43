//! What commands that the tool starts get of its own environment: everything but passwords.

use std::env;

use tokio::process::Command;

const PASSWORDS: [&str; 2] = ["ETCDCTL_PASSWORD", "ETCDCTL_DEST_PASSWORD"];

/// Each may hold a password behind the name.
const USERS: [&str; 2] = ["ETCDCTL_USER", "ETCDCTL_DEST_USER"];

/// Keeps passwords from a command: it may print its environment, and so may whatever it starts.
pub(crate) fn keep_passwords_from(command: &mut Command) {
    for variable in PASSWORDS {
        command.env_remove(variable);
    }
    for variable in USERS {
        let Some(user) = env::var_os(variable) else { continue };
        match user.to_str().map(|user| user.split_once(':')) {
            Some(Some((name, _))) => command.env(variable, name),
            Some(None) => command,
            // It can't be told where the name ends.
            None => command.env_remove(variable),
        };
    }
}
