//! The account that a request names: by id or by handle, and only if the caller may see it.

use std::sync::Arc;

use tonic::Status;

use crate::{
    accounts::{
        account::AccountRecord,
        directory::{Directory, DirectoryError},
    },
    api::{
        caller::{no_such_account, require_account},
        convert::BadField,
        status::refused,
    },
    identity::Caller,
    ids::AccountId,
};

/// Finds the account that `field` names.
///
/// # Errors
/// `INVALID_ARGUMENT` where none is named; `NOT_FOUND`, in the same words, for one that does not
/// exist and for one that is not this tenant's.
pub async fn named_account(
    directory: &Directory,
    caller: &Caller,
    field: &str,
    id_or_handle: &str,
) -> Result<AccountId, Status> {
    if id_or_handle.is_empty() {
        let problem = "is missing; give the account's id or its handle, as in `acme`";
        return Err(refused(BadField::new(field, "MISSING_ACCOUNT", problem)));
    }
    let account = directory.resolve(id_or_handle).await.map_err(|error| match error {
        DirectoryError::UnknownAccount(_) => no_such_account(field),
        DirectoryError::Database(failure) => refused(failure),
    })?;
    require_account(caller, account, field)?;
    Ok(account)
}

/// As [`named_account`], with what the directory knows of it.
///
/// # Errors
/// As [`named_account`].
pub async fn named_account_record(
    directory: &Directory,
    caller: &Caller,
    field: &str,
    id_or_handle: &str,
) -> Result<Arc<AccountRecord>, Status> {
    let account = named_account(directory, caller, field, id_or_handle).await?;
    let record = directory.account(account).await.map_err(refused)?;
    record.ok_or_else(|| no_such_account(field))
}
