//! Public keys of others who make tokens for this server: PEM files, and a JWKS file (RFC 7517).
//!
//! A key's algorithm follows from what the key is: Ed25519 verifies `EdDSA`, P-256 `ES256`, RSA of
//! 2048 bits or more `RS256`. Nothing else is taken. A file with a private or a symmetric key in it
//! is refused as a whole: whoever put it there should hear of it.

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{
    keyring::{KeyRing, Parties, TrustedKey},
    secret::Secret,
};

/// Keys of one server. A token that names none is tried with every key of its algorithm, so that
/// this bounds what a forged one costs.
const MOST_KEYS: usize = 50;

/// How a `SubjectPublicKeyInfo` (RFC 5280) begins behind its outer length: the kind of key.
const ED25519_KIND: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";
const P256_KIND: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const RSA_KIND: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// 2048 to 8192 bits.
const RSA_MODULUS_BYTES: RangeInclusive<usize> = 256..=1024;

/// What a public key must be, said in each refusal.
const TAKEN: &str = "Ed25519, P-256, or RSA of 2048 to 8192 bits";

/// Why a file of keys cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("{} cannot be read: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is no PEM file with a public key.
    #[error(
        "{} holds no public key; give a PEM file with BEGIN PUBLIC KEY, as `openssl pkey -pubout` \
         writes", .0.display()
    )]
    NoPublicKey(PathBuf),
    /// A key that no accepted algorithm can use.
    #[error("{} holds a key that cannot be used; a key must be {TAKEN}", .0.display())]
    Unusable(PathBuf),
    /// It is no JWKS.
    #[error("{} is no JSON Web Key Set: {problem}", .path.display())]
    NoKeySet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It holds what must not be given away.
    #[error(
        "{} holds a private or symmetric key; write a set of public keys alone, and replace that \
         key wherever it is used", .0.display()
    )]
    Secret(PathBuf),
    /// Too many.
    #[error("there are {0} keys; {MOST_KEYS} are the most that are taken")]
    TooMany(usize),
}

/// Everything that this server's key ring is made of.
#[derive(Debug, Clone)]
pub struct KeySources {
    /// The secret that signs, and the one before it where it is being replaced.
    pub secrets: Vec<Secret>,
    /// Files with one public key each.
    pub pem_files: Vec<PathBuf>,
    /// A file with a set of public keys.
    pub jwks_file: Option<PathBuf>,
    /// Who signs with those, and for whom.
    pub parties: Parties,
}

impl KeySources {
    /// The files that may change while the server runs.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.pem_files.iter().chain(&self.jwks_file).cloned().collect()
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(&self) -> Result<KeyRing, KeyFileError> {
        let mut keys: Vec<TrustedKey> = self.secrets.iter().map(TrustedKey::of_secret).collect();
        for path in &self.pem_files {
            keys.push(pem_key(path, &self.parties)?);
        }
        if let Some(path) = &self.jwks_file {
            keys.extend(key_set(path, &self.parties)?);
        }
        if keys.len() > MOST_KEYS {
            return Err(KeyFileError::TooMany(keys.len()));
        }
        Ok(KeyRing::new(keys))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    fs::read(path).map_err(|cause| KeyFileError::File { path: path.to_owned(), cause })
}

/// The key of a PEM file. It has no `kid`: a token may name any.
fn pem_key(path: &Path, parties: &Parties) -> Result<TrustedKey, KeyFileError> {
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(&read(path)?)
        .map_err(|_| KeyFileError::NoPublicKey(path.to_owned()))?;
    let unusable = || KeyFileError::Unusable(path.to_owned());
    let (algorithm, verifying) = key_in_spki(&spki).ok_or_else(unusable)?;
    Ok(TrustedKey::new(None, algorithm, verifying, parties))
}

fn key_in_spki(spki: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    let kind = behind_length(spki)?;
    if kind.starts_with(ED25519_KIND) {
        is_parsed(&ED25519, spki).then(|| (Algorithm::EdDSA, DecodingKey::from_ed_der(spki)))
    } else if kind.starts_with(P256_KIND) {
        let good = is_parsed(&ECDSA_P256_SHA256_FIXED, spki);
        good.then(|| (Algorithm::ES256, DecodingKey::from_ec_der(spki)))
    } else if kind.starts_with(RSA_KIND) {
        let is_long_enough = spki.len() > *RSA_MODULUS_BYTES.start();
        let good = is_long_enough && is_parsed(&RSA_PKCS1_2048_8192_SHA256, spki);
        good.then(|| (Algorithm::RS256, DecodingKey::from_rsa_der(spki)))
    } else {
        None
    }
}

fn is_parsed(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> bool {
    ParsedPublicKey::new(algorithm, key).is_ok()
}

/// What follows tag and length of the outermost DER sequence.
fn behind_length(der: &[u8]) -> Option<&[u8]> {
    let (0x30, rest) = der.split_first()? else { return None };
    let (first, rest) = rest.split_first()?;
    // Short form, or so many bytes of length.
    let more = if *first < 0x80 { 0 } else { usize::from(first & 0x7f) };
    rest.get(more..)
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A key of a set, as far as it matters here.
#[derive(Deserialize)]
struct KeyOfSet {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The usable keys of a JWKS file. Others in it, for encryption or of other algorithms, are
/// somebody else's concern.
fn key_set(path: &Path, parties: &Parties) -> Result<Vec<TrustedKey>, KeyFileError> {
    let failed = |problem: String| KeyFileError::NoKeySet { path: path.to_owned(), problem };
    let set: KeySet =
        serde_json::from_slice(&read(path)?).map_err(|error| failed(error.to_string()))?;
    let mut keys = Vec::new();
    for value in set.keys {
        if value.get("d").is_some() || value.get("k").is_some() {
            return Err(KeyFileError::Secret(path.to_owned()));
        }
        let Ok(key) = serde_json::from_value::<KeyOfSet>(value) else { continue };
        if key.usage.as_deref().is_some_and(|usage| usage != "sig") {
            continue;
        }
        let Some((algorithm, verifying)) = key_of_set(&key) else { continue };
        keys.push(TrustedKey::new(key.kid, algorithm, verifying, parties));
    }
    if keys.is_empty() {
        return Err(failed(format!("it has no usable key; a key must be {TAKEN}")));
    }
    Ok(keys)
}

fn key_of_set(key: &KeyOfSet) -> Option<(Algorithm, DecodingKey)> {
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let is_for = |algorithm| key.alg.as_deref().is_none_or(|alg| alg == algorithm);
    match (key.kty.as_str(), key.crv.as_deref()) {
        ("OKP", Some("Ed25519")) if is_for("EdDSA") || is_for("Ed25519") => {
            let point = bytes(&key.x)?;
            let good = is_parsed(&ED25519, &point);
            good.then(|| (Algorithm::EdDSA, DecodingKey::from_ed_der(&point)))
        }
        ("EC", Some("P-256")) if is_for("ES256") => {
            // Uncompressed (SEC 1, section 2.3.3).
            let point = [vec![4], bytes(&key.x)?, bytes(&key.y)?].concat();
            let good = is_parsed(&ECDSA_P256_SHA256_FIXED, &point);
            good.then(|| (Algorithm::ES256, DecodingKey::from_ec_der(&point)))
        }
        ("RSA", _) if is_for("RS256") => {
            let (n, e) = (bytes(&key.n)?, bytes(&key.e)?);
            let good = RSA_MODULUS_BYTES.contains(&n.len()) && !e.is_empty();
            good.then(|| (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&n, &e)))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "public_keys_tests.rs"]
mod tests;
