//! An API key, as a caller or a file of leaked keys writes it.

use tollgate::accounts::key::{find_in, parse};

/// A text is a key by itself exactly if it is found as one in other text, and what is found in a
/// text is in it.
///
/// # Panics
/// When that does not hold.
pub fn holds(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let found = find_in(&text);
    for (position, key) in found.iter().enumerate() {
        assert!(!found[..position].contains(key), "a key was found twice");
    }
    assert!(found.is_empty() || text.contains("ga_"), "a key was found where none begins");
    match parse(&text) {
        Ok(key) => {
            assert!(text.starts_with(key.tier.prefix()));
            assert_eq!(find_in(&format!("key={text}\n")), [key]);
            // One wrong character is always noticed: CRC-32 finds every error of up to 32 bits.
            let last = text.len() - 1;
            let other = if text.ends_with('0') { "1" } else { "0" };
            assert!(parse(&format!("{}{other}", &text[..last])).is_err());
            true
        }
        Err(refusal) => {
            assert!(refusal.to_string().len() < 200, "a refusal grew with its input");
            false
        }
    }
}
