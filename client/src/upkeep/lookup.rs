//! Takes the endpoints from DNS SRV records.

use std::collections::HashSet;

use crate::{BoxError, Endpoint, SrvLookup, calls::attempts::Calls, watch::hub::Hub};

/// Uses the endpoints that are found, if they are others than those given before.
pub(super) async fn look_up(calls: &Calls, hub: &Hub, lookup: &SrvLookup) -> Result<(), BoxError> {
    let dialer = &calls.pool.dialer;
    let found: Vec<Endpoint> = lookup
        .endpoints()
        .await?
        .into_iter()
        .map(|each| dialer.accepted.check(each))
        .collect::<Result<_, _>>()?;
    found.iter().try_for_each(|endpoint| dialer.connector.check(endpoint))?;
    // Their order is another one each time, by chance.
    let given: HashSet<Endpoint> =
        dialer.endpoints.all_given().iter().map(|endpoint| Endpoint::clone(endpoint)).collect();
    if given != found.iter().cloned().collect() && dialer.endpoints.give(found) {
        hub.spread();
    }
    Ok(())
}
