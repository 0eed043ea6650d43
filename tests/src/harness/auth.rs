//! Users, roles and permissions of a server, as its root sees them.

use super::{Etcdctl, HarnessError};

/// A store with authentication on, administered through `etcdctl` as root.
///
/// Passwords can't have white space in them: `etcdctl` would take what comes before it for the password.
///
/// ```no_run
/// # async fn example() -> Result<(), etcd_watch_testkit::harness::HarnessError> {
/// use etcd_watch_testkit::harness::{Access, Auth, EtcdServer, EtcdVersion, Keys};
///
/// let server = EtcdServer::builder(EtcdVersion::V3_5).start_async().await?;
/// let auth = Auth::enable(&server.etcdctl()?, "root-password").await?;
/// auth.add_user("alice", "alice-password").await?;
/// auth.add_role("readers").await?;
/// auth.grant("readers", Access::Read, Keys::Prefix("config/")).await?;
/// auth.give_role("alice", "readers").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Auth {
    root: Etcdctl,
    anonymous: Etcdctl,
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To get and to watch.
    Read,
    /// To put and to delete.
    Write,
    /// All of it.
    ReadWrite,
}

/// The keys a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys<'a> {
    /// One key.
    One(&'a str),
    /// All with this prefix.
    Prefix(&'a str),
    /// From the first to the last, not included.
    Range(&'a str, &'a str),
    /// From this one on.
    From(&'a str),
}

impl Auth {
    /// Adds the user and role `root`, and turns authentication on.
    ///
    /// # Errors
    /// If `etcdctl` can't; for one, if there is a root already.
    ///
    /// # Panics
    /// If the password has white space in it.
    pub async fn enable(etcdctl: &Etcdctl, root_password: &str) -> Result<Self, HarnessError> {
        let auth = Self { root: etcdctl.clone().user("root", root_password), anonymous: etcdctl.clone() };
        add_user(&auth.anonymous, "root", root_password).await?;
        auth.anonymous.run(["user", "grant-role", "root", "root"]).await?;
        auth.anonymous.run(["auth", "enable"]).await?;
        Ok(auth)
    }

    /// Turns authentication off. Users and roles stay, and [`enable_again`](Auth::enable_again) makes them count.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn disable(&self) -> Result<(), HarnessError> {
        self.run(["auth", "disable"]).await
    }

    /// Turns authentication on after [`disable`](Auth::disable).
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn enable_again(&self) -> Result<(), HarnessError> {
        self.anonymous.run(["auth", "enable"]).await.map(|_| ())
    }

    /// An `etcdctl` that is root.
    pub fn root(&self) -> &Etcdctl {
        &self.root
    }

    /// An `etcdctl` that is this user.
    pub fn as_user(&self, name: &str, password: &str) -> Etcdctl {
        self.anonymous.clone().user(name, password)
    }

    /// An `etcdctl` that is nobody.
    pub fn anonymous(&self) -> &Etcdctl {
        &self.anonymous
    }

    /// Adds a user who may do nothing yet.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    ///
    /// # Panics
    /// If the password has white space in it.
    pub async fn add_user(&self, name: &str, password: &str) -> Result<(), HarnessError> {
        add_user(&self.root, name, password).await
    }

    /// Adds a user with a role of its own, which may read and write these keys.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    ///
    /// # Panics
    /// If the password has white space in it.
    pub async fn add_user_in_role(
        &self,
        name: &str,
        password: &str,
        role: &str,
        keys: Keys<'_>,
    ) -> Result<(), HarnessError> {
        self.add_user(name, password).await?;
        self.add_role(role).await?;
        self.grant(role, Access::ReadWrite, keys).await?;
        self.give_role(name, role).await
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn delete_user(&self, name: &str) -> Result<(), HarnessError> {
        self.run(["user", "delete", name]).await
    }

    /// Changes a user's password. For root's own, go on with a new [`as_user`](Auth::as_user).
    ///
    /// # Errors
    /// If `etcdctl` can't.
    ///
    /// # Panics
    /// If the password has white space in it.
    pub async fn change_password(&self, name: &str, password: &str) -> Result<(), HarnessError> {
        let arguments = ["user", "passwd", name, "--interactive=false"];
        self.root.run_with_input(arguments, &line(password)).await.map(|_| ())
    }

    /// Adds a role that allows nothing yet.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn add_role(&self, role: &str) -> Result<(), HarnessError> {
        self.run(["role", "add", role]).await
    }

    /// Lets a role access keys.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn grant(&self, role: &str, access: Access, keys: Keys<'_>) -> Result<(), HarnessError> {
        let access = match access {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
        };
        let mut arguments = vec!["role", "grant-permission", role, access];
        arguments.extend(keys.arguments());
        self.run(arguments).await
    }

    /// Takes what was granted on exactly these keys.
    ///
    /// # Errors
    /// If `etcdctl` can't, or nothing was.
    pub async fn revoke(&self, role: &str, keys: Keys<'_>) -> Result<(), HarnessError> {
        let mut arguments = vec!["role", "revoke-permission", role];
        arguments.extend(keys.arguments());
        self.run(arguments).await
    }

    /// Gives a user a role.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn give_role(&self, user: &str, role: &str) -> Result<(), HarnessError> {
        self.run(["user", "grant-role", user, role]).await
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// If `etcdctl` can't, or the user doesn't have it.
    pub async fn take_role(&self, user: &str, role: &str) -> Result<(), HarnessError> {
        self.run(["user", "revoke-role", user, role]).await
    }

    async fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<(), HarnessError> {
        self.root.run(arguments).await.map(|_| ())
    }
}

impl<'a> Keys<'a> {
    fn arguments(self) -> Vec<&'a str> {
        match self {
            Keys::One(key) => vec![key],
            Keys::Prefix(prefix) => vec![prefix, "--prefix"],
            Keys::Range(first, end) => vec![first, end],
            Keys::From(first) => vec![first, "--from-key"],
        }
    }
}

async fn add_user(etcdctl: &Etcdctl, name: &str, password: &str) -> Result<(), HarnessError> {
    let arguments = ["user", "add", name, "--interactive=false"];
    etcdctl.run_with_input(arguments, &line(password)).await.map(|_| ())
}

/// A password as `etcdctl` reads it.
fn line(password: &str) -> String {
    assert!(!password.contains(char::is_whitespace), "a password with white space is not read to its end");
    format!("{password}\n")
}
