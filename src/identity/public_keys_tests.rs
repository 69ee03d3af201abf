//! Which files of keys are taken, and which tokens their keys verify.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::{
    clock,
    identity::{
        IdentityError, Role,
        token::{TokenAuthority, TokenRequest},
    },
};

/// Whoever signs tokens for us: one key of each kind.
struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        Self {
            ed25519: Ed25519KeyPair::generate().unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn spki(&self, algorithm: &str) -> Vec<u8> {
        let der: PublicKeyX509Der = match algorithm {
            "EdDSA" => self.ed25519.public_key().as_der().unwrap(),
            "ES256" => self.p256.public_key().as_der().unwrap(),
            _ => self.rsa.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    fn jwk(&self, algorithm: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match algorithm {
            "EdDSA" => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(self.ed25519.public_key().as_ref()) })
            }
            "ES256" => {
                let point = self.p256.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
            _ => {
                let key = self.rsa.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({
                    "kty": "RSA",
                    "n": text(n.big_endian_without_leading_zero()),
                    "e": text(e.big_endian_without_leading_zero()),
                })
            }
        }
    }

    fn sign(&self, algorithm: &str, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "EdDSA" => self.ed25519.sign(text).as_ref().to_vec(),
            "ES256" => self.p256.sign(&random, text).unwrap().as_ref().to_vec(),
            _ => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token of this issuer, whose header says what the arguments say.
    fn token(&self, algorithm: &str, kid: Option<&str>, claims: &Value) -> String {
        let header = match kid {
            Some(kid) => json!({ "alg": algorithm, "kid": kid }),
            None => json!({ "alg": algorithm }),
        };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn parties() -> Parties {
    Parties { issuer: "https://id.example".to_owned(), audience: "ledger".to_owned() }
}

fn claims() -> Value {
    let end = clock::now().timestamp() + 60;
    json!({ "iss": "https://id.example", "aud": ["ledger"], "sub": "edge", "exp": end,
            "role": "gateway" })
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A directory of files, and the sources that read them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn sources(&self, pem: &[&str], jwks: Option<&Value>) -> KeySources {
        let pem_files = pem
            .iter()
            .enumerate()
            .map(|(number, text)| self.write(&format!("{number}.pem"), text))
            .collect();
        let jwks_file = jwks.map(|set| self.write("keys.json", &set.to_string()));
        KeySources { secrets: Vec::new(), pem_files, jwks_file, parties: parties() }
    }
}

const ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];

#[test]
fn a_token_of_each_kind_of_key_is_believed_from_pem_and_from_a_set() {
    let (files, issuer) = (Files::new(), Issuer::new());
    for algorithm in ALGORITHMS {
        let key = pem("PUBLIC KEY", &issuer.spki(algorithm));
        let set = json!({ "keys": [issuer.jwk(algorithm)] });
        for sources in [files.sources(&[&key], None), files.sources(&[], Some(&set))] {
            let ring = sources.read().unwrap();
            let token = issuer.token(algorithm, None, &claims());
            let verified = ring.verify(&token).unwrap();
            assert_eq!(&*verified.subject, "edge", "{algorithm}");
            let forged = Issuer::new().token(algorithm, None, &claims());
            assert_eq!(ring.verify(&forged), Err(IdentityError::WrongSignature), "{algorithm}");
        }
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret_nor_for_a_key_of_another_kind() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let secret = Secret::new(&"s".repeat(40), "the test").unwrap();
    for algorithm in ALGORITHMS {
        let spki = issuer.spki(algorithm);
        let text = pem("PUBLIC KEY", &spki);
        let mut sources = files.sources(&[&text], None);
        // With a secret as well, HS256 is an algorithm of this server.
        sources.secrets = vec![secret.clone()];
        let ring = sources.read().unwrap();
        for bytes in [spki.as_slice(), text.as_bytes(), text.trim().as_bytes()] {
            let key = jsonwebtoken::EncodingKey::from_secret(bytes);
            let header = jsonwebtoken::Header::new(Algorithm::HS256);
            let forged = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
            assert_eq!(ring.verify(&forged), Err(IdentityError::WrongSignature), "{algorithm}");
        }
        for other in ALGORITHMS.into_iter().filter(|other| *other != algorithm) {
            let refusal = ring.verify(&issuer.token(other, None, &claims())).unwrap_err();
            assert!(matches!(refusal, IdentityError::WrongAlgorithm(_)), "{other}: {refusal}");
        }
        let unsigned = issuer.token("none", None, &claims());
        let refusal = ring.verify(&unsigned).unwrap_err();
        assert!(matches!(refusal, IdentityError::WrongAlgorithm(_)), "{refusal}");
    }
}

#[test]
fn parties_and_times_of_an_issuers_token_are_checked() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let now = clock::now().timestamp();
    let mut sources = files.sources(&[&pem("PUBLIC KEY", &issuer.spki("EdDSA"))], None);
    let secret = Secret::new(&"s".repeat(40), "the test").unwrap();
    sources.secrets = vec![secret.clone()];
    let ring = sources.read().unwrap();
    for (claims, expected) in [
        (with("iss", json!("tollgate")), "the token's issuer is not `https://id.example`"),
        (with("aud", json!("tollgate")), "the token's audience is not `ledger`"),
        (with("exp", json!(now - 6)), "the token has expired"),
        (with("nbf", json!(now + 30)), "the token is not valid yet"),
    ] {
        let refusal = ring.verify(&issuer.token("EdDSA", None, &claims)).unwrap_err().to_string();
        assert!(refusal.starts_with(expected), "{refusal}");
    }
    // Within the leeway of the clocks.
    for claims in [with("exp", json!(now - 3)), with("nbf", json!(now + 3))] {
        assert!(ring.verify(&issuer.token("EdDSA", None, &claims)).is_ok());
    }
    // The server's own secret stays with its own parties.
    let minted = TokenAuthority::new(&secret)
        .mint(&TokenRequest {
            subject: "edge".to_owned(),
            roles: vec![Role::Gateway],
            account: None,
            lifetime: std::time::Duration::from_mins(1),
        })
        .unwrap();
    assert!(ring.verify(&minted).is_ok());
}

#[test]
fn a_key_that_a_token_names_is_the_only_one_of_its_set_that_is_tried() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let (first, second) = (Issuer::new(), Issuer::new());
    let named = |issuer: &Issuer, kid: &str| {
        let mut key = issuer.jwk("EdDSA");
        key["kid"] = json!(kid);
        key
    };
    let set = json!({ "keys": [named(&first, "one"), named(&second, "two")] });
    let ring = files.sources(&[], Some(&set)).read().unwrap();
    let verdict =
        |issuer: &Issuer, kid| ring.verify(&issuer.token("EdDSA", kid, &claims())).map(|_| ());
    assert_eq!(verdict(&first, Some("one")), Ok(()));
    assert_eq!(verdict(&second, Some("two")), Ok(()));
    assert_eq!(verdict(&second, None), Ok(()));
    assert_eq!(verdict(&second, Some("one")), Err(IdentityError::WrongSignature));
    assert_eq!(verdict(&second, Some("three")), Err(IdentityError::UnknownKey));
    assert_eq!(verdict(&issuer, None), Err(IdentityError::WrongSignature));
}

#[test]
fn keys_of_a_set_that_are_for_something_else_are_passed_over() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let changed = |algorithm, member: &str, value: &str| {
        let mut key = issuer.jwk(algorithm);
        key[member] = json!(value);
        key
    };
    let foreign = [
        changed("RS256", "use", "enc"),
        changed("RS256", "alg", "PS256"),
        changed("ES256", "crv", "secp256k1"),
        changed("EdDSA", "x", "AAAA"),
        changed("RS256", "n", "AQAB"),
        json!({ "kty": "unheard-of" }),
    ];
    let set = json!({ "keys": foreign });
    let refusal = files.sources(&[], Some(&set)).read().unwrap_err().to_string();
    assert!(refusal.contains("no usable key"), "{refusal}");
    let set = json!({ "keys": [foreign[0], issuer.jwk("ES256")] });
    assert!(files.sources(&[], Some(&set)).read().is_ok());
}

#[test]
fn a_file_that_holds_a_secret_is_refused_and_not_repeated() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let mut private = issuer.jwk("EdDSA");
    private["d"] = json!("c2VjcmV0");
    for key in [private, json!({ "kty": "oct", "k": "c2VjcmV0" })] {
        let set = json!({ "keys": [issuer.jwk("ES256"), key] });
        let refusal = files.sources(&[], Some(&set)).read().unwrap_err();
        assert!(matches!(refusal, KeyFileError::Secret(_)), "{refusal}");
        assert!(!refusal.to_string().contains("c2VjcmV0"));
    }
}

#[test]
fn a_pem_file_without_a_usable_public_key_is_refused_with_the_remedy() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let cut = &issuer.spki("EdDSA")[..20];
    let p384 = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_ASN1_SIGNING);
    let p384: PublicKeyX509Der = p384.as_ref().unwrap().public_key().as_der().unwrap();
    for (text, expected) in [
        (String::new(), "openssl pkey -pubout"),
        (pem("PRIVATE KEY", b"secret"), "openssl pkey -pubout"),
        (pem("PUBLIC KEY", cut), "must be Ed25519"),
        (pem("PUBLIC KEY", p384.as_ref()), "must be Ed25519"),
    ] {
        let refusal = files.sources(&[&text], None).read().unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
    let missing =
        KeySources { pem_files: vec![files.0.path().join("none.pem")], ..files.sources(&[], None) };
    assert!(matches!(missing.read(), Err(KeyFileError::File { .. })));
}

#[test]
fn more_keys_than_a_forged_token_may_cost_are_refused() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let set = json!({ "keys": vec![issuer.jwk("EdDSA"); MOST_KEYS + 1] });
    let refusal = files.sources(&[], Some(&set)).read();
    assert!(matches!(refusal, Err(KeyFileError::TooMany(51))));
}
