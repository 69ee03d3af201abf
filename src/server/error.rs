//! Why a server does not start, or did not stop well. Each is printed as the last line of `serve`.

use std::{io, net::SocketAddr};

use thiserror::Error;

use super::tls::TlsError;
use crate::{
    authorization::error::AuthorizationError,
    catalog::error::CatalogError,
    database::{embedded::EmbeddedError, pool::DatabaseError},
    identity::{IdentityError, public_keys::KeyFileError, secret::SecretError},
    metering::error::MeteringError,
};

/// What can go wrong between start and exit.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The embedded Postgres.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database or its schema.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file of public keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operator's token.
    #[error("the operator's token could not be made: {0}")]
    Token(#[from] IdentityError),
    /// A port is taken or not ours.
    #[error(
        "{address} cannot be listened on: {cause}; choose another address with --listen or \
         --metrics-listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// A thread that would answer calls.
    #[error("no thread for calls could be started: {0}; allow this user more processes")]
    Thread(io::Error),
    /// The price book could not be read.
    #[error("the price book could not be read: {0}")]
    Catalog(#[from] CatalogError),
    /// The revoked tokens could not be read.
    #[error("the list of revoked tokens could not be read: {0}")]
    RevokedTokens(sqlx::Error),
    /// The server could not sign on to its database.
    #[error("the server could not sign on to its database: {0}")]
    Authorization(#[from] AuthorizationError),
    /// The months in which usage can be recorded could not be read.
    #[error("usage cannot be recorded: {0}")]
    Metering(#[from] MeteringError),
    /// The descriptors in the program do not decode.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// An essential part failed.
    #[error("{0} failed, so the server drained; the log has the cause")]
    PartFailed(&'static str),
    /// Something was still running at its bound.
    #[error("the drain ended with {0} still running; what was answered is safe")]
    DrainIncomplete(&'static str),
}
