//! The client's credentials.

use crate::{BuildError, Client, Credentials};

impl Client {
    /// Uses these credentials from now on, for all clones and views of this client. They may be another password or token
    /// of the same user, or another user's.
    ///
    /// ```
    /// use etcd_watch_client::{BuildError, Client, Credentials};
    ///
    /// /// A JWT is replaced before it expires.
    /// fn rotate(client: &Client, jwt: String) -> Result<(), BuildError> {
    ///     client.set_credentials(Credentials::token(jwt))
    /// }
    /// ```
    ///
    /// - A request that is sent after this call carries them. One that is under way finishes with those before; if it is
    ///   refused for them, which etcd says before it executes anything, it is made again with these.
    /// - A watch stream keeps the token it was opened with. So streams move: each is closed and opened again, and its
    ///   watches resume at exactly the next revision. A watch that the new user may not have ends with
    ///   [`PermissionDenied`](crate::CloseReason::PermissionDenied).
    /// - A watch or a mirror that waits since its token was refused goes on.
    /// - A wrong password ends the watches, as one that the client was built with does.
    /// - Leases, locks and registrations go on: they belong to no user.
    /// - A [view](Self::with_options) with a token of its own keeps it.
    ///
    /// Credentials that are equal to the present ones change nothing, unless those were refused: then they are tried
    /// again.
    ///
    /// # Errors
    /// A user without a name, or a token that is no valid header. Nothing has changed then.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<(), BuildError> {
        credentials.check()?;
        if self.calls().pool.dialer.set_credentials(credentials) {
            self.hub().renew();
        }
        Ok(())
    }
}
