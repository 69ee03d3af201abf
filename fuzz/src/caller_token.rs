//! The JSON Web Token of a caller.

use std::sync::LazyLock;

use tollgate::identity::{
    Role,
    keyring::{KeyRing, TrustedKey},
    secret::Secret,
};

const SECRET: &str = "a secret of the fuzzer's own, long enough";
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256"}"#;

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let secret = Secret::new(SECRET, "the fuzzer").expect("it is long enough");
    KeyRing::new(vec![TrustedKey::of_secret(&secret)])
});

/// `0` and a token as it came; `1` and claims, which are signed here; `2`, a header, a line's end and
/// claims, signed likewise. What is believed names a tenant's account exactly if it is a tenant's,
/// and nothing that was not signed is believed.
///
/// # Panics
/// When that does not hold.
pub fn holds(input: &[u8]) -> bool {
    let Some((how, rest)) = crate::choice(input, 3) else { return false };
    let token = match how {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => crate::signed(HEADER, rest, SECRET.as_bytes()),
        _ => {
            let middle = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (header, claims) = rest.split_at(middle);
            crate::signed(header, claims.get(1..).unwrap_or_default(), SECRET.as_bytes())
        }
    };
    match RING.verify(&token) {
        Ok(token) => {
            assert_ne!(how, 0, "a token was believed that nobody signed");
            assert_eq!(token.account.is_some(), token.roles.has(Role::Tenant));
            assert!(!token.is_expired(tollgate::clock::now()), "an expired token was believed");
            true
        }
        // One that repeats what it was given would put a token into logs.
        Err(refusal) => {
            assert!(refusal.to_string().len() < 600, "a refusal grew with its input");
            false
        }
    }
}
