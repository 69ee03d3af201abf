//! `SellerService`: translates, calls `billing::seller`.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{
    account_convert::{address, read_address},
    convert::{BadField, next_page_token, page, timestamp},
    idempotency::{self, Begun},
    status::refused,
};
use crate::{
    accounts::fields::percent,
    billing::{
        document::{ElectronicAddress, Party, Remittance},
        error::BillingError,
        seller::{self, Seller, store},
        tax::TaxRate,
    },
    database::reports::ReportPool,
    ledger::chart::Jurisdiction,
    proto::{self, seller_service_server::SellerService},
};

const LIST: &str = "ListTaxRates";

/// The service.
#[derive(Debug, Clone)]
pub struct SellerApi {
    pool: PgPool,
    reports: ReportPool,
}

impl SellerApi {
    /// Keeps us in the database behind these pools.
    #[must_use]
    pub const fn new(pool: PgPool, reports: ReportPool) -> Self {
        Self { pool, reports }
    }
}

#[tonic::async_trait]
impl SellerService for SellerApi {
    async fn set_seller(
        &self,
        request: Request<proto::SetSellerRequest>,
    ) -> Result<Response<proto::SetSellerResponse>, Status> {
        let request = request.into_inner();
        let seller = read_seller(request.seller.clone().ok_or_else(|| {
            refused(BadField::new("seller", "MISSING", "is missing; give all of our identity"))
        })?);
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "SetSeller", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        seller::set(turn.connection(), &seller).await.map_err(refused)?;
        let now = store::seller(turn.connection()).await.map_err(refused)?;
        let response = proto::SetSellerResponse { seller: now.map(seller_message) };
        turn.commit(&response).await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn get_seller(
        &self,
        _: Request<proto::GetSellerRequest>,
    ) -> Result<Response<proto::GetSellerResponse>, Status> {
        let mut connection =
            self.pool.acquire().await.map_err(|error| refused(BillingError::from(error)))?;
        let seller = store::seller(&mut connection).await.map_err(refused)?;
        let seller = seller.ok_or_else(|| refused(BillingError::NoSeller))?;
        Ok(Response::new(proto::GetSellerResponse { seller: Some(seller_message(seller)) }))
    }

    async fn set_tax_rate(
        &self,
        request: Request<proto::SetTaxRateRequest>,
    ) -> Result<Response<proto::SetTaxRateResponse>, Status> {
        let request = request.into_inner();
        let rate = request.tax_rate.clone().ok_or_else(|| {
            refused(BadField::new("tax_rate", "MISSING", "is missing; give all of it"))
        })?;
        let rate = read_tax_rate(rate)?;
        let key = &request.idempotency_key;
        let mut turn = match idempotency::begin(&self.pool, "SetTaxRate", key, &request)
            .await
            .map_err(refused)?
        {
            Begun::Repeated(response) => return Ok(Response::new(response)),
            Begun::First(turn) => turn,
        };
        seller::set_tax_rate(turn.connection(), &rate).await.map_err(refused)?;
        let response = proto::SetTaxRateResponse { tax_rate: Some(tax_rate_message(rate)) };
        turn.commit(&response).await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn list_tax_rates(
        &self,
        request: Request<proto::ListTaxRatesRequest>,
    ) -> Result<Response<proto::ListTaxRatesResponse>, Status> {
        let request = request.into_inner();
        let page = page(LIST, request.page_size, &request.page_token).map_err(refused)?;
        let place = match request.jurisdiction.as_str() {
            "" => None,
            text => Some(read_jurisdiction("jurisdiction", text)?),
        };
        let limit = page.limit();
        let mut snapshot = self.reports.snapshot().await.map_err(refused)?;
        let listed = store::tax_rates(&mut snapshot, place, page.after, limit).await;
        let mut rates = listed.map_err(refused)?;
        let next_page_token = next_page_token(LIST, &mut rates, page.size, |last| {
            (last.jurisdiction.to_string(), last.effective_from)
        });
        let tax_rates = rates.into_iter().map(tax_rate_message).collect();
        Ok(Response::new(proto::ListTaxRatesResponse { tax_rates, next_page_token }))
    }
}

fn read_seller(message: proto::Seller) -> Seller {
    let remittance = message.remittance.unwrap_or_default();
    let electronic =
        message.electronic_address.filter(|one| *one != proto::ElectronicAddress::default());
    Seller {
        party: Party {
            legal_name: message.legal_name,
            trading_name: message.trading_name,
            address: read_address(message.address),
            registration_id: message.registration_id,
            tax_id: message.tax_id,
            electronic_address: electronic
                .map(|one| ElectronicAddress { scheme: one.scheme, address: one.address }),
            email: message.email,
            telephone: message.telephone,
            contact: message.contact,
        },
        remittance: Remittance {
            terms: remittance.terms,
            account_name: remittance.account_name,
            account_number: remittance.account_number,
            bank_code: remittance.bank_code,
            bank_name: remittance.bank_name,
            payment_reference: String::new(),
        },
    }
}

fn seller_message((seller, set_at): (Seller, DateTime<Utc>)) -> proto::Seller {
    let Seller { party, remittance } = seller;
    proto::Seller {
        legal_name: party.legal_name,
        trading_name: party.trading_name,
        address: Some(address(party.address)),
        registration_id: party.registration_id,
        tax_id: party.tax_id,
        electronic_address: party
            .electronic_address
            .map(|one| proto::ElectronicAddress { scheme: one.scheme, address: one.address }),
        email: party.email,
        telephone: party.telephone,
        contact: party.contact,
        remittance: Some(proto::RemittanceDetails {
            account_name: remittance.account_name,
            account_number: remittance.account_number,
            bank_code: remittance.bank_code,
            bank_name: remittance.bank_name,
            terms: remittance.terms,
        }),
        set_at: Some(timestamp(set_at)),
    }
}

fn read_jurisdiction(field: &str, text: &str) -> Result<Jurisdiction, Status> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        let problem = format!(
            "{shown:?} is not a jurisdiction: give a country or a part of it as ISO 3166-2 names \
             it, such as DE or US-CA"
        );
        refused(BadField::new(field, "INVALID_JURISDICTION", problem))
    })
}

fn read_tax_rate(message: proto::TaxRate) -> Result<TaxRate, Status> {
    let effective_from: NaiveDate = message.effective_from.parse().map_err(|_| {
        let problem = "is missing or no day; write it like 2027-01-01";
        refused(BadField::new("tax_rate.effective_from", "INVALID_DATE", problem))
    })?;
    Ok(TaxRate {
        jurisdiction: read_jurisdiction("tax_rate.jurisdiction", &message.jurisdiction)?,
        effective_from,
        rate_percent: percent("tax_rate.rate_percent", &message.rate_percent).map_err(refused)?,
        label: message.label,
        due_on_payment: message.due_on_payment,
    })
}

fn tax_rate_message(rate: TaxRate) -> proto::TaxRate {
    proto::TaxRate {
        jurisdiction: rate.jurisdiction.to_string(),
        effective_from: rate.effective_from.to_string(),
        rate_percent: rate.rate_percent.to_string(),
        label: rate.label,
        due_on_payment: rate.due_on_payment,
    }
}
