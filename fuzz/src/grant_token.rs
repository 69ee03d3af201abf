//! The signed token of a grant, which a gateway gives back with the usage.

use std::sync::LazyLock;

use tollgate::authorization::grant::{GrantSigner, SigningKey};

const SECRET: [u8; 32] = [7; 32];
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256","kid":"a"}"#;

static SIGNER: LazyLock<GrantSigner> = LazyLock::new(|| {
    let key = SigningKey { key_id: "a".to_owned(), secret: SECRET.to_vec(), retired: false };
    GrantSigner::new(&[key]).expect("it has a key")
});

/// `0` and a token as it came; `1` and claims, which are signed here. What is read can be signed and
/// read again as the same, and its times can be computed with.
///
/// # Panics
/// When that does not hold.
pub fn holds(input: &[u8]) -> bool {
    let Some((how, rest)) = crate::choice(input, 2) else { return false };
    let token = match how {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => crate::signed(HEADER, rest, &SECRET),
    };
    let Ok(claims) = SIGNER.verify(&token) else { return false };
    assert_ne!(how, 0, "a grant was believed that nobody signed");
    assert!(claims.covered_until() >= claims.expires_at);
    assert_eq!(claims.pools().len(), claims.budgets.len() + 1);
    let again = SIGNER.sign(&claims).expect("what was read can be written");
    // What is longer than any grant of ours is not read again.
    assert_eq!(SIGNER.verify(&again).ok().as_ref(), Some(&claims));
    true
}
