//! What is read of the member list, and what is left out of it.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
};

use etcd_watch_core::printable;
use etcd_watch_proto::etcdserverpb::Member;

use super::advertised::Policy;
use crate::endpoint::without_user;
use crate::{Endpoint, EndpointError, sync::lock};

/// How many URLs of a member list are looked at, and how many endpoints are made of them: many times what a cluster
/// has, which seldom has more than seven members.
const MAX_URLS: usize = 1024;
const MAX_ENDPOINTS: usize = 128;

/// The longest URL, in bytes. A host name has 253 at most.
const MAX_URL_BYTES: usize = 512;

/// How many of the URLs that are left out the log names.
const NAMED: usize = 8;

/// A member list, as far as it is of use.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) left_out: LeftOut,
    /// What is wrong with the last URL that can't be used.
    pub(crate) last: Option<EndpointError>,
}

impl Listed {
    /// Learners are left out: they serve no client but for reads that may be old.
    pub(crate) fn read(policy: &Policy, members: &[Member]) -> Self {
        let voters = members.iter().filter(|member| !member.is_learner);
        let mut urls = voters.flat_map(|member| &member.client_urls);
        let mut listed = Self::default();
        let mut seen = HashSet::new();
        for url in urls.by_ref().take(MAX_URLS) {
            match parse(policy, url) {
                Ok(endpoint) if listed.endpoints.len() < MAX_ENDPOINTS => {
                    if seen.insert(endpoint.clone()) {
                        listed.endpoints.push(Arc::new(endpoint));
                    }
                }
                Ok(_) => listed.left_out.more += 1,
                Err(error) => {
                    listed.left_out.add(&error);
                    listed.last = Some(error);
                }
            }
        }
        listed.left_out.more += urls.count();
        listed
    }
}

fn parse(policy: &Policy, url: &str) -> Result<Endpoint, EndpointError> {
    if url.len() <= MAX_URL_BYTES {
        return policy.read(url);
    }
    let start: String = without_user(url).chars().take(64).collect();
    Err(EndpointError::Malformed { endpoint: format!("{start}..."), reason: "it is too long" })
}

/// The URLs that are not used, for one line of the log.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    named: Vec<String>,
    /// How many have a reason of their own, those named included.
    count: usize,
    /// How many are over a limit.
    more: usize,
    hasher: DefaultHasher,
}

impl LeftOut {
    fn add(&mut self, reason: &EndpointError) {
        let reason = printable(reason.to_string());
        reason.hash(&mut self.hasher);
        if self.named.len() < NAMED {
            self.named.push(reason);
        }
        self.count += 1;
    }

    /// An endpoint that may be used, but does not answer. Why it doesn't may differ from time to time, and is no news.
    pub(crate) fn add_silent(&mut self, endpoint: &Endpoint, why: &dyn fmt::Display) {
        endpoint.hash(&mut self.hasher);
        if self.named.len() < NAMED {
            self.named.push(format!("endpoint {endpoint} does not answer yet: {why}"));
        }
        self.count += 1;
    }

    /// Logs what is left out, unless that was logged last.
    pub(crate) fn log(&self, news: &News) {
        if !news.is_news((self.hasher.finish(), self.count, self.more)) || self.count + self.more == 0 {
            return;
        }
        let not_named = self.count - self.named.len() + self.more;
        let mut reason = self.named.join("; ");
        if not_named > 0 {
            let separator = if reason.is_empty() { "" } else { "; " };
            reason.push_str(&format!("{separator}and {not_named} more"));
        }
        tracing::warn!(name: "endpoint_left_out", %reason, "client URLs of the member list are left out");
    }
}

/// What was logged last, so that the log hears of changes only.
#[derive(Debug, Default)]
pub(crate) struct News(Mutex<u64>);

impl News {
    /// Whether this is something else than the last time.
    pub(crate) fn is_news(&self, what: impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let hash = hasher.finish();
        std::mem::replace(&mut *lock(&self.0), hash) != hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Advertised, endpoint::Accepted};

    fn read(urls: impl IntoIterator<Item = String>) -> Listed {
        let given = [Arc::new("http://host:1".parse().unwrap())];
        let policy = Policy::new(Accepted::PlainOnly, Advertised::like_given(), &given);
        let client_urls = urls.into_iter().collect();
        Listed::read(&policy, &[Member { client_urls, ..Member::default() }])
    }

    #[test]
    fn a_member_list_is_read_up_to_a_limit() {
        let many = read((1..=50_000_u32).map(|n| format!("http://10.{}.{}.1:2379", n / 256 % 256, n % 256)));
        assert_eq!(many.endpoints.len(), MAX_ENDPOINTS);
        assert_eq!(many.left_out.more, 50_000 - MAX_ENDPOINTS);
        let same = read((0..50_000).map(|_| "http://host:2379".into()));
        assert_eq!((same.endpoints.len(), same.left_out.more), (1, 50_000 - MAX_URLS));
    }

    #[test]
    fn what_the_log_says_of_urls_left_out_is_bounded_and_has_no_control_characters() {
        let bad = (0..2_000).map(|n| format!("unix:///a\nb\u{1b}{n}{}", "x".repeat(400)));
        let listed = read(bad.chain(["http://user:secret@host:1".into(), "y".repeat(10_000)]));
        let LeftOut { named, count, more, .. } = &listed.left_out;
        assert_eq!((named.len(), *count, *more), (NAMED, MAX_URLS, 2_002 - MAX_URLS));
        assert!(named.iter().all(|text| text.len() < 1_000 && !text.contains(char::is_control)), "{named:?}");
        let long = read(["y".repeat(10_000)]);
        assert!(long.left_out.named[0].len() < 200, "{:?}", long.left_out.named);
        let secret = read(["http://user:secret@host:1".into()]);
        assert!(!format!("{:?}", secret.left_out).contains("secret"));
    }

    #[test]
    fn a_change_is_news_and_what_stays_is_not() {
        let news = News::default();
        let hash = |listed: &Listed| {
            let LeftOut { hasher, count, more, .. } = &listed.left_out;
            (hasher.finish(), *count, *more)
        };
        let urls = |last: u16| (0..20).map(|n| format!("unix:///{n}")).chain([format!("unix:///{last}")]);
        assert!(news.is_news(hash(&read(urls(1)))));
        assert!(!news.is_news(hash(&read(urls(1)))));
        assert!(news.is_news(hash(&read(urls(2)))), "one that isn't named has changed");
    }
}
