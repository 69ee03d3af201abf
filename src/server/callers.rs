//! Whose tokens this server believes, from its start on and as files of keys change.

use std::{sync::Arc, time::Duration};

use super::{ServerError, watch};
use crate::{
    config::{SecretSource, TokenConfig},
    identity::{
        Gate, Role,
        keyring::KeyRing,
        public_keys::KeySources,
        secret::Secret,
        token::{TokenAuthority, TokenRequest},
    },
    tasks::Tasks,
};

/// The operator's token is renewed at each start; a server that runs for longer than this needs a
/// restart, or a token from `tollgate token mint`.
const OPERATOR_TOKEN_LIFETIME: Duration = Duration::from_hours(365 * 24);
/// The local operator may do everything that is done from a command line.
const OPERATOR_TOKEN_ROLES: [Role; 4] =
    [Role::Gateway, Role::Operator, Role::Finance, Role::Auditor];

/// The keys, and where they came from.
pub(super) struct Callers {
    pub(super) keys: KeyRing,
    pub(super) sources: KeySources,
    authority: TokenAuthority,
}

impl Callers {
    /// Reads all keys; makes the secret where it is this server's own and not there yet.
    pub(super) fn read(config: TokenConfig) -> Result<Self, ServerError> {
        let secret = match config.secret {
            SecretSource::Given(secret) => secret,
            SecretSource::OwnFile(path) => Secret::read_or_create(&path)?,
        };
        let authority = TokenAuthority::new(&secret);
        let sources = KeySources {
            secrets: [Some(secret), config.previous_secret].into_iter().flatten().collect(),
            pem_files: config.public_keys,
            jwks_file: config.jwks,
            parties: config.parties,
        };
        Ok(Self { keys: sources.read()?, sources, authority })
    }

    /// A token for whoever is on this machine as its owner.
    pub(super) fn operator_token(&self) -> Result<String, ServerError> {
        Ok(self.authority.mint(&TokenRequest {
            subject: "local-operator".to_owned(),
            roles: OPERATOR_TOKEN_ROLES.to_vec(),
            account: None,
            lifetime: OPERATOR_TOKEN_LIFETIME,
        })?)
    }
}

/// Gives the gate new keys when a file of them has changed. A file that cannot be used leaves the
/// keys as they are, and the log says why.
pub(super) fn keep_keys(sources: KeySources, gate: Arc<Gate>, tasks: &Tasks) {
    watch::files(tasks, "public keys", sources.files(), move || {
        gate.replace_keys(sources.read().map_err(|error| error.to_string())?);
        Ok(())
    });
}
