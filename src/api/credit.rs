//! `CreditService`: translates, checks the caller, calls `ledger::credits`, or `billing` where money
//! in or out has documents.

use std::sync::Arc;

use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{
    budget::budget_message,
    caller::{begin_reading, caller},
    convert::{BadField, any_amount, id, money, timestamp},
    idempotency::{self, Begun, Turn},
    named_account::named_account,
    status::refused,
};
use crate::{
    accounts::{
        budgets::{self, MAX_BUDGETS},
        change::Change,
        directory::Directory,
    },
    authorization::Authorizer,
    billing::{prepayments, receipts},
    database::reports::Reports,
    ids::AccountId,
    ledger::{
        chart::PaymentMethod,
        credits::{self, ChargebackOrder, ChargebackStage, PromotionalChange, Refund, TopUp},
        store::{Funds, funds},
    },
    money::{Amount, Currency},
    proto::{self, credit_service_server::CreditService},
};

/// The service.
#[derive(Debug, Clone)]
pub struct CreditApi {
    pool: PgPool,
    reports: Reports,
    directory: Arc<Directory>,
    authorizer: Arc<Authorizer>,
}

/// All that an account may have.
#[expect(clippy::cast_possible_wrap, reason = "a thousand")]
const MOST_BUDGETS: i64 = MAX_BUDGETS as i64;

impl CreditApi {
    /// This server knows of new funds, and of a suspension, before a call is answered; the others
    /// hear of it.
    #[must_use]
    pub fn new(
        pool: PgPool,
        reports: Reports,
        directory: Arc<Directory>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { pool, reports, directory, authorizer }
    }

    async fn account<T>(&self, request: &Request<T>, name: &str) -> Result<AccountId, Status> {
        named_account(&self.directory, caller(request)?, "account", name).await
    }

    /// An opened dispute has suspended the account: waits until no server serves its keys. What
    /// this one holds is dropped first: another may have made the change that this call repeats.
    async fn suspended_everywhere(&self, order: &ChargebackOrder) -> Result<(), Status> {
        if order.stage != ChargebackStage::Opened {
            return Ok(());
        }
        self.directory.invalidate(&Change::Account(order.account));
        let what = "the chargeback is recorded and the account suspended";
        self.authorizer.everywhere(what).await.map_err(refused)
    }

    async fn commit(
        &self,
        turn: Turn,
        account: AccountId,
        response: &impl prost::Message,
    ) -> Result<(), Status> {
        turn.commit(response).await.map_err(refused)?;
        self.directory.invalidate(&Change::Account(account));
        self.authorizer.funds_changed(account);
        Ok(())
    }
}

/// Opens a changing call, or answers it as it was answered before.
macro_rules! begin {
    ($api:expr, $rpc:literal, $request:expr) => {
        match idempotency::begin(&$api.pool, $rpc, &$request.idempotency_key, $request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        }
    };
}

#[tonic::async_trait]
impl CreditService for CreditApi {
    async fn top_up(
        &self,
        request: Request<proto::TopUpRequest>,
    ) -> Result<Response<proto::TopUpResponse>, Status> {
        let account = self.account(&request, &request.get_ref().account).await?;
        let request = request.get_ref();
        let (amount, currency) = read_amount(request.amount.as_ref())?;
        let order = TopUp {
            account,
            amount,
            currency,
            method: read_method(request.method)?,
            external_reference: request.external_reference.clone(),
            note: request.note.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        let mut turn = begin!(self, "TopUp", request);
        let done = receipts::top_up(turn.connection(), &order).await.map_err(refused)?;
        let response = proto::TopUpResponse {
            payment_id: done.payment.to_string(),
            balance: Some(balance(&done.funds)),
            duplicate: done.duplicate,
        };
        self.commit(turn, account, &response).await?;
        Ok(Response::new(response))
    }

    async fn grant_credit(
        &self,
        request: Request<proto::GrantCreditRequest>,
    ) -> Result<Response<proto::GrantCreditResponse>, Status> {
        let account = self.account(&request, &request.get_ref().account).await?;
        let request = request.get_ref();
        let (amount, currency) = read_amount(request.amount.as_ref())?;
        let order = PromotionalChange {
            account,
            amount,
            currency,
            reason: request.reason.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        let mut turn = begin!(self, "GrantCredit", request);
        let (grant, funds) = credits::grant(turn.connection(), &order).await.map_err(refused)?;
        let response = proto::GrantCreditResponse {
            grant_id: grant.to_string(),
            balance: Some(balance(&funds)),
        };
        self.commit(turn, account, &response).await?;
        Ok(Response::new(response))
    }

    async fn withdraw_grant(
        &self,
        request: Request<proto::WithdrawGrantRequest>,
    ) -> Result<Response<proto::WithdrawGrantResponse>, Status> {
        let account = self.account(&request, &request.get_ref().account).await?;
        let request = request.get_ref();
        let (amount, currency) = read_amount(request.amount.as_ref())?;
        let order = PromotionalChange {
            account,
            amount,
            currency,
            reason: request.reason.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        // What this server holds beyond its reservations is unused.
        self.authorizer.give_back(account).await.map_err(refused)?;
        let mut turn = begin!(self, "WithdrawGrant", request);
        let (withdrawal, funds) =
            credits::withdraw_grant(turn.connection(), &order).await.map_err(refused)?;
        let response = proto::WithdrawGrantResponse {
            withdrawal_id: withdrawal.to_string(),
            balance: Some(balance(&funds)),
        };
        self.commit(turn, account, &response).await?;
        Ok(Response::new(response))
    }

    async fn refund(
        &self,
        request: Request<proto::RefundRequest>,
    ) -> Result<Response<proto::RefundResponse>, Status> {
        let account = self.account(&request, &request.get_ref().account).await?;
        let request = request.get_ref();
        let (amount, currency) = read_amount(request.amount.as_ref())?;
        let order = Refund {
            account,
            amount,
            currency,
            method: read_method(request.method)?,
            external_reference: request.external_reference.clone(),
            reason: request.reason.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        // What this server holds beyond its reservations is unused.
        self.authorizer.give_back(account).await.map_err(refused)?;
        let mut turn = begin!(self, "Refund", request);
        let done = prepayments::refund(turn.connection(), &order).await.map_err(refused)?;
        let response = proto::RefundResponse {
            refund_id: done.refund.to_string(),
            balance: Some(balance(&done.funds)),
            credits: Some(money(amount, currency)),
            tax: Some(money(done.tax, currency)),
            payout: Some(money(amount.saturating_add(done.tax), currency)),
            credit_notes: done.credit_notes,
        };
        self.commit(turn, account, &response).await?;
        Ok(Response::new(response))
    }

    async fn record_chargeback(
        &self,
        request: Request<proto::RecordChargebackRequest>,
    ) -> Result<Response<proto::RecordChargebackResponse>, Status> {
        let account = self.account(&request, &request.get_ref().account).await?;
        let request = request.get_ref();
        let order = ChargebackOrder {
            account,
            payment: id("payment_id", &request.payment_id).map_err(refused)?,
            stage: read_stage(request.stage)?,
            external_reference: request.external_reference.clone(),
            reason: request.reason.clone(),
            idempotency_key: request.idempotency_key.clone(),
        };
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "RecordChargeback", key, request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => {
                self.suspended_everywhere(&order).await?;
                return Ok(Response::new(response));
            }
            Begun::First(turn) => turn,
        };
        let disputed = prepayments::chargeback(turn.connection(), &order).await.map_err(refused)?;
        let done = disputed.chargeback;
        let currency = done.funds.currency;
        let response = proto::RecordChargebackResponse {
            chargeback_id: done.id.to_string(),
            unspent: Some(money(done.parts.unspent, currency)),
            spent: Some(money(done.parts.spent, currency)),
            balance: Some(balance(&done.funds)),
            tax_corrected: Some(money(disputed.tax, currency)),
            credit_notes: disputed.credit_notes,
        };
        self.commit(turn, account, &response).await?;
        self.suspended_everywhere(&order).await?;
        Ok(Response::new(response))
    }

    async fn get_balance(
        &self,
        request: Request<proto::GetBalanceRequest>,
    ) -> Result<Response<proto::GetBalanceResponse>, Status> {
        let account = self.account(&request, &request.get_ref().account).await?;
        let mut reading = begin_reading(&self.pool, &self.reports, caller(&request)?).await?;
        let funds = funds(&mut reading, account).await.map_err(refused)?;
        let budgets = budgets::standing(&mut reading, account, None, MOST_BUDGETS).await;
        let budgets = budgets.map_err(refused)?;
        let budgets =
            budgets.iter().map(|one| budget_message(one, account, funds.currency)).collect();
        Ok(Response::new(proto::GetBalanceResponse { balance: Some(balance(&funds)), budgets }))
    }
}

fn read_amount(amount: Option<&proto::Money>) -> Result<(Amount, Currency), Status> {
    let problem = "is missing; give an amount with its currency, such as 12.50 USD";
    let amount =
        amount.ok_or_else(|| refused(BadField::new("amount", "MISSING_AMOUNT", problem)))?;
    any_amount("amount", amount).map_err(refused)
}

pub(super) fn read_method(value: i32) -> Result<PaymentMethod, Status> {
    match proto::PaymentMethod::try_from(value) {
        Ok(proto::PaymentMethod::Visa) => Ok(PaymentMethod::Visa),
        Ok(proto::PaymentMethod::Mastercard) => Ok(PaymentMethod::Mastercard),
        Ok(proto::PaymentMethod::Paypal) => Ok(PaymentMethod::Paypal),
        Ok(proto::PaymentMethod::Wire) => Ok(PaymentMethod::Wire),
        Ok(proto::PaymentMethod::Manual) => Ok(PaymentMethod::Manual),
        Ok(proto::PaymentMethod::Unspecified) | Err(_) => {
            let problem = "is missing or unknown; give VISA, MASTERCARD, PAYPAL, WIRE or MANUAL";
            Err(refused(BadField::new("method", "INVALID_METHOD", problem)))
        }
    }
}

fn read_stage(value: i32) -> Result<ChargebackStage, Status> {
    match proto::ChargebackStage::try_from(value) {
        Ok(proto::ChargebackStage::Opened) => Ok(ChargebackStage::Opened),
        Ok(proto::ChargebackStage::Won) => Ok(ChargebackStage::Won),
        Ok(proto::ChargebackStage::Lost) => Ok(ChargebackStage::Lost),
        Ok(proto::ChargebackStage::Unspecified) | Err(_) => {
            let problem = "is missing or unknown; give OPENED, WON or LOST";
            Err(refused(BadField::new("stage", "INVALID_STAGE", problem)))
        }
    }
}

/// Funds as the contract shows them.
fn balance(funds: &Funds) -> proto::Balance {
    let amount = |amount: Amount| Some(money(amount, funds.currency));
    let balances = &funds.balances;
    proto::Balance {
        account_id: funds.account_id.to_string(),
        handle: funds.handle.clone(),
        promotional: amount(balances.promotional),
        credits: amount(balances.credits),
        overdrawn: amount(balances.overdrawn),
        unbilled: amount(balances.unbilled),
        receivable: amount(balances.receivable),
        unapplied: amount(balances.unapplied),
        credit_limit: amount(funds.credit_limit),
        leased: amount(funds.leased),
        available: amount(funds.available),
        as_of: Some(timestamp(funds.as_of)),
    }
}
