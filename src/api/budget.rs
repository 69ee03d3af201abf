//! `BudgetService`: translates, checks the caller, calls [`budgets`].

use std::sync::Arc;

use chrono::NaiveTime;
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{
    account_convert::unknown_choice,
    caller::{begin_reading, caller},
    convert::{self, BadField},
    idempotency::{self, Begun},
    named_account::{named_account, named_account_record},
    status::refused,
};
use crate::{
    accounts::{
        budgets::{self, BudgetOrder, BudgetStanding, Target, period::Period},
        change::Change,
        directory::Directory,
    },
    authorization::Authorizer,
    database::reports::Reports,
    ids::{AccountId, BudgetId},
    money::Currency,
    proto::{self, budget_service_server::BudgetService},
};

const LIST: &str = "ListBudgets";

/// The service.
#[derive(Debug, Clone)]
pub struct BudgetApi {
    pool: PgPool,
    reports: Reports,
    directory: Arc<Directory>,
    authorizer: Arc<Authorizer>,
}

impl BudgetApi {
    /// This server keeps to a new limit before the call is answered; the others hear of it.
    #[must_use]
    pub fn new(
        pool: PgPool,
        reports: Reports,
        directory: Arc<Directory>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { pool, reports, directory, authorizer }
    }

    fn changed(&self, account: AccountId, changes: &[Change]) {
        for change in changes {
            self.directory.invalidate(change);
        }
        self.authorizer.limits_changed(account);
    }
}

#[tonic::async_trait]
impl BudgetService for BudgetApi {
    async fn set_budget(
        &self,
        request: Request<proto::SetBudgetRequest>,
    ) -> Result<Response<proto::SetBudgetResponse>, Status> {
        let name = &request.get_ref().account;
        let account =
            named_account_record(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let order = read_order(&request, account.currency)?;
        let key = &request.idempotency_key;
        let begun = idempotency::begin(&self.pool, "SetBudget", key, &request).await;
        let mut turn = match begun.map_err(refused)? {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        let set = budgets::set(turn.connection(), account.account_id, &order).await;
        let set = set.map_err(refused)?;
        let budget = budget_message(&set.now, account.account_id, account.currency);
        let response = proto::SetBudgetResponse { budget: Some(budget) };
        turn.commit(&response).await.map_err(refused)?;
        self.changed(account.account_id, &set.changes);
        Ok(Response::new(response))
    }

    async fn list_budgets(
        &self,
        request: Request<proto::ListBudgetsRequest>,
    ) -> Result<Response<proto::ListBudgetsResponse>, Status> {
        let (name, caller) = (&request.get_ref().account, caller(&request)?);
        let account = named_account_record(&self.directory, caller, "account", name).await?;
        let page = (request.get_ref().page_size, &request.get_ref().page_token);
        let page = convert::page(LIST, page.0, page.1).map_err(refused)?;
        let mut reading = begin_reading(&self.pool, &self.reports, caller).await?;
        let (id, limit) = (account.account_id, page.limit());
        let listed = budgets::standing(&mut reading, id, page.after, limit).await;
        let mut rows = listed.map_err(refused)?;
        let next_page_token =
            convert::next_page_token(LIST, &mut rows, page.size, |row| row.budget.budget_id);
        let budgets = rows
            .iter()
            .map(|row| budget_message(row, account.account_id, account.currency))
            .collect();
        Ok(Response::new(proto::ListBudgetsResponse { budgets, next_page_token }))
    }

    async fn delete_budget(
        &self,
        request: Request<proto::DeleteBudgetRequest>,
    ) -> Result<Response<proto::DeleteBudgetResponse>, Status> {
        let name = &request.get_ref().account;
        let account = named_account(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let budget: BudgetId = convert::id("budget_id", &request.budget_id).map_err(refused)?;
        let key = &request.idempotency_key;
        let begun = idempotency::begin(&self.pool, "DeleteBudget", key, &request).await;
        let mut turn = match begun.map_err(refused)? {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        let deleted = budgets::delete(turn.connection(), account, budget).await;
        let deleted = deleted.map_err(refused)?;
        let response = proto::DeleteBudgetResponse {};
        turn.commit(&response).await.map_err(refused)?;
        self.changed(account, &deleted.changes);
        Ok(Response::new(response))
    }
}

fn read_order(
    request: &proto::SetBudgetRequest,
    currency: Currency,
) -> Result<BudgetOrder, Status> {
    let target = match (request.project.as_str(), request.key_id.as_str()) {
        ("", "") => Target::Account,
        (project, "") => Target::Project(project.to_owned()),
        ("", key) => Target::Key(convert::id("key_id", key).map_err(refused)?),
        _ => {
            let problem = "is given beside project; give one of them, or neither for the account";
            return Err(refused(BadField::new("key_id", "TWO_TARGETS", problem)));
        }
    };
    let period = match proto::BudgetPeriod::try_from(request.period) {
        Ok(proto::BudgetPeriod::Day) => Period::Day,
        Ok(proto::BudgetPeriod::Week) => Period::Week,
        Ok(proto::BudgetPeriod::Month) => Period::Month,
        Ok(proto::BudgetPeriod::Total) => Period::Total,
        Ok(proto::BudgetPeriod::Unspecified) => {
            let problem = "is missing; give DAY, WEEK, MONTH or TOTAL";
            return Err(refused(BadField::new("period", "MISSING", problem)));
        }
        Err(_) => return Err(refused(unknown_choice("period", request.period))),
    };
    let hard = match proto::BudgetEnforcement::try_from(request.enforcement) {
        Ok(proto::BudgetEnforcement::Hard) => true,
        Ok(proto::BudgetEnforcement::Soft) => false,
        Ok(proto::BudgetEnforcement::Unspecified) => {
            let problem = "is missing; HARD denies what would pass the limit, SOFT warns";
            return Err(refused(BadField::new("enforcement", "MISSING", problem)));
        }
        Err(_) => return Err(refused(unknown_choice("enforcement", request.enforcement))),
    };
    let limit = convert::optional_amount("limit", request.limit.as_ref(), currency);
    let limit = limit.map_err(refused)?.ok_or_else(|| {
        let problem = "is missing; give an amount in the account's currency, such as 100.00 USD";
        refused(BadField::new("limit", "MISSING_AMOUNT", problem))
    })?;
    Ok(BudgetOrder { target, period, hard, limit })
}

/// A budget as the contract shows it.
pub(super) fn budget_message(
    standing: &BudgetStanding,
    account: AccountId,
    currency: Currency,
) -> proto::Budget {
    let budget = &standing.budget;
    let (project, key_id) = match &budget.target {
        Target::Account => (String::new(), String::new()),
        Target::Project(name) => (name.clone(), String::new()),
        Target::Key(key) => (String::new(), key.to_string()),
    };
    let period = match budget.period {
        Period::Day => proto::BudgetPeriod::Day,
        Period::Week => proto::BudgetPeriod::Week,
        Period::Month => proto::BudgetPeriod::Month,
        Period::Total => proto::BudgetPeriod::Total,
    };
    let enforcement =
        if budget.hard { proto::BudgetEnforcement::Hard } else { proto::BudgetEnforcement::Soft };
    let start = match budget.period {
        // The day it is kept under is only a name.
        Period::Total => budget.created_at,
        _ => standing.period_start.and_time(NaiveTime::MIN).and_utc(),
    };
    proto::Budget {
        budget_id: budget.budget_id.to_string(),
        account_id: account.to_string(),
        project,
        key_id,
        period: period.into(),
        enforcement: enforcement.into(),
        limit: Some(convert::money(budget.limit, currency)),
        spent: Some(convert::money(standing.spent, currency)),
        reserved: Some(convert::money(standing.leased, currency)),
        remaining: Some(convert::money(standing.remaining(), currency)),
        period_start: Some(convert::timestamp(start)),
        resets_at: standing.resets_at().map(convert::timestamp),
        reached_at: standing.reached_at.map(convert::timestamp),
        created_at: Some(convert::timestamp(budget.created_at)),
    }
}
