//! A provider's own usage object.

use tollgate::metering::{
    dialect::{Dialect, normalize},
    quantities::{MAX_TOKENS_PER_CLASS, TokenClass},
};

/// The dialect's number and the object. What comes out is within its bounds, the same each time, and
/// not changed by what JSON does not tell apart.
///
/// # Panics
/// When that does not hold.
pub fn holds(input: &[u8]) -> bool {
    let Some((dialect, rest)) = crate::choice(input, 3) else { return false };
    let dialect = match dialect {
        0 => Dialect::OpenAi,
        1 => Dialect::Anthropic,
        _ => Dialect::Gemini,
    };
    let json = String::from_utf8_lossy(rest);
    match normalize(dialect, &json) {
        Ok(quantities) => {
            for class in TokenClass::ALL {
                assert!(quantities.of(class) <= MAX_TOKENS_PER_CLASS);
            }
            assert_eq!(normalize(dialect, &format!(" {json}\n")), Ok(quantities));
            true
        }
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            false
        }
    }
}
