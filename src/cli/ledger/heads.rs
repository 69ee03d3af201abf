//! `tollgate ledger heads`, and the comparison with an earlier export.

use std::path::Path;

use super::Ledger;
use crate::{
    cli::{error::CliError, output::to_stdout},
    ledger::{
        seals::heads::{self, MAX_HEADS},
        verify::MAX_FINDINGS,
    },
    proto::{ChainHead, CheckChainHeadsRequest, ExportChainHeadsRequest, VerificationCheck},
};

pub(super) const EXAMPLES: &str = "\
The text goes to the standard output whatever --output says. Keep it where whoever runs the database
cannot change it: what is in it can never be rewritten unnoticed.

Examples:
  tollgate ledger heads > heads-2026-10.txt
  tollgate ledger verify --heads heads-2026-10.txt";

pub(super) async fn export(ledger: &mut Ledger) -> Result<(), CliError> {
    let mut pieces = ledger.export_chain_heads(ExportChainHeadsRequest {}).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        to_stdout(|out| out.write_all(piece.text.as_bytes()))?;
    }
    Ok(())
}

/// Compares an earlier export with today's chains.
pub(super) async fn compare(
    ledger: &mut Ledger,
    file: &Path,
) -> Result<VerificationCheck, CliError> {
    let text = std::fs::read_to_string(file).map_err(|cause| CliError::file(file, cause))?;
    let known = heads::read(&text)
        .map_err(|error| CliError::failed(format!("{} cannot be used: {error}", file.display())))?;
    let mut findings = Vec::new();
    for some in known.chunks(MAX_HEADS) {
        let heads = some.iter().map(|head| ChainHead {
            account_id: head.account.to_string(),
            block: head.block,
            entries: head.entries,
            hash: head.hash.clone(),
        });
        let request = CheckChainHeadsRequest { heads: heads.collect() };
        findings.extend(ledger.check_chain_heads(request).await?.into_inner().findings);
    }
    let violations = findings.len() as u64;
    findings.truncate(MAX_FINDINGS);
    Ok(VerificationCheck {
        name: "heads_in_chains".to_owned(),
        description: "the heads of the earlier export are in today's chains".to_owned(),
        examined: known.len() as u64,
        violations,
        findings,
    })
}
