//! What must hold of every input from outside, whatever it is: one module per kind of input, each
//! with `holds`, which takes any bytes, panics when a promise is broken, and answers whether the input
//! was accepted.
//!
//! Two things call them. `scripts/fuzz` lets libFuzzer look for new paths through the code, for as
//! long as one likes. The tests of this crate try the seeds and some thousand changed ones, in
//! seconds, in every run.

pub mod api_key;
pub mod caller_token;
pub mod grant_token;
pub mod price_file;
pub mod provider_usage;
pub mod trace;

/// What takes any bytes, panics when something does not hold, and answers whether they were accepted.
pub type Target = fn(&[u8]) -> bool;

/// All of them by name; the seeds of each are in the folder of that name.
pub const TARGETS: [(&str, Target); 6] = [
    ("api_key", api_key::holds),
    ("caller_token", caller_token::holds),
    ("grant_token", grant_token::holds),
    ("price_file", price_file::holds),
    ("provider_usage", provider_usage::holds),
    ("trace", trace::holds),
];

/// The first byte says how the rest is meant, so that a fuzzer reaches what lies behind a signature
/// or a choice of format. Written as a digit, which a seed can be read with.
fn choice(input: &[u8], of: u8) -> Option<(u8, &[u8])> {
    let (first, rest) = input.split_first()?;
    Some((first.wrapping_sub(b'0') % of, rest))
}

/// A header and claims with the signature that they need.
fn signed(header: &[u8], claims: &[u8], secret: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256)
            .expect("HS256 signs with any secret");
    format!("{message}.{signature}")
}
