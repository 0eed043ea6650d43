//! Users and roles.

use std::{fmt, sync::Arc};

use etcd_watch_core::{Header, KeyRange};
use etcd_watch_proto::{authpb::UserAddOptions, etcdserverpb as pb};

use super::permission::{Permission, check_keys};
use crate::{CallError, calls::attempts::Calls, transport::wire::header};

/// The longest password that bcrypt takes, in bytes. etcd 3.4 cuts a longer one off, later versions refuse it.
const MAX_PASSWORD_BYTES: usize = 72;

/// Users, their roles, and whether they are asked for: [`Client::auth`](crate::Client::auth).
///
/// Calls are tried on one endpoint after the other, as the client's others. A change is made again only while it surely
/// was not made, else it ends with [`CallError::MaybeExecuted`]. Each change of users or roles has signed tokens (JWT)
/// fetched anew, by all clients.
///
/// Keys in permissions are those of the server, also for a client in a namespace.
#[derive(Clone)]
pub struct Auth {
    calls: Arc<Calls>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        Self { calls }
    }

    /// Turns authentication on: from then on every client needs a user. The user `root` with the role `root` must exist.
    /// Where it is on already nothing changes.
    ///
    /// # Errors
    /// [`RootUserMissing`](crate::Refusal::RootUserMissing), [`RootRoleMissing`](crate::Refusal::RootRoleMissing), or
    /// an answer that didn't come.
    pub async fn enable(&self) -> Result<Header, CallError> {
        Ok(header(self.calls.call(pb::AuthEnableRequest {}).await?.header))
    }

    /// Turns authentication off. Users and roles stay.
    ///
    /// # Errors
    /// The server's refusal (the user is not `root`), or an answer that didn't come.
    pub async fn disable(&self) -> Result<Header, CallError> {
        Ok(header(self.calls.call(pb::AuthDisableRequest {}).await?.header))
    }

    /// Whether authentication is on. etcd 3.5; 3.4 answers [`Unimplemented`](crate::Code::Unimplemented).
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn status(&self) -> Result<AuthStatus, CallError> {
        let answer = self.calls.call(pb::AuthStatusRequest {}).await?;
        let pb::AuthStatusResponse { header: sent, enabled, auth_revision } = answer;
        Ok(AuthStatus { header: header(sent), enabled, revision: auth_revision })
    }

    /// Adds a user with a password of at most 72 bytes. It has no role yet.
    ///
    /// # Errors
    /// An empty name, a password that is too long, [`UserExists`](crate::Refusal::UserExists), or an answer that didn't
    /// come.
    pub async fn user_add(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Header, CallError> {
        let name = user("UserAdd", name.into())?;
        let password = checked_password("UserAdd", password.into())?;
        self.add(pb::AuthUserAddRequest { name, password, ..Default::default() }).await
    }

    /// Adds a user that has no password, and is known by the common name of its TLS certificate alone (etcd's
    /// `--client-cert-auth`). It has no role yet.
    ///
    /// # Errors
    /// An empty name, [`UserExists`](crate::Refusal::UserExists), or an answer that didn't come.
    pub async fn user_add_no_password(&self, name: impl Into<String>) -> Result<Header, CallError> {
        let name = user("UserAdd", name.into())?;
        let options = Some(UserAddOptions { no_password: true });
        self.add(pb::AuthUserAddRequest { name, options, ..Default::default() }).await
    }

    async fn add(&self, request: pb::AuthUserAddRequest) -> Result<Header, CallError> {
        Ok(header(self.calls.call(request).await?.header))
    }

    /// The names of a user's roles, in order. A user may ask for its own.
    ///
    /// # Errors
    /// An empty name, [`UserNotFound`](crate::Refusal::UserNotFound), or no answer in time.
    pub async fn user_get(&self, name: impl Into<String>) -> Result<Vec<String>, CallError> {
        let name = user("UserGet", name.into())?;
        Ok(self.calls.call(pb::AuthUserGetRequest { name }).await?.roles)
    }

    /// The names of all users, in order.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn user_list(&self) -> Result<Vec<String>, CallError> {
        Ok(self.calls.call(pb::AuthUserListRequest {}).await?.users)
    }

    /// Deletes a user. Its tokens are not accepted any more; its watches that run go on.
    ///
    /// # Errors
    /// An empty name, [`UserNotFound`](crate::Refusal::UserNotFound),
    /// [`InvalidAuthManagement`](crate::Refusal::InvalidAuthManagement) (`root`, while authentication is on), or an
    /// answer that didn't come.
    pub async fn user_delete(&self, name: impl Into<String>) -> Result<Header, CallError> {
        let name = user("UserDelete", name.into())?;
        Ok(header(self.calls.call(pb::AuthUserDeleteRequest { name }).await?.header))
    }

    /// Changes a user's password, to one of at most 72 bytes. Its tokens are not accepted any more.
    ///
    /// # Errors
    /// An empty name, a password that is too long, [`UserNotFound`](crate::Refusal::UserNotFound), or an answer that
    /// didn't come.
    pub async fn user_change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Header, CallError> {
        let name = user("UserChangePassword", name.into())?;
        let password = checked_password("UserChangePassword", password.into())?;
        let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
        Ok(header(self.calls.call(request).await?.header))
    }

    /// Gives a user a role; one that it has stays.
    ///
    /// # Errors
    /// An empty name, [`UserNotFound`](crate::Refusal::UserNotFound), [`RoleNotFound`](crate::Refusal::RoleNotFound), or
    /// an answer that didn't come.
    pub async fn user_grant_role(
        &self,
        name: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Header, CallError> {
        let user = user("UserGrantRole", name.into())?;
        let role = checked_role("UserGrantRole", role.into())?;
        Ok(header(self.calls.call(pb::AuthUserGrantRoleRequest { user, role }).await?.header))
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// An empty name, [`UserNotFound`](crate::Refusal::UserNotFound),
    /// [`RoleNotGranted`](crate::Refusal::RoleNotGranted),
    /// [`InvalidAuthManagement`](crate::Refusal::InvalidAuthManagement) (`root`'s role, while authentication is on), or
    /// an answer that didn't come.
    pub async fn user_revoke_role(
        &self,
        name: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Header, CallError> {
        let name = user("UserRevokeRole", name.into())?;
        let role = checked_role("UserRevokeRole", role.into())?;
        Ok(header(self.calls.call(pb::AuthUserRevokeRoleRequest { name, role }).await?.header))
    }

    /// Adds a role. It has no permission yet.
    ///
    /// # Errors
    /// An empty name, [`RoleExists`](crate::Refusal::RoleExists), or an answer that didn't come.
    pub async fn role_add(&self, name: impl Into<String>) -> Result<Header, CallError> {
        let name = checked_role("RoleAdd", name.into())?;
        Ok(header(self.calls.call(pb::AuthRoleAddRequest { name }).await?.header))
    }

    /// A role's permissions, in the order of their first keys. A user may ask for those of its own roles.
    ///
    /// # Errors
    /// An empty name, [`RoleNotFound`](crate::Refusal::RoleNotFound), or no answer in time.
    pub async fn role_get(&self, name: impl Into<String>) -> Result<Vec<Permission>, CallError> {
        let role = checked_role("RoleGet", name.into())?;
        let answer = self.calls.call(pb::AuthRoleGetRequest { role }).await?;
        Ok(answer.perm.into_iter().map(Permission::from).collect())
    }

    /// The names of all roles, in order.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn role_list(&self) -> Result<Vec<String>, CallError> {
        Ok(self.calls.call(pb::AuthRoleListRequest {}).await?.roles)
    }

    /// Deletes a role, and takes it from all users.
    ///
    /// # Errors
    /// An empty name, [`RoleNotFound`](crate::Refusal::RoleNotFound),
    /// [`InvalidAuthManagement`](crate::Refusal::InvalidAuthManagement) (`root`, while authentication is on), or an
    /// answer that didn't come.
    pub async fn role_delete(&self, name: impl Into<String>) -> Result<Header, CallError> {
        let role = checked_role("RoleDelete", name.into())?;
        Ok(header(self.calls.call(pb::AuthRoleDeleteRequest { role }).await?.header))
    }

    /// Gives a role a permission. One on exactly the same range takes its place.
    ///
    /// # Errors
    /// An empty name or key, [`RoleNotFound`](crate::Refusal::RoleNotFound), or an answer that didn't come.
    pub async fn role_grant_permission(
        &self,
        name: impl Into<String>,
        permission: Permission,
    ) -> Result<Header, CallError> {
        let name = checked_role("RoleGrantPermission", name.into())?;
        let perm = Some(permission.into_proto("RoleGrantPermission")?);
        Ok(header(self.calls.call(pb::AuthRoleGrantPermissionRequest { name, perm }).await?.header))
    }

    /// Takes from a role the permission on exactly this range, whatever access it gives.
    ///
    /// # Errors
    /// An empty name or key, [`RoleNotFound`](crate::Refusal::RoleNotFound),
    /// [`PermissionNotGranted`](crate::Refusal::PermissionNotGranted), or an answer that didn't come.
    pub async fn role_revoke_permission(
        &self,
        name: impl Into<String>,
        keys: impl Into<KeyRange>,
    ) -> Result<Header, CallError> {
        let role = checked_role("RoleRevokePermission", name.into())?;
        let keys = keys.into();
        check_keys("RoleRevokePermission", keys.start())?;
        let (key, range_end) = (keys.start().clone(), keys.end().clone());
        let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
        Ok(header(self.calls.call(request).await?.header))
    }
}

fn user(method: &'static str, name: String) -> Result<String, CallError> {
    not_empty(method, "user", name)
}

fn checked_role(method: &'static str, name: String) -> Result<String, CallError> {
    not_empty(method, "role", name)
}

fn not_empty(method: &'static str, field: &'static str, name: String) -> Result<String, CallError> {
    if name.is_empty() {
        return Err(CallError::InvalidArgument { method, field, problem: "is empty: give it a name" });
    }
    Ok(name)
}

fn checked_password(method: &'static str, password: String) -> Result<String, CallError> {
    if password.len() > MAX_PASSWORD_BYTES {
        let problem = "is longer than 72 bytes, the most that etcd's bcrypt takes";
        return Err(CallError::InvalidArgument { method, field: "password", problem });
    }
    Ok(password)
}

/// Whether authentication is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthStatus {
    header: Header,
    enabled: bool,
    revision: u64,
}

impl AuthStatus {
    /// What the server tells of itself with the answer.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The revision of users and roles: each change of them raises it.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_that_no_server_takes_are_refused_by_name() {
        let field = |result: Result<String, CallError>| match result {
            Err(CallError::InvalidArgument { method: "UserAdd", field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(user("UserAdd", String::new())), "user");
        assert_eq!(field(checked_role("UserAdd", String::new())), "role");
        assert_eq!(field(checked_password("UserAdd", "ä".repeat(37))), "password");
        assert!(checked_password("UserAdd", "ä".repeat(36)).is_ok());
    }
}
