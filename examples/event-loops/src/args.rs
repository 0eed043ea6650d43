//! The command line of both loops.

use std::{error::Error, str::FromStr};

use etcd_watch_core::{KeyRange, WatchRequest};

use crate::endpoints::Endpoints;

/// What to watch, and where.
#[derive(Debug)]
pub struct Args {
    /// The members to connect to.
    pub endpoints: Endpoints,
    /// The keys watched: all with this prefix.
    pub prefix: String,
    /// The first revision wanted; 0 is "from now on".
    pub revision: i64,
    /// End after so many events.
    pub events: Option<usize>,
}

impl Args {
    /// Reads the arguments, without the program's name.
    ///
    /// # Errors
    /// When they can't be understood, or an endpoint's name has no address.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut revision, mut events, mut plain) = (0, None, Vec::new());
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rev" => revision = number("--rev", arguments.next())?,
                "--events" => events = Some(number("--events", arguments.next())?),
                other if other.starts_with("--") => return Err(format!("unknown option {other}").into()),
                _ => plain.push(argument),
            }
        }
        let Ok([endpoints, prefix]) = <[String; 2]>::try_from(plain) else {
            return Err("arguments: ENDPOINT[,ENDPOINT...] PREFIX [--rev REVISION] [--events COUNT]".into());
        };
        Ok(Self { endpoints: Endpoints::resolve(&endpoints)?, prefix, revision, events })
    }

    /// The watch asked for.
    pub fn watch(&self) -> WatchRequest {
        WatchRequest::new(KeyRange::prefix(self.prefix.clone())).start_revision(self.revision)
    }
}

fn number<T: FromStr>(option: &str, value: Option<String>) -> Result<T, String> {
    value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("{option} needs a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Box<dyn Error>> {
        Args::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn options_may_stand_anywhere() {
        let args = parse("--rev 7 127.0.0.1:1 --events 3 a/").unwrap();
        assert_eq!((&args.prefix[..], args.revision, args.events), ("a/", 7, Some(3)));
        assert_eq!(parse("127.0.0.1:1 a/").unwrap().revision, 0);
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for line in ["127.0.0.1:1", "127.0.0.1:1 a b", "127.0.0.1:1 a --rev", "127.0.0.1:1 a --event 1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
