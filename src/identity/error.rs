//! Why a caller is not let in. No message repeats any part of a token.

use thiserror::Error;

use super::Roles;
use crate::problem::{Problem, ProblemKind};

/// Why a call is refused before it reaches a service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// No `authorization` header.
    #[error(
        "the call carries no token; send the metadata `authorization: Bearer <token>`, with a \
         token made by `tollgate token mint`"
    )]
    NoToken,
    /// The header is there but is not `Bearer` and a token.
    #[error("the authorization metadata is not `Bearer <token>`; send exactly one token that way")]
    NotBearer,
    /// Longer than any token of ours.
    #[error("the token is longer than {0} characters; send a token made by `tollgate token mint`")]
    TooLong(usize),
    /// Not a JSON Web Token, or with claims of a wrong shape.
    #[error(
        "the token is not a JSON Web Token this server understands ({0}); make one with \
         `tollgate token mint`"
    )]
    Malformed(&'static str),
    /// No key of this server signs that way; `none` is no way at all.
    #[error("the token is not signed with {0}, which is all that this server accepts")]
    WrongAlgorithm(String),
    /// It names a key that this server does not have.
    #[error(
        "the token names a signing key (`kid`) that this server does not have; ask for a new \
         token, or whoever runs this server to look at its --jwt-jwks file"
    )]
    UnknownKey,
    /// Another key signed it, or somebody changed it.
    #[error(
        "no key of this server verifies the token's signature; make a token with `tollgate token \
         mint` and this server's data directory or secret, or ask this server's issuer for one"
    )]
    WrongSignature,
    /// Somebody revoked it.
    #[error("the token was revoked; make a new one with `tollgate token mint`")]
    Revoked,
    /// Its time is over.
    #[error("the token has expired; make a new one with `tollgate token mint`")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet; check the clocks of both machines")]
    NotYetValid,
    /// Made by or for something else.
    #[error("the token's {0} is not `{1}`; use a token that was made for this server")]
    WrongParty(&'static str, String),
    /// A role that does not exist.
    #[error("there is no role {0:?}; the roles are gateway, operator, finance, auditor and tenant")]
    UnknownRole(String),
    /// A tenant token without its account, or another token with one.
    #[error(
        "a token has an account if and only if its one role is tenant; make one with `tollgate \
         token mint --role tenant --account ID`"
    )]
    AccountMismatch,
    /// Known, but not allowed.
    #[error("{rpc} is for {needed}; the token's role is {has}")]
    NotAllowed {
        /// The RPC's path.
        rpc: String,
        /// The roles that may call it.
        needed: Roles,
        /// The roles of the token.
        has: Roles,
    },
    /// Not in the permission table.
    #[error("this server has no RPC {0}; list what it has with reflection")]
    UnknownRpc(String),
}

impl Problem for IdentityError {
    fn kind(&self) -> ProblemKind {
        match self {
            Self::NotAllowed { .. } => ProblemKind::PermissionDenied,
            Self::UnknownRpc(_) => ProblemKind::Unimplemented,
            _ => ProblemKind::Unauthenticated,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "TOKEN_MISSING",
            Self::NotBearer | Self::TooLong(_) | Self::Malformed(_) => "TOKEN_MALFORMED",
            Self::WrongAlgorithm(_) => "TOKEN_ALGORITHM",
            Self::UnknownKey => "TOKEN_KEY_UNKNOWN",
            Self::Revoked => "TOKEN_REVOKED",
            Self::WrongSignature => "TOKEN_SIGNATURE",
            Self::Expired => "TOKEN_EXPIRED",
            Self::NotYetValid => "TOKEN_NOT_YET_VALID",
            Self::WrongParty(..) => "TOKEN_WRONG_PARTY",
            Self::UnknownRole(_) => "ROLE_UNKNOWN",
            Self::AccountMismatch => "TOKEN_ACCOUNT",
            Self::NotAllowed { .. } => "ROLE_NOT_ALLOWED",
            Self::UnknownRpc(_) => "RPC_UNKNOWN",
        }
    }
}
