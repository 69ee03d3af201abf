//! What an API key looks like, so that garbage is refused without a look-up and secret scanners can
//! tell a key from noise.
//!
//! ```text
//! ga_sk_  hXk…43 characters…2Zp  0dT9aQ
//! prefix  256 random bits        CRC-32 of all before
//! ```
//!
//! Both numbers are base62 of fixed width, most significant digit first. The secret itself is held
//! only in [`ApiKey`], which is shown once and never printed by accident; everything else knows the
//! key by its SHA-256.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Digits, capitals, small letters: the order makes equal widths sort as the numbers do.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is the first power of 62 beyond 2^256.
const SECRET_LENGTH: usize = 43;
/// 62^6 is the first power of 62 beyond 2^32.
const CHECKSUM_LENGTH: usize = 6;
/// How much of a key's end may be shown: tells keys apart, and is checksum, not secret.
const HINT_LENGTH: usize = 4;

/// What a key is for; its prefix says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// `ga_sk_`: the standard models.
    Standard,
    /// `ga_pro_`: `Pro/` models on dedicated capacity, too.
    Pro,
}

impl Tier {
    /// How the keys of this tier begin.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Standard => "ga_sk_",
            Self::Pro => "ga_pro_",
        }
    }
}

/// Why a text is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MalformedKey {
    /// It does not begin as our keys do.
    #[error("the key does not begin with ga_sk_ or ga_pro_; send the key as it was issued")]
    Prefix,
    /// It is too short or too long.
    #[error("the key has {given} characters instead of {expected}; it was cut or joined")]
    Length {
        /// Characters of a key with this prefix.
        expected: usize,
        /// Bytes of the text.
        given: usize,
    },
    /// It has a character that no key has.
    #[error("the key has a character other than letters and digits after its prefix")]
    Alphabet,
    /// Its last six characters do not fit the rest.
    #[error("the key's checksum is wrong; it was mistyped")]
    Checksum,
}

impl MalformedKey {
    /// What is wrong, in one word for a metric or a denial: prefix, length, alphabet or checksum.
    #[must_use]
    pub const fn part(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Length { .. } => "length",
            Self::Alphabet => "alphabet",
            Self::Checksum => "checksum",
        }
    }
}

/// What a well-formed key tells without a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedKey {
    /// By its prefix.
    pub tier: Tier,
    /// SHA-256 of the whole key: the only form in which it is kept and looked up.
    pub hash: [u8; 32],
}

/// Checks a key's form.
///
/// # Errors
/// [`MalformedKey`], the first of prefix, length, alphabet and checksum that is wrong.
pub fn parse(text: &str) -> Result<ParsedKey, MalformedKey> {
    let (tier, rest) = [Tier::Standard, Tier::Pro]
        .into_iter()
        .find_map(|tier| text.strip_prefix(tier.prefix()).map(|rest| (tier, rest)))
        .ok_or(MalformedKey::Prefix)?;
    let expected = SECRET_LENGTH + CHECKSUM_LENGTH;
    if rest.len() != expected {
        return Err(MalformedKey::Length {
            expected: tier.prefix().len() + expected,
            given: text.len(),
        });
    }
    if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(MalformedKey::Alphabet);
    }
    let (covered, checksum) =
        text.split_at_checked(text.len() - CHECKSUM_LENGTH).ok_or(MalformedKey::Alphabet)?;
    if checksum_of(covered) != checksum {
        return Err(MalformedKey::Checksum);
    }
    Ok(ParsedKey { tier, hash: hash_of(text) })
}

/// The well-formed keys in a text of any kind, each once: what a secret scanner would find.
#[must_use]
pub fn find_in(text: &str) -> Vec<ParsedKey> {
    let mut found: Vec<ParsedKey> = Vec::new();
    for tier in [Tier::Standard, Tier::Pro] {
        let length = tier.prefix().len() + SECRET_LENGTH + CHECKSUM_LENGTH;
        for (start, _) in text.match_indices(tier.prefix()) {
            let key = text.get(start..start.saturating_add(length)).and_then(|key| parse(key).ok());
            found.extend(key.filter(|key| !found.contains(key)));
        }
    }
    found
}

/// A key with its secret, between being made and being shown.
pub struct ApiKey {
    tier: Tier,
    text: String,
}

impl ApiKey {
    /// Makes a key of 256 random bits from the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate(tier: Tier) -> Result<Self, getrandom::Error> {
        let mut bits = [0_u8; 32];
        getrandom::fill(&mut bits)?;
        Ok(Self::from_bits(tier, bits))
    }

    fn from_bits(tier: Tier, bits: [u8; 32]) -> Self {
        let covered = format!("{}{}", tier.prefix(), base62(bits, SECRET_LENGTH));
        let checksum = checksum_of(&covered);
        Self { tier, text: covered + &checksum }
    }

    /// The key itself. It goes into one answer, and nowhere else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the whole key.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash_of(&self.text)
    }

    /// What may be shown of it, such as `ga_sk_…x7Qp`.
    #[must_use]
    pub fn hint(&self) -> String {
        let end = self.text.get(self.text.len() - HINT_LENGTH..).unwrap_or_default();
        format!("{}…{end}", self.tier.prefix())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ApiKey").field(&self.hint()).finish()
    }
}

fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn checksum_of(covered: &str) -> String {
    base62(crc32fast::hash(covered.as_bytes()).to_be_bytes(), CHECKSUM_LENGTH)
}

/// Writes a big-endian number in base62 of fixed width, which must be wide enough for it.
fn base62<const BYTES: usize>(mut number: [u8; BYTES], width: usize) -> String {
    let mut digits = Vec::with_capacity(width);
    for _ in 0..width {
        // Long division by 62; what remains is the next digit from the right.
        let mut rest = 0_usize;
        for byte in &mut number {
            let part = rest * 256 + usize::from(*byte);
            *byte = u8::try_from(part / ALPHABET.len()).unwrap_or(u8::MAX);
            rest = part % ALPHABET.len();
        }
        digits.push(ALPHABET.get(rest).copied().map_or('0', char::from));
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::accounts::change::Change;

    fn any_tier() -> impl Strategy<Value = Tier> {
        prop_oneof![Just(Tier::Standard), Just(Tier::Pro)]
    }

    #[test]
    fn base62_has_a_fixed_width_and_holds_the_largest_number() {
        assert_eq!(base62(0_u32.to_be_bytes(), 6), "000000");
        assert_eq!(base62(61_u32.to_be_bytes(), 6), "00000z");
        assert_eq!(base62(62_u32.to_be_bytes(), 6), "000010");
        assert_eq!(base62(u32::MAX.to_be_bytes(), 6), "4gfFC3");
        assert_eq!(base62([0xff; 32], SECRET_LENGTH).len(), SECRET_LENGTH);
        assert_ne!(base62([0xff; 32], SECRET_LENGTH), base62([0xfe; 32], SECRET_LENGTH));
    }

    #[test]
    fn a_key_has_one_form_for_ever() {
        // Text and hash were computed with zlib's CRC-32 and another base62.
        for (tier, bits, text, hash) in [
            (
                Tier::Standard,
                [0x00; 32],
                "ga_sk_00000000000000000000000000000000000000000001YOT9X",
                "9d5a47c9616c269e236835d7876d0c42b8f8be604c9405da7c3bab70c74a55b3",
            ),
            (
                Tier::Pro,
                [0xff; 32],
                "ga_pro_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp103MEF4",
                "133aa069bb047eafc1292607b224a7432cdfacd9186c9eb4e4da5109f43c2a80",
            ),
        ] {
            let key = ApiKey::from_bits(tier, bits);
            assert_eq!(key.reveal(), text);
            let parsed = parse(text).unwrap();
            let announced = Change::Key(parsed.hash).to_string();
            assert_eq!((parsed.tier, announced), (tier, format!("key:{hash}")));
        }
    }

    #[test]
    fn two_keys_are_never_alike_and_each_parses_as_its_tier() {
        for tier in [Tier::Standard, Tier::Pro] {
            let (one, other) = (ApiKey::generate(tier).unwrap(), ApiKey::generate(tier).unwrap());
            assert_ne!(one.reveal(), other.reveal());
            assert_eq!(parse(one.reveal()).unwrap(), ParsedKey { tier, hash: one.hash() });
        }
    }

    #[test]
    fn the_first_thing_wrong_is_named() {
        let key = ApiKey::from_bits(Tier::Pro, [7; 32]);
        let good = key.reveal();
        let with_last = |last: char| format!("{}{last}", &good[..good.len() - 1]);
        let wrong = if good.ends_with('0') { '1' } else { '0' };
        for (text, part) in [
            (String::new(), "prefix"),
            ("sk-proj-abc".to_owned(), "prefix"),
            (good.to_uppercase(), "prefix"),
            ("ga_sk_".to_owned(), "length"),
            (good[..good.len() - 1].to_owned(), "length"),
            (format!("{good} "), "length"),
            (with_last('-'), "alphabet"),
            (format!("{}é", &good[..good.len() - 2]), "alphabet"),
            (with_last(wrong), "checksum"),
        ] {
            assert_eq!(parse(&text).unwrap_err().part(), part, "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_printed_by_accident() {
        let key = ApiKey::generate(Tier::Standard).unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&key.reveal()[6..49]), "{shown}");
        assert_eq!(shown, format!("ApiKey({:?})", key.hint()));
        assert_eq!(key.hint().chars().count(), "ga_sk_…x7Qp".chars().count());
    }

    proptest! {
        #[test]
        fn any_single_changed_character_is_refused(
            bits: [u8; 32],
            tier in any_tier(),
            position: prop::sample::Index,
            replacement in any::<char>(),
        ) {
            let key = ApiKey::from_bits(tier, bits);
            let mut characters: Vec<char> = key.reveal().chars().collect();
            let position = position.index(characters.len());
            prop_assume!(characters[position] != replacement);
            characters[position] = replacement;
            let changed: String = characters.into_iter().collect();
            prop_assert!(parse(&changed).is_err());
        }

        #[test]
        fn any_single_changed_letter_or_digit_is_refused(
            bits: [u8; 32],
            tier in any_tier(),
            position: prop::sample::Index,
            replacement: prop::sample::Index,
        ) {
            let key = ApiKey::from_bits(tier, bits);
            let mut characters = key.reveal().as_bytes().to_vec();
            let position = position.index(characters.len());
            let replacement = ALPHABET[replacement.index(ALPHABET.len())];
            prop_assume!(characters[position] != replacement);
            characters[position] = replacement;
            let changed = String::from_utf8(characters).unwrap();
            prop_assert!(parse(&changed).is_err());
        }

        #[test]
        fn no_text_makes_the_parser_fall(text: String) {
            prop_assert!(parse(&text).is_err());
            let prefixed = Tier::Standard.prefix().to_owned() + &text;
            prop_assert!(parse(&prefixed).is_err());
        }
    }
}
