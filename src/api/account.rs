//! `AccountService`: translates, checks the caller, calls [`Accounts`].

use std::sync::Arc;

use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::{
    accounts::{
        Accounts, Changed,
        account::{Account, AccountUpdate, NewAccount},
        change::Change,
        directory::Directory,
    },
    api::{
        account_convert::{account, read_contract, status_filter},
        caller::{begin_reading, caller, reports_of},
        convert::{self, BadField},
        idempotency::{self, Begun, Turn},
        named_account::{named_account, named_account_record},
        personal_data,
        status::refused,
    },
    authorization::Authorizer,
    database::reports::Reports,
    ids::AccountId,
    ledger::credits,
    money::Currency,
    personal_data::erasure::Subject,
    proto::{self, account_service_server::AccountService},
};

const LIST: &str = "ListAccounts";
/// What was done when it is not known whether every server knows.
const SUSPENDED: &str = "the account is suspended";
/// The same.
const CLOSED: &str = "the account is closed";

/// The service.
#[derive(Debug, Clone)]
pub struct AccountApi {
    pool: PgPool,
    reports: Reports,
    accounts: Accounts,
    directory: Arc<Directory>,
    authorizer: Arc<Authorizer>,
}

impl AccountApi {
    /// Changes are dropped from this directory before they are answered.
    #[must_use]
    pub fn new(
        pool: PgPool,
        reports: Reports,
        directory: Arc<Directory>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { accounts: Accounts::new(pool.clone()), pool, reports, directory, authorizer }
    }

    /// Waits until no server serves the account's keys any more. What this one holds is dropped
    /// first: another may have made the change that this call repeats.
    async fn stopped_everywhere(&self, id: AccountId, what: &'static str) -> Result<(), Status> {
        self.directory.invalidate(&Change::Account(id));
        self.authorizer.everywhere(what).await.map_err(refused)
    }

    async fn commit<Answer: prost::Message>(
        &self,
        turn: Turn,
        changed: Changed<Account>,
        answer: impl FnOnce(Option<proto::Account>) -> Answer,
    ) -> Result<Response<Answer>, Status> {
        let response = answer(Some(account(changed.now)));
        turn.commit(&response).await.map_err(refused)?;
        for change in &changed.changes {
            self.directory.invalidate(change);
            if let Change::Account(account) = change {
                self.authorizer.funds_changed(*account);
            }
        }
        Ok(Response::new(response))
    }
}

#[tonic::async_trait]
impl AccountService for AccountApi {
    type ExportPersonalDataStream = personal_data::Pieces;

    async fn export_personal_data(
        &self,
        request: Request<proto::ExportPersonalDataRequest>,
    ) -> Result<Response<Self::ExportPersonalDataStream>, Status> {
        let name = &request.get_ref().account;
        let id = named_account(&self.directory, caller(&request)?, "account", name).await?;
        let reports = reports_of(&self.reports, caller(&request)?);
        let subject = Subject::new(id, request.into_inner().end_user).map_err(refused)?;
        personal_data::export(&reports, subject).await.map(Response::new)
    }

    async fn erase_personal_data(
        &self,
        request: Request<proto::ErasePersonalDataRequest>,
    ) -> Result<Response<proto::ErasePersonalDataResponse>, Status> {
        let name = &request.get_ref().account;
        let record =
            named_account_record(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let subject = Subject::new(record.account_id, request.end_user.clone()).map_err(refused)?;
        let (response, changes) =
            personal_data::erase(&self.pool, &subject, record.status, &request).await?;
        for change in &changes {
            self.directory.invalidate(change);
        }
        Ok(Response::new(response))
    }

    async fn create_account(
        &self,
        request: Request<proto::CreateAccountRequest>,
    ) -> Result<Response<proto::CreateAccountResponse>, Status> {
        let request = request.into_inner();
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "CreateAccount", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        let currency = match request.currency_code.as_str() {
            "" => Currency::USD,
            code => convert::currency("currency_code", code).map_err(refused)?,
        };
        let new = NewAccount {
            display_name: match request.display_name {
                name if name.is_empty() => request.handle.clone(),
                name => name,
            },
            handle: request.handle,
            currency,
            contract: read_contract(request.contract.unwrap_or_default(), currency)?,
        };
        let changed = self.accounts.create(turn.connection(), &new).await.map_err(refused)?;
        self.commit(turn, changed, |account| proto::CreateAccountResponse { account }).await
    }

    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        let (name, caller) = (&request.get_ref().account, caller(&request)?);
        let id = named_account(&self.directory, caller, "account", name).await?;
        let mut reading = begin_reading(&self.pool, &self.reports, caller).await?;
        let found = crate::accounts::read(&mut reading, id).await.map_err(refused)?;
        Ok(Response::new(proto::GetAccountResponse { account: Some(account(found)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<proto::ListAccountsRequest>,
    ) -> Result<Response<proto::ListAccountsResponse>, Status> {
        let reports = reports_of(&self.reports, caller(&request)?);
        let request = request.into_inner();
        let page = convert::page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let status = status_filter(request.status).map_err(refused)?;
        let mut snapshot = reports.snapshot().await.map_err(refused)?;
        let listed = self.accounts.list(&mut snapshot, status, page.after, page.limit()).await;
        let mut rows = listed.map_err(refused)?;
        let next_page_token =
            convert::next_page_token(LIST, &mut rows, page.size, |account| account.account_id);
        let accounts = rows.into_iter().map(account).collect();
        Ok(Response::new(proto::ListAccountsResponse { accounts, next_page_token }))
    }

    async fn update_account(
        &self,
        request: Request<proto::UpdateAccountRequest>,
    ) -> Result<Response<proto::UpdateAccountResponse>, Status> {
        let name = &request.get_ref().account;
        let record =
            named_account_record(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "UpdateAccount", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        let contract = request.contract.ok_or_else(|| {
            let problem = "is missing; it is replaced whole, so read the account, change its \
                           contract and send it back";
            refused(BadField::new("contract", "MISSING", problem))
        })?;
        let update = AccountUpdate {
            display_name: request.display_name,
            contract: read_contract(contract, record.currency)?,
            version: request.version,
        };
        let changed = self
            .accounts
            .update(turn.connection(), record.account_id, &update)
            .await
            .map_err(refused)?;
        self.commit(turn, changed, |account| proto::UpdateAccountResponse { account }).await
    }

    async fn suspend_account(
        &self,
        request: Request<proto::SuspendAccountRequest>,
    ) -> Result<Response<proto::SuspendAccountResponse>, Status> {
        let name = &request.get_ref().account;
        let id = named_account(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "SuspendAccount", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => {
                self.stopped_everywhere(id, SUSPENDED).await?;
                return Ok(Response::new(response));
            }
            Begun::First(turn) => turn,
        };
        let changed =
            self.accounts.suspend(turn.connection(), id, &request.reason).await.map_err(refused)?;
        let answer =
            self.commit(turn, changed, |account| proto::SuspendAccountResponse { account }).await?;
        self.stopped_everywhere(id, SUSPENDED).await?;
        Ok(answer)
    }

    async fn resume_account(
        &self,
        request: Request<proto::ResumeAccountRequest>,
    ) -> Result<Response<proto::ResumeAccountResponse>, Status> {
        let name = &request.get_ref().account;
        let id = named_account(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "ResumeAccount", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        let changed =
            self.accounts.resume(turn.connection(), id, &request.reason).await.map_err(refused)?;
        self.commit(turn, changed, |account| proto::ResumeAccountResponse { account }).await
    }

    async fn close_account(
        &self,
        request: Request<proto::CloseAccountRequest>,
    ) -> Result<Response<proto::CloseAccountResponse>, Status> {
        let name = &request.get_ref().account;
        let id = named_account(&self.directory, caller(&request)?, "account", name).await?;
        let request = request.into_inner();
        // What this server holds beyond its reservations must not keep the account open.
        self.authorizer.give_back(id).await.map_err(refused)?;
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "CloseAccount", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => {
                self.stopped_everywhere(id, CLOSED).await?;
                return Ok(Response::new(response));
            }
            Begun::First(turn) => turn,
        };
        credits::give_up_residue(turn.connection(), id, key).await.map_err(refused)?;
        let changed =
            self.accounts.close(turn.connection(), id, &request.reason).await.map_err(refused)?;
        let answer =
            self.commit(turn, changed, |account| proto::CloseAccountResponse { account }).await?;
        self.stopped_everywhere(id, CLOSED).await?;
        Ok(answer)
    }
}
