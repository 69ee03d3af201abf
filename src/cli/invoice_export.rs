//! `tollgate invoice export`: documents, a month's archive or a register, as a file.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use tonic::Streaming;

use crate::{
    cli::{
        Session,
        client::Authorized,
        error::{CliError, plain},
        output::data_to_stdout,
    },
    proto::{
        ExportFormat, ExportInvoiceRequest, ExportInvoiceResponse,
        billing_service_client::BillingServiceClient, export_invoice_request::What,
    },
};

pub(super) const EXAMPLES: &str = "\
A month's documents come in a ZIP file with their register. The same documents give the same bytes.

Examples:
  tollgate invoice export INV-2026-000001 --format pdf
  tollgate invoice export INV-2026-000001 --format ubl --to -
  tollgate invoice export --period 2026-10 --format pdf --to october.zip
  tollgate invoice export --period 2026-10 --account acme --format csv
  tollgate invoice export --period 2026 --register";

/// What stands for the standard output.
const STANDARD_OUTPUT: &str = "-";

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Number or id of one document
    invoice: Option<String>,
    /// All documents of this month, such as 2026-10; with --register also of a year
    #[arg(long, value_name = "MONTH", conflicts_with = "invoice")]
    period: Option<String>,
    /// Only of this account (handle or id)
    #[arg(long, requires = "period")]
    account: Option<String>,
    /// How they are written
    #[arg(long, value_enum, default_value_t, conflicts_with = "register")]
    format: Format,
    /// Not the documents but their list, in the order of their numbers, as CSV
    #[arg(long, requires = "period")]
    register: bool,
    /// The file, or - for the standard output [default: named after the document]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// How documents are written.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// PDF/A-3 with the Factur-X XML inside
    #[default]
    Pdf,
    /// UBL 2.1 (EN 16931)
    Ubl,
    /// UN/CEFACT CII (EN 16931)
    Cii,
    /// A row for each line, allowance and tax
    Csv,
    /// The frozen document
    Json,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Pdf => Self::Pdf,
            Format::Ubl => Self::Ubl,
            Format::Cii => Self::Cii,
            Format::Csv => Self::Csv,
            Format::Json => Self::Json,
        }
    }
}

pub(super) async fn export(
    billing: &mut BillingServiceClient<Authorized>,
    args: ExportArgs,
    session: &Session,
) -> Result<(), CliError> {
    let format = if args.register { ExportFormat::Register } else { args.format.into() };
    let what = match (args.invoice, args.period) {
        (Some(invoice), _) => What::Invoice(invoice),
        (None, Some(period)) => What::Period(period),
        (None, None) => {
            return Err(CliError::usage("name a document, such as INV-2026-000001, or a --period"));
        }
    };
    let request = ExportInvoiceRequest {
        what: Some(what),
        account: args.account.unwrap_or_default(),
        format: format.into(),
    };
    let mut pieces = billing.export_invoice(request).await?.into_inner();
    let first = pieces.message().await?.unwrap_or_default();
    if args.to.as_deref() == Some(Path::new(STANDARD_OUTPUT)) {
        data_to_stdout(&first.data)?;
        while let Some(piece) = pieces.message().await? {
            data_to_stdout(&piece.data)?;
        }
        return Ok(());
    }
    let path = match args.to {
        Some(path) => path,
        None => here(&first.file_name)?,
    };
    write(&path, args.force, &first, &mut pieces).await?;
    session.output.note(&format!("wrote {}", path.display()))
}

/// A server must not choose where a file goes, only its name.
fn here(file_name: &str) -> Result<PathBuf, CliError> {
    let is_plain = Path::new(file_name).file_name().is_some_and(|name| name == file_name);
    if !is_plain || file_name.starts_with('.') || file_name.chars().any(char::is_control) {
        let shown = plain(file_name);
        return Err(CliError::failed(format!(
            "the server names the file {shown:?}; name one with --to"
        )));
    }
    Ok(PathBuf::from(file_name))
}

/// Writes beside the file and renames at the end: what is there is whole.
async fn write(
    path: &Path,
    force: bool,
    first: &ExportInvoiceResponse,
    pieces: &mut Streaming<ExportInvoiceResponse>,
) -> Result<(), CliError> {
    let wrong = |error: std::io::Error| CliError::file(path, error);
    if path.exists() && !force {
        let shown = path.display();
        return Err(CliError::failed(format!(
            "{shown} is there already; name another file with --to, or replace it with --force"
        )));
    }
    let partial = partial_of(path);
    let written = async {
        let mut file = create(&partial).map_err(wrong)?;
        file.write_all(&first.data).map_err(wrong)?;
        while let Some(piece) = pieces.message().await? {
            file.write_all(&piece.data).map_err(wrong)?;
        }
        file.sync_all().map_err(wrong)?;
        std::fs::rename(&partial, path).map_err(wrong)
    };
    let written: Result<(), CliError> = written.await;
    if written.is_err() {
        // The failure matters more than a file that could not be removed.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A new file; what an interrupted export left is replaced.
fn create(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_choose_where_a_file_goes() {
        assert_eq!(here("INV-2026-000001.pdf").unwrap(), Path::new("INV-2026-000001.pdf"));
        for name in ["../x", "/etc/passwd", "", ".", "..", ".bashrc", "a\nb"] {
            assert!(here(name).is_err(), "{name:?}");
        }
    }
}
