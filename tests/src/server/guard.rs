//! Users of a cluster, and the simple tokens that identify them.
//!
//! As in etcd from 3.5.28 on, a cluster that has users answers only them. A token expires at a member that has not seen it
//! for its time to live; each member counts by itself. A token is looked at when a call is made, when a watch is created,
//! and when a lease is kept alive; a watch that runs goes on without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_watch_proto::etcdserverpb as pb;
use etcd_watch_proto::etcdserverpb::auth_server::Auth;
use etcd_watch_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_watch_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse, WatchRequest};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::member::unknown;
use super::shared::{Shared, lock};
use super::users::{NeedsRights, Rights, Users};

/// How long a password takes to be checked (bcrypt).
const PASSWORD_CHECK: Duration = Duration::from_millis(70);

/// Which member serves a call.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only simulated clusters have several"))]
pub(super) struct Member(pub(super) usize);

/// The users of a cluster, and their tokens. Without users everybody is let in.
#[derive(Debug)]
pub(super) struct Guard {
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: Users,
    tokens: BTreeMap<String, Token>,
    /// How many tokens were made.
    made: u64,
}

#[derive(Debug)]
struct Token {
    user: String,
    made: Duration,
    /// When each member has seen it last; `None` if the member has forgotten it.
    seen: BTreeMap<usize, Option<Duration>>,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), state: Mutex::default() }
    }

    pub(super) fn set_users(&self, users: Users) {
        lock(&self.state).users = users;
    }

    /// A member forgets all tokens, or all members do.
    #[cfg(feature = "sim")]
    pub(super) fn forget_tokens(&self, member: Option<usize>) {
        let mut state = lock(&self.state);
        match member {
            Some(member) => state.tokens.values_mut().for_each(|token| {
                token.seen.insert(member, None);
            }),
            None => state.tokens.clear(),
        }
    }

    #[cfg(feature = "sim")]
    pub(super) fn logins(&self) -> u64 {
        lock(&self.state).made
    }

    /// Notes who makes a call.
    pub(super) fn introduce(self: &Arc<Self>, mut request: Request<()>) -> Request<()> {
        let token = request.metadata().get("token").and_then(|token| token.to_str().ok());
        let member = request.extensions().get::<Member>().map_or(0, |member| member.0);
        let caller = Caller { guard: self.clone(), token: token.map(ToOwned::to_owned), member };
        request.extensions_mut().insert(caller);
        request
    }

    /// The same, for a call that every user may make.
    ///
    /// # Errors
    /// The token is missing or unknown.
    pub(super) fn admit(self: &Arc<Self>, request: Request<()>) -> Result<Request<()>, Status> {
        let request = self.introduce(request);
        caller(&request).rights()?;
        Ok(request)
    }

    /// Another token for a user; `None` if the password is wrong.
    fn make_token(&self, user: &str, password: &str) -> Option<String> {
        let mut state = lock(&self.state);
        if !state.users.has_password(user, password) {
            return None;
        }
        state.made += 1;
        let text = format!("{user}.{}", state.made);
        let token = Token { user: user.to_owned(), made: self.epoch.elapsed(), seen: BTreeMap::new() };
        state.tokens.insert(text.clone(), token);
        Some(text)
    }

    /// What the owner of this token may do. The call counts as a use of the token at this member.
    ///
    /// # Errors
    /// What etcd says of a token that is missing or unknown.
    fn rights(&self, token: Option<&str>, member: usize) -> Result<Rights, Status> {
        let mut state = lock(&self.state);
        let State { users, tokens, .. } = &mut *state;
        if users.is_empty() {
            return Ok(Rights::all());
        }
        let token = token.ok_or_else(|| Status::invalid_argument("etcdserver: user name is empty"))?;
        let unknown = || Status::unauthenticated("etcdserver: invalid auth token");
        let token = tokens.get_mut(token).ok_or_else(unknown)?;
        let now = self.epoch.elapsed();
        let seen = token.seen.entry(member).or_insert(Some(token.made));
        *seen = seen.filter(|seen| now.saturating_sub(*seen) < users.ttl()).map(|_| now);
        seen.map(|_| users.rights(&token.user)).ok_or_else(unknown)
    }
}

/// Who makes a call.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    guard: Arc<Guard>,
    token: Option<String>,
    member: usize,
}

/// Who makes a call.
///
/// # Panics
/// The service is not behind [`introduce`](Guard::introduce).
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().expect("every service with callers introduces them")
}

/// Whether the caller may do this.
///
/// # Errors
/// What etcd says if not.
pub(super) fn permit<T: NeedsRights>(request: &Request<T>) -> Result<(), Status> {
    caller(request).permit(request.get_ref())
}

impl Caller {
    /// What the caller may do now.
    ///
    /// # Errors
    /// The token is missing or unknown.
    pub(super) fn rights(&self) -> Result<Rights, Status> {
        self.guard.rights(self.token.as_deref(), self.member)
    }

    fn permit(&self, request: &impl NeedsRights) -> Result<(), Status> {
        let rights = self.rights()?;
        if request.is_permitted(&rights) {
            Ok(())
        } else {
            Err(Status::permission_denied("etcdserver: permission denied"))
        }
    }

    /// Why a request in a watch stream is refused, as etcd's `cancel_reason` says it.
    pub(super) fn refusal(&self, request: &WatchRequest) -> Option<String> {
        let Some(RequestUnion::CreateRequest(create)) = &request.request_union else { return None };
        let refused = self.permit(create).err()?;
        let name = match refused.code() {
            Code::Unauthenticated => "Unauthenticated",
            Code::InvalidArgument => "InvalidArgument",
            _ => "PermissionDenied",
        };
        Some(format!("rpc error: code = {name} desc = {}", refused.message()))
    }
}

/// The auth service: all that it does is making tokens.
#[derive(Debug)]
pub(super) struct AuthService {
    pub(super) shared: Arc<Shared>,
    pub(super) guard: Arc<Guard>,
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        self.shared.check_leader()?;
        if lock(&self.guard.state).users.is_empty() {
            return Err(Status::failed_precondition("etcdserver: authentication is not enabled"));
        }
        tokio::time::sleep(PASSWORD_CHECK).await;
        let AuthenticateRequest { name, password } = request.into_inner();
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        let token = self.guard.make_token(&name, &password).ok_or_else(|| Status::invalid_argument(wrong))?;
        let header = self.shared.with_model(|model| model.config().header(model.revision()));
        Ok(Response::new(AuthenticateResponse { header: Some(header), token }))
    }

    unknown! {
        auth_enable(AuthEnableRequest) -> pb::AuthEnableResponse;
        auth_disable(AuthDisableRequest) -> pb::AuthDisableResponse;
        auth_status(AuthStatusRequest) -> pb::AuthStatusResponse;
        user_add(AuthUserAddRequest) -> pb::AuthUserAddResponse;
        user_get(AuthUserGetRequest) -> pb::AuthUserGetResponse;
        user_list(AuthUserListRequest) -> pb::AuthUserListResponse;
        user_delete(AuthUserDeleteRequest) -> pb::AuthUserDeleteResponse;
        user_change_password(AuthUserChangePasswordRequest) -> pb::AuthUserChangePasswordResponse;
        user_grant_role(AuthUserGrantRoleRequest) -> pb::AuthUserGrantRoleResponse;
        user_revoke_role(AuthUserRevokeRoleRequest) -> pb::AuthUserRevokeRoleResponse;
        role_add(AuthRoleAddRequest) -> pb::AuthRoleAddResponse;
        role_get(AuthRoleGetRequest) -> pb::AuthRoleGetResponse;
        role_list(AuthRoleListRequest) -> pb::AuthRoleListResponse;
        role_delete(AuthRoleDeleteRequest) -> pb::AuthRoleDeleteResponse;
        role_grant_permission(AuthRoleGrantPermissionRequest) -> pb::AuthRoleGrantPermissionResponse;
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> pb::AuthRoleRevokePermissionResponse;
    }
}
