//! Flags and variables, as etcdctl has them.

mod contend;
mod mirror;
mod snapshot;

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    time::Duration,
};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, Resettable},
    error::ErrorKind,
    parser::ValueSource,
};

use crate::duration;
pub(crate) use contend::{ElectArgs, EndpointsArgs, LockArgs};
pub(crate) use mirror::MirrorArgs;
pub(crate) use snapshot::{SnapshotArgs, SnapshotCommand};

#[cfg(feature = "demo")]
const ABOUT: &str =
    "Flags, variables and output are etcdctl's. Try `etcd-watch demo` first: it needs no etcd.";
#[cfg(not(feature = "demo"))]
const ABOUT: &str = "Flags, variables and output are etcdctl's.";

/// etcd from the command line, with watches that survive every cut.
#[derive(Debug, Parser)]
#[command(name = "etcd-watch", version, max_term_width = 100)]
#[command(after_help = ABOUT)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command that talks to an etcd takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct Global {
    /// Members of the cluster, separated by commas, best first
    #[arg(long, global = true, env = "ETCDCTL_ENDPOINTS", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:2379", value_name = "HOST:PORT,...")]
    pub(crate) endpoints: Vec<String>,
    /// How to print responses
    #[arg(
        short,
        long,
        global = true,
        env = "ETCDCTL_WRITE_OUT",
        default_value = "simple",
        value_name = "FORMAT"
    )]
    pub(crate) write_out: Format,
    /// Print keys and values as hexadecimal (simple output only)
    #[arg(long, global = true, env = "ETCDCTL_HEX", value_parser = BoolishValueParser::new())]
    pub(crate) hex: bool,
    /// How long an attempt to connect to an endpoint may take; a watch or call whose client reaches no endpoint
    /// at the start gives up after this time for each
    #[arg(long, global = true, env = "ETCDCTL_DIAL_TIMEOUT", default_value = "2s")]
    #[arg(value_parser = duration::parse, value_name = "DURATION")]
    pub(crate) dial_timeout: Duration,
    /// How long get, put and del, and each call of other commands, may take
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", default_value = "5s")]
    #[arg(value_parser = duration::parse, value_name = "DURATION")]
    pub(crate) command_timeout: Duration,
    /// How often to ping the connection; 0 for never. As in etcdctl, less than 10s becomes 10s: servers close
    /// connections that ping more
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIME", default_value = "10s")]
    #[arg(value_parser = duration::parse, value_name = "DURATION")]
    pub(crate) keepalive_time: Duration,
    /// How long the answer to a ping may take
    #[arg(long, global = true, env = "ETCDCTL_KEEPALIVE_TIMEOUT", default_value = "6s")]
    #[arg(value_parser = duration::parse, value_name = "DURATION")]
    pub(crate) keepalive_timeout: Duration,
    /// Trust the certificates in this PEM file, rather than the system's roots; endpoints without a scheme are
    /// https then
    #[arg(long, global = true, env = "ETCDCTL_CACERT", value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Show servers the certificate in this PEM file
    #[arg(long, global = true, env = "ETCDCTL_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The PEM file with the certificate's key
    #[arg(id = "tls-key", long = "key", global = true, env = "ETCDCTL_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The name servers' certificates must have, if it isn't the endpoint's host
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// Write the secrets of TLS connections to the file that SSLKEYLOGFILE names, to look into them with Wireshark
    #[arg(long, global = true)]
    pub(crate) log_tls_keys: bool,
    /// Connect by this HTTP proxy, http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, to every endpoint but unix sockets.
    /// By default the variables HTTPS_PROXY (or ALL_PROXY) and NO_PROXY say which endpoints go by which proxy; better set
    /// these where there is a password, since others on this machine can see flags
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) proxy: Option<Secret>,
    /// Connect without a proxy, whatever the variables say
    #[arg(long, global = true, conflicts_with = "proxy")]
    pub(crate) no_proxy: bool,
    /// The user, if authentication is on; asks for the password if it isn't given here or by --password
    #[arg(long, global = true, env = "ETCDCTL_USER", hide_env_values = true, value_name = "NAME[:PASSWORD]")]
    pub(crate) user: Option<Secret>,
    /// The user's password; better set the variable, since others on this machine can see flags
    #[arg(long, global = true, env = "ETCDCTL_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub(crate) password: Option<Secret>,
}

/// Text that is not to be shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// How to print responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A line for each type, key and value
    Simple,
    /// One object a line for each response; keys and values in base64
    Json,
    /// A line for each field; keys and values quoted
    Fields,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch keys: print every change, none twice and none left out, until Ctrl-C
    Watch(WatchArgs),
    /// Get keys
    Get(GetArgs),
    /// Put a key
    Put(PutArgs),
    /// Delete keys
    Del(DelArgs),
    /// Mirror keys: print them as they are, then their changes; or keep another etcd equal
    Mirror(MirrorArgs),
    /// Take a lock, and hold it until Ctrl-C, or while a command runs
    Lock(LockArgs),
    /// Take part in an election and lead until Ctrl-C, or follow who leads
    Elect(ElectArgs),
    /// List the endpoints of a service, as Go's clientv3/naming registers them
    Endpoints(EndpointsArgs),
    /// Save a member's database to a file
    Snapshot(SnapshotArgs),
    /// See it work: an etcd of its own, connections that keep breaking, and watches that lose nothing
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
}

impl Command {
    /// Whether it goes on until something ends it, rather than until it is done.
    pub(crate) fn goes_on(&self) -> bool {
        match self {
            Self::Watch(_) | Self::Mirror(_) | Self::Lock(_) | Self::Elect(_) => true,
            Self::Endpoints(args) => args.watch,
            _ => false,
        }
    }

    /// Whether it has failed if nobody reads all that it prints.
    pub(crate) fn must_be_read(&self) -> bool {
        // What it has found out is all there is.
        self.is_demo()
    }

    /// Whether it breaks connections on purpose.
    pub(crate) fn breaks_connections(&self) -> bool {
        self.is_demo()
    }

    #[cfg(feature = "demo")]
    fn is_demo(&self) -> bool {
        matches!(self, Self::Demo(_))
    }

    #[cfg(not(feature = "demo"))]
    fn is_demo(&self) -> bool {
        false
    }
}

/// The keys a command is about.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// The key, or the first of a range; every key is --prefix "" or --from-key ""
    pub(crate) key: OsString,
    /// The end of the range, which is not part of it
    pub(crate) range_end: Option<OsString>,
    /// Every key that starts with KEY
    #[arg(long, conflicts_with = "range_end")]
    pub(crate) prefix: bool,
    /// KEY and every key after it
    #[arg(long, conflicts_with_all = ["range_end", "prefix"])]
    pub(crate) from_key: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Begin with the changes of this revision; 0 is from now on
    #[arg(long, default_value_t = 0, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) rev: i64,
    /// Print what each key was before the change
    #[arg(long)]
    pub(crate) prev_kv: bool,
    /// Print progress notifications: everything up to their revision has been printed
    #[arg(long)]
    pub(crate) progress_notify: bool,
    /// Stop, with status 0, once everything up to revision N has been printed
    ///
    /// Known from a change at or past N (with the rest of its response, which is printed too), or from a
    /// progress notification at or past N, which is asked for every now and then. Servers before 3.4.25 and
    /// 3.5.8 send such notifications ahead of changes, so theirs are not believed: there the watch ends with
    /// the first change at or past N, or with the server's own periodic notification (every 10 minutes).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) until_rev: Option<i64>,
    /// Run a command for each change
    ///
    /// It finds ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its
    /// environment, all but the first quoted, and on its standard input the whole change, in one line, as
    /// -w json prints it. A key or value for which the environment has no room (on Linux, from 128 KiB on) is
    /// left out of it, and ETCD_WATCH_LEFT_OUT names the variables that are left out; it is not set otherwise.
    ///
    /// ETCDCTL_PASSWORD, and a password in ETCDCTL_USER, are kept from the command. If it fails, the watch ends.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Read the store as it was at this revision
    #[arg(long, default_value_t = 0, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) rev: i64,
    /// Get so many keys at most; 0 is no limit
    #[arg(long, default_value_t = 0, value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit: i64,
    /// Get keys without their values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Only count the keys
    #[arg(long, conflicts_with = "keys_only")]
    pub(crate) count_only: bool,
    /// Print only values (simple output only)
    #[arg(long, conflicts_with_all = ["keys_only", "count_only"])]
    pub(crate) print_value_only: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key
    pub(crate) key: OsString,
    /// The value; read from standard input if it isn't given, unless nothing is piped in
    ///
    /// An empty value has to be given: put KEY "".
    pub(crate) value: Option<OsString>,
    /// Let the key go with this lease: its id in hexadecimal
    #[arg(long, default_value = "0", value_name = "ID", value_parser = lease)]
    pub(crate) lease: i64,
    /// Print what the key was before
    #[arg(long)]
    pub(crate) prev_kv: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Print what was deleted
    #[arg(long)]
    pub(crate) prev_kv: bool,
}

#[cfg(feature = "demo")]
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// How long to write and to break connections
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Decides what is written and what breaks, though not to the millisecond when; random if not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// End with one line that holds the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// For commands whose output etcdctl doesn't have.
pub(crate) fn refuse_fields(global: &Global, command: &str) -> anyhow::Result<()> {
    if global.write_out == Format::Fields {
        anyhow::bail!("{command} has no output format fields: use -w simple or -w json");
    }
    Ok(())
}

fn lease(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_| "not a lease id: it is a hexadecimal number".to_owned())
}

/// etcdctl's variables for what can't be done here, and what to do instead.
const NOT_HERE: [(&str, &str); 2] = [
    ("ETCDCTL_DISCOVERY_SRV", "give the endpoints with --endpoints"),
    ("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "give the servers' CA with --cacert"),
];

impl Cli {
    /// What this process was started with. Ends the process, with what to do about it, if that can't be
    /// used, and after `--help`.
    pub(crate) fn from_process() -> Self {
        let mut command = without_empty_variables(Self::command());
        let matches = command.get_matches_mut();
        let parsed = refuse_double(&command, &matches).and_then(|()| Self::from_arg_matches(&matches));
        parsed.unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

impl Global {
    /// Variables that are set and can't be followed, and what to do instead.
    pub(crate) fn ignored() -> impl Iterator<Item = (&'static str, &'static str)> {
        NOT_HERE.into_iter().filter(|(name, _)| env::var_os(name).is_some_and(|value| !value.is_empty()))
    }
}

/// A variable that is set to nothing is not set: compose files and unit files can't leave one out.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |variable: &OsStr| env::var_os(variable).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| match argument.get_env() {
            Some(variable) if is_empty(variable) => argument.env(Resettable::Reset),
            _ => argument,
        })
        .mut_subcommands(without_empty_variables)
}

/// As in etcdctl, a flag doesn't silently win over its variable.
fn refuse_double(command: &clap::Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let leaf = matches.subcommand().map(|(_, leaf)| leaf);
    let given = |id: &str| {
        [Some(matches), leaf].into_iter().flatten().any(|matches| {
            matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine)
        })
    };
    for argument in command.get_arguments() {
        let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) else { continue };
        if given(argument.get_id().as_str()) && env::var_os(variable).is_some() {
            let variable = variable.display();
            let text =
                format!("--{flag} is given and {variable} is set: leave out the flag or unset the variable");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_go_before_and_after_the_command() {
        for line in ["etcd-watch --endpoints a:1,b:2 get k", "etcd-watch get k --endpoints a:1,b:2"] {
            assert_eq!(parse(line).unwrap().global.endpoints, ["a:1", "b:2"], "{line}");
        }
    }

    #[test]
    fn what_follows_two_dashes_is_the_command() {
        let Command::Watch(args) = parse("etcd-watch watch k -- echo -n --prefix").unwrap().command else {
            panic!("not a watch");
        };
        assert_eq!(args.command, ["echo", "-n", "--prefix"]);
        assert!(args.keys.range_end.is_none() && !args.keys.prefix);
    }

    #[test]
    fn a_password_is_not_shown() {
        let flags = "--user root:s3cret --password s3cret --proxy http://me:s3cret@proxy:3128";
        let cli = parse(&format!("etcd-watch get k {flags}")).unwrap();
        assert!(!format!("{cli:?}").contains("s3cret"));
    }

    #[test]
    fn a_lease_is_hexadecimal() {
        let Command::Put(args) = parse("etcd-watch put k v --lease 3ceea208289db605").unwrap().command else {
            panic!("not a put");
        };
        assert_eq!(args.lease, 0x3cee_a208_289d_b605);
        assert!(parse("etcd-watch put k v --lease zz").is_err());
    }
}
