//! Which callers' tokens a server believes: its own secret, the one before it, others' public keys.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigError, SecretSource};
use crate::identity::{keyring::Parties, secret::Secret, token::PARTY};

/// The flags and variables about callers' tokens.
#[derive(Debug, Clone, Args)]
pub struct TokenArguments {
    /// The file with the secret that signs callers' tokens [default: DIR/secret]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_JWT_SECRET_FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// The secret itself; a variable, because a command line can be seen by others
    #[arg(long, hide = true, env = "TOLLGATE_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,

    /// The file with the secret before, whose tokens are still believed while it is replaced
    #[arg(long, value_name = "FILE", env = "TOLLGATE_JWT_PREVIOUS_SECRET_FILE")]
    pub jwt_previous_secret_file: Option<PathBuf>,

    /// The same as a variable
    #[arg(long, hide = true, env = "TOLLGATE_JWT_PREVIOUS_SECRET", hide_env_values = true)]
    pub jwt_previous_secret: Option<String>,

    /// A PEM file with a public key whose tokens are believed: Ed25519, P-256 or RSA; read again
    /// when it changes; give it again for several
    #[arg(
        long = "jwt-public-key",
        value_name = "FILE",
        env = "TOLLGATE_JWT_PUBLIC_KEYS",
        value_delimiter = ','
    )]
    pub jwt_public_keys: Vec<PathBuf>,

    /// A file with such public keys as a JSON Web Key Set; read again when it changes
    #[arg(long, value_name = "FILE", env = "TOLLGATE_JWT_JWKS")]
    pub jwt_jwks: Option<PathBuf>,

    /// The `iss` of tokens that those public keys sign
    #[arg(long, value_name = "NAME", env = "TOLLGATE_JWT_ISSUER", default_value = PARTY)]
    pub jwt_issuer: String,

    /// The `aud` of tokens that those public keys sign
    #[arg(long, value_name = "NAME", env = "TOLLGATE_JWT_AUDIENCE", default_value = PARTY)]
    pub jwt_audience: String,
}

/// Which tokens are believed.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// Where the secret comes from that signs and verifies.
    pub secret: SecretSource,
    /// The secret before it.
    pub previous_secret: Option<Secret>,
    /// Files with one public key each.
    pub public_keys: Vec<PathBuf>,
    /// A file with a set of them.
    pub jwks: Option<PathBuf>,
    /// Who signs with those, and for whom.
    pub parties: Parties,
}

impl TokenConfig {
    /// A server that believes what this secret has signed, and nothing else.
    #[must_use]
    pub fn of_secret(secret: SecretSource) -> Self {
        Self {
            secret,
            previous_secret: None,
            public_keys: Vec::new(),
            jwks: None,
            parties: Parties::default(),
        }
    }
}

impl TokenArguments {
    /// The secret that was given by file or variable.
    pub(super) fn given_secret(&self) -> Result<Option<Secret>, ConfigError> {
        let names = ["TOLLGATE_JWT_SECRET", "TOLLGATE_JWT_SECRET_FILE"];
        one_secret(self.jwt_secret.as_deref(), self.jwt_secret_file.as_ref(), names)
    }

    /// Everything but the secret is read here; `secret` is where that comes from.
    pub(super) fn build(&self, secret: SecretSource) -> Result<TokenConfig, ConfigError> {
        let names = ["TOLLGATE_JWT_PREVIOUS_SECRET", "TOLLGATE_JWT_PREVIOUS_SECRET_FILE"];
        let (text, file) =
            (self.jwt_previous_secret.as_deref(), self.jwt_previous_secret_file.as_ref());
        Ok(TokenConfig {
            secret,
            previous_secret: one_secret(text, file, names)?,
            public_keys: self.jwt_public_keys.clone(),
            jwks: self.jwt_jwks.clone(),
            parties: Parties {
                issuer: self.jwt_issuer.clone(),
                audience: self.jwt_audience.clone(),
            },
        })
    }
}

/// A secret from one of two places; `names` are their variables.
fn one_secret(
    text: Option<&str>,
    file: Option<&PathBuf>,
    names: [&'static str; 2],
) -> Result<Option<Secret>, ConfigError> {
    match (text, file) {
        (Some(_), Some(_)) => Err(ConfigError::TwoSecrets(names)),
        (Some(text), None) => Ok(Some(Secret::new(text, names[0])?)),
        (None, Some(file)) => Ok(Some(Secret::read(file)?)),
        (None, None) => Ok(None),
    }
}
