//! Versions that a cluster may be downgraded to.

use crate::CallError;

/// Checks a version by the rule of etcd's `convertToClusterVersion`: `major.minor` or `major.minor.patch`. What else that
/// takes (a pre-release, a build) says nothing about a cluster.
pub(super) fn checked(method: &'static str, version: String) -> Result<String, CallError> {
    let is_number =
        |part: &str| !part.is_empty() && part.len() < 10 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = version.split('.').count();
    if !(2..=3).contains(&parts) || !version.split('.').all(is_number) {
        let problem = "is not of the form major.minor or major.minor.patch, such as 3.6.0";
        return Err(CallError::InvalidArgument { method, field: "version", problem });
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_two_or_three_numbers() {
        for good in ["3.6", "3.6.0", "3.5.30"] {
            assert_eq!(checked("Downgrade", good.into()), Ok(good.into()));
        }
        for bad in ["", "3", "3.", "3.6.0.1", "v3.6.0", "3.6.0-rc.1", "3.-6", "3.6 ", "3.99999999999"] {
            let refused = checked("Downgrade", bad.into());
            assert!(matches!(refused, Err(CallError::InvalidArgument { field: "version", .. })), "{bad:?}");
        }
    }
}
