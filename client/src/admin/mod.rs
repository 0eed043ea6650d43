//! What operators do: users and roles, the cluster's members, and the care of each member.
//!
//! [`Client::auth`](crate::Client::auth), [`Client::cluster`](crate::Client::cluster) and
//! [`Client::maintenance`](crate::Client::maintenance) give a handle each: cheap to make and to clone, and none of them
//! knows of namespaces, since users, roles and members belong to the whole cluster.
//!
//! While authentication is on, almost all of these calls are for users with the role `root`; others end with
//! [`Refusal::PermissionDenied`](crate::Refusal::PermissionDenied). [`CallError::refusal`](crate::CallError::refusal)
//! tells etcd's other reasons apart, too.
//!
//! | file | owns |
//! |---|---|
//! | `auth` | users and roles |
//! | `permission` | what a role may do with which keys |
//! | `cluster`, `member` | who is in the cluster |
//! | `maintenance` | the calls to one member, alarms, the leader, downgrades |
//! | `status`, `alarm`, `hash` | what they answer |
//! | `version` | versions to downgrade to |
//! | `snapshot`, `checksum` | a member's database as a stream of bytes, verified |
//! | `save`, `writer` | that stream in a file |

mod alarm;
mod auth;
mod checksum;
mod cluster;
mod hash;
mod maintenance;
mod member;
mod permission;
mod save;
mod snapshot;
mod status;
mod version;
mod writer;

pub use alarm::{Alarm, AlarmKind};
pub use auth::{Auth, AuthStatus};
pub use cluster::Cluster;
pub use hash::{Hash, HashKv};
pub use maintenance::{Downgrade, Maintenance};
pub use member::{Member, MemberAdded, Members};
pub use permission::{Access, Permission};
pub use save::Saved;
pub use snapshot::{Snapshot, SnapshotError};
pub use status::MemberStatus;
