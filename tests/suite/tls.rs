//! TLS: served from files that change, asked of clients, never silently left out; and the command
//! line as its other side.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use tollgate::{
    cli::{Global, client::Client, error::CliError, output::Format, tls::TlsArguments},
    config::TlsFiles,
    identity::Role,
    proto::ListAccountsRequest,
};
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::harness::{
    process::{ServerProcess, reachable_directory},
    server::{TestServer, page, token},
};

/// How soon a certificate that changed must be shown.
const SOON: Duration = Duration::from_secs(10);

/// Whoever signs certificates.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A certificate for this machine, and its key.
    fn sign(&self, serial: u64) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// Files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Whole or not at all, as a certificate tool does.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let mut aside = tempfile::NamedTempFile::new_in(self.0.path()).unwrap();
        aside.write_all(text.as_bytes()).unwrap();
        aside.persist(&path).unwrap();
        path
    }

    fn certificate(&self, name: &str, (certificate, key): &(String, String)) -> TlsFiles {
        TlsFiles {
            certificate: self.write(&format!("{name}.pem"), certificate),
            key: self.write(&format!("{name}.key"), key),
            client_authority: None,
        }
    }
}

async fn serving(files: TlsFiles) -> TestServer {
    TestServer::start_changed(|config| config.tls = Some(files)).await
}

async fn connect(server: &TestServer, tls: TlsArguments) -> Result<Client, CliError> {
    let global = Global {
        endpoint: format!("https://localhost:{}", server.address().port()),
        token: Some(token(&[Role::Operator], None)),
        data_dir: None,
        tls,
        output: Format::default(),
    };
    Client::connect(&global).await
}

async fn list_accounts(client: &Client) -> Result<(), Status> {
    client.accounts().list_accounts(ListAccountsRequest::default()).await.map(|_| ())
}

/// A connection of its own that trusts this authority, if it comes about.
async fn channel(server: &TestServer, authority: &str) -> Result<Channel, String> {
    let endpoint = format!("https://localhost:{}", server.address().port());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let endpoint = Endpoint::from_shared(endpoint).unwrap().tls_config(tls).unwrap();
    endpoint.connect().await.map_err(|error| format!("{error:?}"))
}

fn trusting(authority: PathBuf) -> TlsArguments {
    TlsArguments { tls_authority: Some(authority), ..TlsArguments::default() }
}

#[tokio::test]
async fn calls_are_served_with_tls_to_whoever_trusts_the_authority() {
    let (files, ours, other) = (Files::new(), Authority::new("ours"), Authority::new("other"));
    let server = serving(files.certificate("server", &ours.sign(1))).await;
    let client = connect(&server, trusting(files.write("ours.pem", &ours.1))).await.unwrap();
    list_accounts(&client).await.unwrap();

    let stranger = connect(&server, trusting(files.write("other.pem", &other.1))).await;
    let refusal = stranger.unwrap_err().to_string();
    assert!(refusal.contains("certificate"), "{refusal}");
    // The public authorities have not signed it either.
    assert!(connect(&server, TlsArguments::default()).await.is_err());
    // Nothing is answered in plaintext on the same port.
    let plain = Endpoint::from_shared(server.endpoint()).unwrap().connect().await;
    if let Ok(channel) = plain {
        let mut grpc = tonic_health::pb::health_client::HealthClient::new(channel);
        grpc.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap_err();
    }
    server.drain().await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_no_connection_is_dropped_for_it() {
    let (files, old, new) = (Files::new(), Authority::new("old"), Authority::new("new"));
    let server = serving(files.certificate("server", &old.sign(1))).await;
    let before = connect(&server, trusting(files.write("old.pem", &old.1))).await.unwrap();
    list_accounts(&before).await.unwrap();

    // First the certificate alone: it and the key are not of each other, so that nothing changes.
    let (certificate, key) = new.sign(2);
    files.write("server.pem", &certificate);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(channel(&server, &old.1).await.is_ok());
    assert!(channel(&server, &new.1).await.is_err());

    files.write("server.key", &key);
    let deadline = Instant::now() + SOON;
    while channel(&server, &new.1).await.is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(channel(&server, &old.1).await.is_err(), "the old one is still shown");
    list_accounts(&before).await.unwrap();
}

#[tokio::test]
async fn where_clients_show_certificates_only_those_of_the_authority_are_let_in() {
    let (files, ours, clients) = (Files::new(), Authority::new("ours"), Authority::new("clients"));
    let mut shown = files.certificate("server", &ours.sign(1));
    shown.client_authority = Some(files.write("clients.pem", &clients.1));
    let server = serving(shown).await;
    let ours_file = files.write("ours.pem", &ours.1);
    let showing = |name: &str, signed: &(String, String)| {
        let TlsFiles { certificate, key, .. } = files.certificate(name, signed);
        TlsArguments {
            client_certificate: Some(certificate),
            client_key: Some(key),
            ..trusting(ours_file.clone())
        }
    };
    let good = connect(&server, showing("good", &clients.sign(2))).await.unwrap();
    list_accounts(&good).await.unwrap();
    for bad in [trusting(ours_file.clone()), showing("bad", &ours.sign(3))] {
        // With TLS 1.3 a client hears of it with its first call.
        let outcome = match connect(&server, bad).await {
            Ok(client) => list_accounts(&client).await.map_err(|status| status.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert!(outcome.is_err(), "it was let in");
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_before_anything_is_begun() {
    let (files, ours) = (Files::new(), Authority::new("ours"));
    let (certificate, key) = ours.sign(1);
    let (_, other_key) = ours.sign(2);
    let exposed = files.write("exposed.key", &key);
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    let good = files.certificate("server", &(certificate, key));
    let cases = [
        (TlsFiles { key: files.write("other.key", &other_key), ..good.clone() }, "cannot be used"),
        (TlsFiles { key: good.certificate.clone(), ..good.clone() }, "no private key"),
        (TlsFiles { certificate: good.key.clone(), ..good.clone() }, "holds no certificate"),
        (TlsFiles { certificate: "/nowhere.pem".into(), ..good.clone() }, "cannot be read"),
        (TlsFiles { key: exposed, ..good.clone() }, "chmod o="),
    ];
    for (files, expected) in cases {
        let mut config = crate::harness::server::config(nowhere());
        config.tls = Some(files);
        let refusal = tollgate::server::start(config).await.unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

/// A database that nobody needs.
fn nowhere() -> sqlx::postgres::PgConnectOptions {
    "postgres://nobody@127.0.0.1:1/nothing".parse().unwrap()
}

#[tokio::test]
async fn other_machines_are_served_in_plaintext_only_where_somebody_says_so() {
    let directory = reachable_directory();
    let data = directory.path().join("data");
    let cases: [(&[&str], &str); 4] = [
        (&["--listen", "0.0.0.0:0"], "--allow-plaintext-beyond-loopback"),
        (&["--listen", "[::]:0"], "--tls-certificate"),
        (&["--metrics-listen", "0.0.0.0:0"], "say off"),
        (&["--tls-certificate", "/a.pem"], "--tls-key"),
    ];
    for (flags, expected) in cases {
        let mut server = ServerProcess::spawn(&data, flags, &[]);
        let status = server.wait().await;
        assert_eq!(status.code(), Some(64), "{flags:?}: {}", server.log());
        assert!(server.log().contains(expected), "{flags:?}: {}", server.log());
    }
    assert!(!data.exists(), "something was begun");

    let flags = [
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "0.0.0.0:0",
        "--allow-plaintext-beyond-loopback",
    ];
    let server = ServerProcess::spawn(&data, &flags, &[]).wait_until_serving();
    assert!(server.log().contains("without TLS beyond loopback"), "{}", server.log());
    assert!(page(&server.metrics_address(), "/metrics").await.starts_with("HTTP/1.1 200"));
    assert!(server.stop().await.success());
}
