//! TLS as the command line speaks it: whom it trusts, and how it shows who it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::cli::error::CliError;

/// The flags of an `https` endpoint.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArguments {
    /// The PEM file with the authority of an https server [default: the public authorities]
    #[arg(long, global = true, env = "TOLLGATE_TLS_AUTHORITY", value_name = "FILE")]
    pub tls_authority: Option<PathBuf>,
    /// Our own certificate, for a server that lets in only who shows one
    #[arg(long, global = true, env = "TOLLGATE_CLIENT_CERTIFICATE", value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// The private key of our own certificate
    #[arg(long, global = true, env = "TOLLGATE_CLIENT_KEY", value_name = "FILE")]
    pub client_key: Option<PathBuf>,
}

impl TlsArguments {
    /// What the channel needs.
    ///
    /// # Errors
    /// [`CliError::File`] for a file that cannot be read; [`CliError::Usage`] for half an identity.
    pub(super) fn config(&self) -> Result<ClientTlsConfig, CliError> {
        let mut config = ClientTlsConfig::new();
        config = match &self.tls_authority {
            Some(path) => config.ca_certificate(Certificate::from_pem(read(path)?)),
            None => config.with_webpki_roots(),
        };
        match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => {
                Ok(config.identity(Identity::from_pem(read(certificate)?, read(key)?)))
            }
            (None, None) => Ok(config),
            _ => Err(CliError::usage(
                "--client-certificate and --client-key belong together; give both or none",
            )),
        }
    }

    /// Whether anything was said that only an `https` endpoint has a use for.
    pub(super) const fn are_given(&self) -> bool {
        self.tls_authority.is_some()
            || self.client_certificate.is_some()
            || self.client_key.is_some()
    }

    /// The same for `grpcurl`, each followed by a space.
    pub(super) fn grpcurl_flags(&self) -> String {
        self.named(["-cacert", "-cert", "-key"], |flag, path| format!("{flag} {} ", path.display()))
    }

    /// The same for a shell, each on a line.
    pub(super) fn exports(&self) -> String {
        let names =
            ["TOLLGATE_TLS_AUTHORITY", "TOLLGATE_CLIENT_CERTIFICATE", "TOLLGATE_CLIENT_KEY"];
        self.named(names, |name, path| format!("  export {name}={}\n", path.display()))
    }

    fn named(&self, names: [&str; 3], write: impl Fn(&str, &Path) -> String) -> String {
        let files = [&self.tls_authority, &self.client_certificate, &self.client_key];
        let given = names.into_iter().zip(files);
        given.filter_map(|(name, file)| Some(write(name, file.as_deref()?))).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|cause| CliError::file(path, cause))
}
