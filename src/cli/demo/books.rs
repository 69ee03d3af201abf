//! What the books make of it.

use super::{Stage, world::World};
use crate::{
    cli::{
        args::required,
        balance,
        client::Client,
        error::CliError,
        ledger,
        usage::{summary_row, summary_table},
    },
    proto::{
        GetBalanceRequest, GetTrialBalanceRequest, SummarizeUsageRequest, UsageGrouping,
        VerifyLedgerRequest,
    },
};

/// Balances, usage by model, the trial balance and its proof.
pub(super) async fn run(client: &Client, world: &World, stage: &mut Stage) -> Result<(), CliError> {
    stage.chapter(
        "Balances",
        "What each customer has and owes. What is leased is held by the server, which answers from it \
         without\nasking the database; it comes back when it lies idle.",
    )?;
    let mut balances = Vec::new();
    for account in [&world.startup, &world.enterprise] {
        let request = GetBalanceRequest { account: account.clone() };
        let answer = client.credits().get_balance(request).await?.into_inner();
        balances.push(required(answer.balance, "balance")?);
    }
    stage.show(balance::side_by_side(balances))?;

    for account in [&world.startup, &world.enterprise] {
        let title = format!("Usage of {account}, by model");
        stage.chapter(&title, "Tokens in disjoint classes; reversals are not taken off.")?;
        let request = SummarizeUsageRequest {
            account: account.clone(),
            group_by: UsageGrouping::Model.into(),
            ..SummarizeUsageRequest::default()
        };
        let answer = client.usage().summarize_usage(request).await?.into_inner();
        let mut table = summary_table("model");
        for summary in answer.summaries {
            summary_row(&mut table, summary);
        }
        stage.show(table)?;
    }

    stage.chapter("Trial balance", "The whole company's books: debits equal credits.")?;
    let request = GetTrialBalanceRequest { account: String::new() };
    let balance = client.ledger().get_trial_balance(request).await?.into_inner();
    let [lines, totals] = ledger::trial_balance(balance);
    stage.show(lines)?;
    stage.say("")?;
    stage.show(totals)?;

    stage.chapter("Verification", "Everything recomputed from scratch.")?;
    let request = VerifyLedgerRequest { account: String::new() };
    let verified = client.ledger().verify_ledger(request).await?.into_inner();
    let is_clean = verified.clean;
    for table in ledger::verification(verified) {
        stage.show(table)?;
    }
    if is_clean {
        return stage.say("\nClean: the books prove right.");
    }
    Err(CliError::failed("the books do not agree; the findings name where"))
}
