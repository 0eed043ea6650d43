//! The root certificates of the system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.

use std::{
    env,
    path::{Path, PathBuf},
};

use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// What is found of them. A variable that is set to nothing is not set: `rustls-native-certs` takes an empty file name
/// for a file.
pub(super) fn certificates() -> CertificateResult {
    if env::var_os(FILE).is_none_or(|file| !file.is_empty()) {
        return load_native_certs();
    }
    let directories = env::var_os(DIRECTORIES).unwrap_or_default();
    let mut directories =
        env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty()).peekable();
    match directories.peek() {
        Some(_) => load(None, directories),
        None => usual(),
    }
}

fn load(file: Option<&Path>, directories: impl Iterator<Item = PathBuf>) -> CertificateResult {
    let mut all = load_certs_from_paths(file, None);
    for directory in directories {
        let found = load_certs_from_paths(None, Some(&directory));
        all.certs.extend(found.certs);
        all.errors.extend(found.errors);
    }
    // Systems have the same certificates in a file and in a directory.
    all.certs.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    all.certs.dedup();
    all
}

/// Those that the system has where no variable is set.
#[cfg(all(unix, not(target_os = "macos")))]
fn usual() -> CertificateResult {
    // It passes over variables that name nothing.
    let found = openssl_probe::probe();
    load(found.cert_file.as_deref(), found.cert_dir.into_iter())
}

/// Those that the system has where no variable is set. Here it can't be asked past the empty variable, and the error
/// names that.
#[cfg(not(all(unix, not(target_os = "macos"))))]
fn usual() -> CertificateResult {
    load_native_certs()
}
