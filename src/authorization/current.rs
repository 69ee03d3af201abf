//! Whether what a request was checked against still holds when its funds are about to be held: it
//! may have waited for a lease meanwhile, and its key may have been revoked.

use std::sync::Arc;

use super::{
    authorizer::{Authorizer, Granted, Stop},
    error::AuthorizationError,
    limits,
};
use crate::accounts::{account::AccountRecord, keys::record::KeyRecord};

impl Authorizer {
    /// Stops unless memory still holds the very key and account that were checked. Asked under the
    /// slot's lock, right before anything is held: whatever is dropped from memory before that
    /// stops the request, and what is dropped after it came after the grant.
    pub(super) fn still_current(
        &self,
        key: &Arc<KeyRecord>,
        account: &Arc<AccountRecord>,
    ) -> Result<(), Stop> {
        let same_key =
            self.directory.cached_key(&key.hash).is_some_and(|now| Arc::ptr_eq(&now, key));
        let same_account = self
            .directory
            .cached_account(account.account_id)
            .is_some_and(|now| Arc::ptr_eq(&now, account));
        if same_key && same_account { Ok(()) } else { Err(Stop::Changed) }
    }
}

/// Decides, from the start again whenever what was checked has changed meanwhile.
pub(super) async fn with_what_holds<Deciding>(decide: impl Fn() -> Deciding) -> Granted
where
    Deciding: Future<Output = Granted>,
{
    for _ in 0..limits::DECISIONS {
        match decide().await {
            Err(Stop::Changed) => {}
            decided => return decided,
        }
    }
    Err(AuthorizationError::Unavailable.into())
}
