//! Calls that meet members which hang, learners, load balancers, limits and runtimes that are gone.
//!
//! | file | owns |
//! |---|---|
//! | `world` | servers whose every answer is scripted, and healthy ones |
//! | `balancer` | what load balancers answer in etcd's place |
//! | `limits` | members that hang, and limits of streams |
//! | `learner` | a member without a vote |
//! | `sources` | what errors tell a program |
//! | `credentials` | credentials that change while a call is under way or a stream is being opened |
//! | `options` | options of the calls of a view of a client |
//! | `snapshots` | members that can't begin a snapshot |
//! | `runtime_gone` | every operation of a client whose runtime has shut down |

#![cfg(unix)]

mod balancer;
mod credentials;
#[path = "../cluster/learner.rs"]
mod joined;
mod learner;
mod limits;
mod options;
mod runtime_gone;
mod snapshots;
mod sources;
mod world;
