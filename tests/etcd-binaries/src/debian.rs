//! Fetching from Debian's archive with `apt-get` and `dpkg`, as any user, into a private directory.
//!
//! The system's package state isn't touched: source list, package lists and downloads are this module's own. Only
//! the mirror is taken from the system's sources and the keys from its keyrings, so that what comes is verified
//! and comes from where the machine's administrator wants packages to come from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{BinaryError, Line, Version, staging, staging::Staging};

/// The suites asked. bookworm has 3.4; sid has the newest 3.5, and once it moves on to 3.6 trixie still has one.
const SUITES: [&str; 3] = ["bookworm", "trixie", "sid"];
const SERVER_PACKAGE: &str = "etcd-server";
const CLIENT_PACKAGE: &str = "etcd-client";

/// Fetches a server of each line, with its `etcdctl`, and returns the directories they are in now.
pub(crate) fn fetch(
    store: &Path,
    lines: &[Line],
    say: &mut dyn FnMut(&str),
) -> Result<Vec<PathBuf>, BinaryError> {
    let staging = Staging::new(store)?;
    let apt = Apt::open(&staging, say)?;
    lines
        .iter()
        .map(|&line| {
            let offer = apt.newest(line)?;
            say(&format!("downloading {SERVER_PACKAGE} and {CLIENT_PACKAGE} {}", offer.package_version));
            let root = staging.dir(&format!("root-{}", offer.version))?;
            let wanted =
                [SERVER_PACKAGE, CLIENT_PACKAGE].map(|name| format!("{name}={}", offer.package_version));
            apt.unpack(&staging, &wanted, &root)?;
            let [server, client] = ["etcd", "etcdctl"].map(|name| root.join("usr/bin").join(name));
            staging.publish(offer.version, &[(&server, "etcd"), (&client, "etcdctl")])
        })
        .collect()
}

/// `apt` on a private state directory.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// With the package lists of now, in this directory.
    fn open(staging: &Staging, say: &mut dyn FnMut(&str)) -> Result<Self, BinaryError> {
        let mirror = mirror(Path::new("/etc/apt"))?;
        let apt = Self::new(staging, &mirror, &keyring(Path::new("/usr/share/keyrings"))?)?;
        say("reading Debian's package lists");
        staging::run(apt.command("apt-get").args(["--quiet", "--quiet", "update"]))?;
        Ok(apt)
    }

    fn new(staging: &Staging, mirror: &str, keyring: &Path) -> Result<Self, BinaryError> {
        let state = staging.dir("apt/state")?;
        let lists = staging.dir("apt/state/lists/partial")?;
        let cache = staging.dir("apt/cache/archives/partial")?;
        let sources = staging.path().join("apt/sources.list");
        let entries =
            SUITES.map(|suite| format!("deb [signed-by={}] {mirror} {suite} main\n", keyring.display()));
        fs::write(&sources, entries.concat()).map_err(BinaryError::io("write", &sources))?;

        let without_last = |path: &Path| path.parent().unwrap_or(path).display().to_string();
        let options = vec![
            format!("Dir::State={}", state.display()),
            format!("Dir::State::Lists={}", without_last(&lists)),
            format!("Dir::Cache={}", staging.path().join("apt/cache").display()),
            format!("Dir::Cache::Archives={}", without_last(&cache)),
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::State::Status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // Run as root, apt would otherwise drop to a user that may not write here.
            "APT::Sandbox::User=".to_owned(),
        ];
        Ok(Self { options })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// The newest version of the line that the server is offered in.
    fn newest(&self, line: Line) -> Result<Offer, BinaryError> {
        let offered = staging::run(self.command("apt-cache").args(["madison", SERVER_PACKAGE]))?;
        newest_of_line(&offered, line).ok_or_else(|| BinaryError::NotOffered {
            package: SERVER_PACKAGE,
            line,
            offered: offered.trim().to_owned(),
        })
    }

    /// Downloads packages, each named as `apt-get download` takes it, and unpacks them all into `root`.
    fn unpack(&self, staging: &Staging, wanted: &[String], root: &Path) -> Result<(), BinaryError> {
        let packages = staging.fresh_dir("packages")?;
        let mut download = self.command("apt-get");
        staging::run(download.args(["--quiet", "--quiet", "download"]).args(wanted).current_dir(&packages))?;
        for entry in fs::read_dir(&packages).map_err(BinaryError::io("read", &packages))? {
            let package = entry.map_err(BinaryError::io("read", &packages))?.path();
            staging::run(Command::new("dpkg").arg("-x").arg(&package).arg(root))?;
        }
        Ok(())
    }
}

/// A version of a package.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    /// The version of what is packaged.
    version: Version,
    /// The same with what the distribution appends.
    package_version: String,
}

/// The newest version of the line among the rows of `apt-cache madison`: `package | version | uri ...`.
fn newest_of_line(madison: &str, line: Line) -> Option<Offer> {
    madison
        .lines()
        .filter_map(|row| {
            let package_version = row.split('|').nth(1)?.trim().to_owned();
            Some(Offer { version: package_version.parse().ok()?, package_version })
        })
        .filter(|offer| offer.version.line() == line)
        .max_by_key(|offer| offer.version)
}

fn keyring(keyrings: &Path) -> Result<PathBuf, BinaryError> {
    ["debian-archive-keyring.gpg", "debian-archive-keyring.pgp"]
        .iter()
        .map(|name| keyrings.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| BinaryError::NoKeyring { keyrings: keyrings.to_owned() })
}

/// The Debian mirror that the system's own sources in `apt` (`/etc/apt`) name.
fn mirror(apt: &Path) -> Result<String, BinaryError> {
    source_files(apt)
        .iter()
        .filter_map(|path| Some((path, fs::read_to_string(path).ok()?)))
        .flat_map(|(path, text)| {
            let is_deb822 = path.extension().is_some_and(|extension| extension == "sources");
            if is_deb822 { deb822_sources(&text) } else { one_line_sources(&text) }
        })
        .find(Source::is_debian)
        .map(|source| source.uri)
        .ok_or_else(|| BinaryError::NoMirror { apt: apt.to_owned() })
}

fn source_files(apt: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "sources" || extension == "list")
        })
        .collect();
    files.sort();
    files.insert(0, apt.join("sources.list"));
    files
}

/// One package source: where it is, and which parts of it are used.
#[derive(Debug, PartialEq)]
struct Source {
    uri: String,
    components: Vec<String>,
}

impl Source {
    /// Whether this is Debian's own archive: not its security archive, and nobody else's packages for Debian.
    fn is_debian(&self) -> bool {
        self.components.iter().any(|component| component == "main")
            && self.uri.split('/').any(|segment| segment == "debian" || segment == "debian.list")
    }
}

/// Sources of the form `deb [options] uri suite component...`.
fn one_line_sources(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim();
            let entry = match line.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => line,
            };
            let mut words = entry.split_whitespace();
            let (uri, _suite) = (words.next()?, words.next()?);
            Some(Source { uri: uri.to_owned(), components: words.map(str::to_owned).collect() })
        })
        .collect()
}

/// Sources as stanzas of `Field: values`, with continuation lines.
fn deb822_sources(text: &str) -> Vec<Source> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    uncommented
        .split(|line| line.trim().is_empty())
        .filter_map(|stanza| {
            let enabled = !field(stanza, "enabled").iter().any(|value| value.eq_ignore_ascii_case("no"));
            let binary = field(stanza, "types").iter().any(|value| value == "deb");
            let uri = field(stanza, "uris").into_iter().next()?;
            (enabled && binary).then(|| Source { uri, components: field(stanza, "components") })
        })
        .collect()
}

/// The values of a stanza's field, named in lower case.
fn field(stanza: &[&str], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut within = false;
    for line in stanza {
        let continued = line.starts_with([' ', '\t']);
        let text = match line.split_once(':') {
            _ if continued => line,
            Some((field, text)) => {
                within = field.trim().eq_ignore_ascii_case(name);
                text
            }
            None => continue,
        };
        if within {
            values.extend(text.split_whitespace().map(str::to_owned));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "\
etcd-server |   3.5.30-2 | http://mirror.example/debian sid/main amd64 Packages
etcd-server |   3.5.16-4 | http://mirror.example/debian trixie/main amd64 Packages
etcd-server | 3.4.23-4+b4 | http://mirror.example/debian bookworm/main amd64 Packages
";

    fn apt_dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_newest_version_of_each_line_is_chosen() {
        let offer = |version, package_version: &str| {
            Some(Offer { version, package_version: package_version.to_owned() })
        };
        assert_eq!(newest_of_line(MADISON, Line::V3_4), offer(Version::new(3, 4, 23), "3.4.23-4+b4"));
        assert_eq!(newest_of_line(MADISON, Line::V3_5), offer(Version::new(3, 5, 30), "3.5.30-2"));
        assert_eq!(newest_of_line(MADISON, Line::V3_6), None);
    }

    #[test]
    fn the_mirror_of_deb822_sources_is_found_among_others() {
        let apt = apt_dir(&[
            (
                "sources.list.d/debian.sources",
                "Types: deb\n# URIs: http://commented.example/debian\nURIs: http://off.example/debian\n\
                 Suites: sid\nComponents: main\nEnabled: no\n\n\
                 Types: deb deb-src\nURIs:\n http://mirror.example/debian\n http://second.example/debian\n\
                 Suites: bookworm\nComponents: main contrib\n\n\
                 Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n\
                 Components: main\n",
            ),
            (
                "sources.list.d/container.sources",
                "Types: deb\nURIs: http://vendor.example/linux/debian\nSuites: bookworm\nComponents: stable\n",
            ),
        ]);
        assert_eq!(mirror(apt.path()).unwrap(), "http://mirror.example/debian");
    }

    #[test]
    fn the_mirror_of_one_line_sources_is_found_among_others() {
        let apt = apt_dir(&[
            ("sources.list.d/vendor.list", "deb http://vendor.example/apt bookworm main\n"),
            (
                "sources.list",
                "# deb http://commented.example/debian bookworm main\n\
                 deb-src http://source.example/debian bookworm main\n\
                 deb http://mirror.example/debian-security bookworm-security main\n\
                 deb [arch=amd64 signed-by=/key.gpg] http://mirror.example/debian bookworm main # the one\n",
            ),
        ]);
        assert_eq!(mirror(apt.path()).unwrap(), "http://mirror.example/debian");
    }

    #[test]
    fn a_system_without_a_debian_mirror_is_told_what_to_do() {
        let apt = apt_dir(&[("sources.list", "deb http://mirror.example/ubuntu noble main\n")]);
        let text = mirror(apt.path()).unwrap_err().to_string();
        assert!(text.contains("ETCD_BIN") && text.contains(&apt.path().display().to_string()), "{text}");
    }

    #[test]
    fn a_system_without_debians_keys_is_told_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let text = keyring(empty.path()).unwrap_err().to_string();
        assert!(text.contains("install `debian-archive-keyring`"), "{text}");
    }
}
