//! Every closed month's credit for missed availability computed again, from the outcomes that were
//! recorded when it was closed.

use sqlx::PgConnection;

use super::{Check, MAX_FINDINGS, store};
use crate::{
    billing::{document::Document, sla::credit},
    ids::AccountId,
    ledger::error::LedgerError,
    money::Amount,
};

/// Recomputes the service level credit of every closed month with covered work, and looks for
/// credits of any other.
pub(super) async fn verify(
    snapshot: &mut PgConnection,
    account: Option<AccountId>,
) -> Result<Check, LedgerError> {
    let mut check = Check {
        name: "service_level_credits_recompute",
        description: "what a closed month's document gives back for missed availability follows \
                      from the outcomes recorded until then, and is what was posted",
        examined: 0,
        violations: 0,
        findings: Vec::new(),
    };
    for closed in store::credited_periods(snapshot, account).await? {
        check.examined = check.examined.saturating_add(1);
        let due = match closed.content.as_deref().map(serde_json::from_str::<Document>) {
            None => Amount::ZERO,
            Some(Ok(document)) => {
                let (account, currency) = (closed.account_id, document.currency);
                let credit =
                    credit::on_lines(snapshot, account, currency, closed.period, &document.lines);
                credit.await?.map_or(Amount::ZERO, |credit| credit.amount)
            }
            // `documents_recompute` says so.
            Some(Err(_)) => continue,
        };
        if due != closed.posted {
            check.violations = check.violations.saturating_add(1);
            if check.findings.len() < MAX_FINDINGS {
                let store::CreditedPeriod { account_id, period, posted, .. } = closed;
                check.findings.push(format!(
                    "account {account_id}: {period} posted {posted}, and its outcomes make {due}"
                ));
            }
        }
    }
    Ok(check)
}
