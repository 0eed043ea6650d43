//! Users: the credentials, and the token they are exchanged for.
//!
//! One [`Authenticator`] serves everything a client does. Whoever is about to make a request asks it for the
//! token; whoever is told that the token is not good says so ([`Authenticator::refused`]), and the next to ask
//! makes it fetch another. A token is not renewed ahead of time: a refused request is cheap, was not executed,
//! and is needed in any case, since a token may go bad long before its time.
//!
//! A token that the application gave ([`Credentials::token`]) can't be fetched again. A call that is refused for it ends
//! with that. Watches and mirrors wait a while for other credentials ([`Authenticator::settle`]): tokens expire, and the
//! next one may be late.
//!
//! Credentials can be changed at any time. The tokens of those before are good until they are refused, but nothing new
//! is begun with them, and watch streams that carry one are moved to streams that don't ([`Authenticator::is_stale`]).
//!
//! | file | owns |
//! |---|---|
//! | `credentials` | who a client is to etcd |
//! | `token` | auth tokens, as requests carry them |
//! | `state` | what is known of the present credentials and their token |
//! | `authenticator` | fetches tokens, and keeps the last one |
//! | `elsewhere` | tokens for endpoints that are not the client's |
//!
//! # What servers do
//!
//! Seen on etcd 3.4.23 and 3.5.30.
//!
//! | request with | answer to a call; `cancel_reason` of a create, after `rpc error: code = … desc = ` |
//! |---|---|
//! | no token | `InvalidArgument`, `etcdserver: user name is empty` |
//! | an unknown or expired token | `Unauthenticated`, `etcdserver: invalid auth token` |
//! | a JWT from before any change of a user or role | `InvalidArgument`, `etcdserver: revision of auth store is old` |
//! | a key the user may not have | `PermissionDenied`, `etcdserver: permission denied` |
//! | a wrong password or unknown user, to Authenticate | `InvalidArgument`, `etcdserver: authentication failed, invalid user ID or password` |
//! | Authenticate while authentication is off | `FailedPrecondition`, `etcdserver: authentication is not enabled` |
//!
//! - All of these are said before anything is executed, writes included.
//! - A token is looked at when a call is made and when a watch is created, and then never again: a watch that
//!   runs goes on when its token expires, its user loses the role or is deleted. A refused create leaves the
//!   stream and its other watches alone.
//! - A stream has the token it was opened with for all its life, so another token takes another stream.
//! - Simple tokens go through raft, so all members know them. A member that lags waits for what came before a
//!   token, and refuses it if it is one entry behind. One that is restarted and replays its log knows the tokens
//!   in it again, but not those from before its last snapshot.
//! - The time a simple token lasts (5 minutes by default) is counted by each member from when it last saw it. A new
//!   password, and a user's end, make it unknown; a role given or taken does not.
//! - While authentication is off, 3.4 refuses a token that it doesn't know, 3.5 doesn't look.
//! - Without a token 3.4 lets everything pass that names no key (leases, Status); 3.5.28 and newer nothing.
//! - Checking a password takes 60 to 80 ms of a core (bcrypt); an unknown user is refused at once.

mod authenticator;
mod credentials;
mod elsewhere;
mod state;
mod token;

pub(crate) use authenticator::{Authenticator, PACE};
pub use credentials::Credentials;
pub(crate) use credentials::token_header;
pub(crate) use elsewhere::Elsewhere;
pub(crate) use token::{AfterRefusal, Generation, Token};
