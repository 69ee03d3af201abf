//! TLS for the door, from PEM files that are read again when they change. A connection keeps what it
//! was opened with; those that are opened after a change get the new certificate.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use thiserror::Error;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        server::{VerifierBuilderError, WebPkiClientVerifier},
    },
};

use super::watch;
use crate::{config::TlsFiles, tasks::Tasks};

/// What gRPC speaks inside TLS; a client that offers something else is refused in the handshake.
const HTTP_2: &[u8] = b"h2";

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file has no certificate in it, or a broken one.
    #[error("{} holds no certificate; give a PEM file with BEGIN CERTIFICATE", .0.display())]
    NoCertificate(PathBuf),
    /// A file has no private key in it.
    #[error("{} holds no private key; give a PEM file with BEGIN PRIVATE KEY", .0.display())]
    NoKey(PathBuf),
    /// Anybody may read the key.
    #[error("{} can be read by everybody; close it with: chmod o= {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// Certificate and key are not of each other, or of a kind that is not supported.
    #[error("{} and its key cannot be used: {cause}", .path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What the library said.
        cause: rustls::Error,
    },
    /// The authority's certificate cannot be one.
    #[error("{} cannot say whose certificates are let in: {cause}", .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What the library said.
        cause: VerifierBuilderError,
    },
}

/// The server's side of TLS, as its files have it now.
pub(super) struct Tls {
    files: TlsFiles,
    now: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let now = ArcSwap::from_pointee(server_config(&files)?);
        Ok(Self { files, now })
    }

    /// Reads them again whenever they change. What cannot be used leaves the certificate as it is.
    pub(super) fn keep(self: &Arc<Self>, tasks: &Tasks) {
        let tls = Arc::clone(self);
        let TlsFiles { certificate, key, client_authority } = self.files.clone();
        let files = [Some(certificate), Some(key), client_authority];
        watch::files(tasks, "TLS", files.into_iter().flatten().collect(), move || {
            let fresh = server_config(&tls.files).map_err(|error| error.to_string())?;
            tls.now.store(Arc::new(fresh));
            Ok(())
        });
    }

    /// For a connection that is opened now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.now.load_full())
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |cause| TlsError::Unusable { path: files.certificate.clone(), cause };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|_| TlsError::NoCertificate(path.clone()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier
                .build()
                .map_err(|cause| TlsError::Authority { path: path.clone(), cause })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(unusable)?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::File { path: path.to_owned(), cause })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate(path.to_owned());
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// The key, unless everybody can read it. A group may: it is how certificate tools share one.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |cause| TlsError::File { path: path.to_owned(), cause };
    if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o007 != 0 {
        return Err(TlsError::Exposed(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::NoKey(path.to_owned()))
}
