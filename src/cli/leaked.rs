//! `tollgate key revoke-leaked`: what a secret scanner found is dead at once.

use std::{collections::BTreeSet, io::Read as _, path::Path};

use crate::{
    accounts::key,
    cli::{
        Session,
        args::new_idempotency_key,
        client::Authorized,
        error::CliError,
        output::{Table, Value, text},
    },
    proto::{RevokeLeakedKeysRequest, key_service_client::KeyServiceClient},
};

/// Hashes in one call; what the contract allows.
const HASHES: usize = 1_000;

/// Revokes every key in this file; only hashes leave this machine.
pub(super) async fn revoke(
    keys: &mut KeyServiceClient<Authorized>,
    file: &Path,
    reason: &str,
    session: &Session,
) -> Result<(), CliError> {
    let content = read(file)?;
    let found = key::find_in(&String::from_utf8_lossy(&content));
    let hashes: BTreeSet<[u8; 32]> = found.into_iter().map(|key| key.hash).collect();
    let hashes: Vec<Vec<u8>> = hashes.into_iter().map(Vec::from).collect();
    let mut table =
        Table::list("keys", &["key_id", "account_id", "name", "hint", "revoked_before"]);
    let mut unknown = 0_u32;
    for chunk in hashes.chunks(HASHES) {
        let request = RevokeLeakedKeysRequest {
            key_hashes: chunk.to_vec(),
            reason: reason.to_owned(),
            idempotency_key: new_idempotency_key(),
        };
        let answer = keys.revoke_leaked_keys(request).await?.into_inner();
        unknown = unknown.saturating_add(answer.unknown);
        for key in answer.keys {
            table.row([
                text(key.key_id),
                text(key.account_id),
                text(key.name),
                text(key.hint),
                Value::Flag(key.revoked_before),
            ]);
        }
    }
    session.output.show(&table)?;
    session.output.note(&format!(
        "of {} well-formed keys in {}, {unknown} were never issued here",
        hashes.len(),
        file.display(),
    ))
}

/// All of it, text or not.
fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    if file == Path::new("-") {
        let mut content = Vec::new();
        return match std::io::stdin().lock().read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(cause) => Err(CliError::file(file, cause)),
        };
    }
    std::fs::read(file).map_err(|cause| CliError::file(file, cause))
}
