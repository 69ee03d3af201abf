//! What is spoken on the ports: TLS, or plaintext where nobody else can listen.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, builder::BoolishValueParser};

use super::ConfigError;

/// The flags and variables about TLS.
#[derive(Debug, Clone, Default, Args)]
pub struct TransportArguments {
    /// Serve gRPC with TLS: a PEM file with the certificate and those between it and its authority;
    /// read again when it changes
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// The PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// Let in only who shows a certificate that an authority in this PEM file signed; the token is
    /// needed all the same
    #[arg(
        long,
        value_name = "FILE",
        env = "TOLLGATE_TLS_CLIENT_AUTHORITY",
        requires = "tls_certificate"
    )]
    pub tls_client_authority: Option<PathBuf>,

    /// Serve other machines without TLS: the network, or a proxy in front, protects tokens and keys
    #[arg(
        long,
        env = "TOLLGATE_ALLOW_PLAINTEXT_BEYOND_LOOPBACK",
        value_parser = BoolishValueParser::new()
    )]
    pub allow_plaintext_beyond_loopback: bool,
}

/// The files of a server that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of those who may connect; anybody may where there is none.
    pub client_authority: Option<PathBuf>,
}

impl TransportArguments {
    /// The files; and no plaintext for other machines unless somebody said so.
    pub(super) fn build(
        &self,
        listen: SocketAddr,
        metrics_listen: Option<SocketAddr>,
    ) -> Result<Option<TlsFiles>, ConfigError> {
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_authority: self.tls_client_authority.clone(),
            }),
            _ => None,
        };
        if self.allow_plaintext_beyond_loopback {
            return Ok(tls);
        }
        if tls.is_none() && !listen.ip().is_loopback() {
            return Err(ConfigError::PlaintextCalls(listen));
        }
        match metrics_listen.filter(|address| !address.ip().is_loopback()) {
            Some(address) => Err(ConfigError::PlaintextMetrics(address)),
            None => Ok(tls),
        }
    }
}
