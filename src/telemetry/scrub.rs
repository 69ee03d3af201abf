//! The last line of defence against a secret in a log: a writer that strikes out whatever looks
//! like one. It works on what is written, so it does not matter which code wrote it.
//!
//! Struck out are API keys (`ga_sk_…`, `ga_pro_…`), JSON Web Tokens (`eyJ…`) and the password of a
//! URL (`scheme://user:password@host`).

use std::{
    borrow::Cow,
    io::{self, Write},
};

use tracing_subscriber::fmt::MakeWriter;

const STRUCK_OUT: &[u8] = b"[secret]";
/// How API keys and tokens begin. A key's hint, such as `ga_sk_…4f2a`, is no secret: its prefix is
/// not followed by enough characters.
const SECRET_PREFIXES: [&[u8]; 3] = [b"ga_sk_", b"ga_pro_", b"eyJ"];
/// Fewer characters than this after a prefix cannot be a secret; real ones have 40 and more.
const SECRET_MINIMUM: usize = 12;

/// Makes writers that scrub before they write.
#[derive(Debug, Clone)]
pub(super) struct Scrubbed<M>(pub(super) M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Scrubbed<M> {
    type Writer = ScrubbingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbingWriter(self.0.make_writer())
    }
}

/// Scrubs each write. The subscriber writes a whole line at once, so nothing is cut in half.
#[derive(Debug)]
pub(super) struct ScrubbingWriter<W>(W);

impl<W: Write> Write for ScrubbingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match scrub(line) {
            None => self.0.write_all(line)?,
            Some(clean) => self.0.write_all(&clean)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A text without its secrets, for whatever else is kept that a caller wrote.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    match scrub(text.as_bytes()) {
        None => Cow::Borrowed(text),
        Some(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
    }
}

/// The line without its secrets; `None` if it has none.
fn scrub(line: &[u8]) -> Option<Vec<u8>> {
    let mut clean: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut position = 0;
    while let Some(rest) = line.get(position..).filter(|rest| !rest.is_empty()) {
        let Some(secret) = secret_at(rest) else {
            position += 1;
            continue;
        };
        let output = clean.get_or_insert_with(|| Vec::with_capacity(line.len()));
        output.extend_from_slice(line.get(copied..position + secret.start).unwrap_or_default());
        output.extend_from_slice(STRUCK_OUT);
        position += secret.end;
        copied = position;
    }
    if let Some(output) = &mut clean {
        output.extend_from_slice(line.get(copied..).unwrap_or_default());
    }
    clean
}

/// Where in `rest` the secret lies that begins at its first byte, if one does.
fn secret_at(rest: &[u8]) -> Option<std::ops::Range<usize>> {
    for prefix in SECRET_PREFIXES {
        if let Some(body) = rest.strip_prefix(prefix) {
            let length = body.iter().take_while(|byte| is_secret_byte(**byte)).count();
            return (length >= SECRET_MINIMUM).then_some(0..prefix.len() + length);
        }
    }
    let authority = rest.strip_prefix(b"://")?;
    let end = authority.iter().position(|byte| b" /?#\"'\\\n".contains(byte));
    let authority = authority.get(..end.unwrap_or(authority.len()))?;
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority.get(..at)?.iter().position(|byte| *byte == b':')?;
    Some(3 + colon + 1..3 + at)
}

fn is_secret_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(line: &str) -> String {
        let mut writer = ScrubbingWriter(Vec::new());
        writer.write_all(line.as_bytes()).unwrap();
        String::from_utf8(writer.0).unwrap()
    }

    #[test]
    fn keys_tokens_and_passwords_are_struck_out() {
        let cases = [
            ("key ga_sk_0123456789abcdefXYZ denied", "key [secret] denied"),
            ("\"ga_pro_0123456789abcdefXYZ\"", "\"[secret]\""),
            ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3Mi.c2ln-_ end", "Bearer [secret] end"),
            (
                "postgres://tollgate:hunter2@db.example:5432/books is away",
                "postgres://tollgate:[secret]@db.example:5432/books is away",
            ),
            ("a ga_sk_0123456789abcdef b ga_sk_0123456789abcdef", "a [secret] b [secret]"),
            ("postgres://u:p@ss@host/", "postgres://u:[secret]@host/"),
        ];
        for (line, expected) in cases {
            assert_eq!(scrubbed(line), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "key ga_sk_…4f2a is revoked",
            "listening on http://127.0.0.1:9464/metrics",
            "postgres://db.example/books",
            "a key begins with ga_sk_ or ga_pro_",
            "",
        ] {
            assert_eq!(scrubbed(line), line);
        }
    }
}
