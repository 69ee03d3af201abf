//! The services, each made of its parts, in one list.

use std::sync::Arc;

use tonic::service::RoutesBuilder;
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
use tonic_reflection::server::Builder as Reflection;

use super::{Parts, ServerError, dispatch::Dispatch, domain::Domain};
use crate::{
    api::{
        account::AccountApi, audit::AuditApi, authorization::AuthorizationApi, billing::BillingApi,
        budget::BudgetApi, catalog::CatalogApi, credit::CreditApi, installation::InstallationApi,
        key::KeyApi, ledger::LedgerApi, seller::SellerApi, token::TokenApi, usage::UsageApi,
    },
    authorization::lifetime::Lifetime,
    installation::Doctor,
    metering::intake::Intake,
    proto::{
        self, account_service_server::AccountServiceServer,
        audit_service_server::AuditServiceServer,
        authorization_service_server::AuthorizationServiceServer,
        billing_service_server::BillingServiceServer, budget_service_server::BudgetServiceServer,
        credit_service_server::CreditServiceServer,
        installation_service_server::InstallationServiceServer,
        key_service_server::KeyServiceServer, ledger_service_server::LedgerServiceServer,
        seller_service_server::SellerServiceServer, token_service_server::TokenServiceServer,
        usage_service_server::UsageServiceServer,
    },
};

/// Everything this server answers.
pub(super) async fn all(
    parts: &Parts,
    lifetime: Lifetime,
    health: HealthServer<HealthService>,
) -> Result<Dispatch, ServerError> {
    let domain = Domain::start(parts, lifetime).await?;
    let (pool, reports, directory) = (&parts.pool, &parts.reports, &domain.directory);
    let authorizer = Arc::clone(&domain.authorizer);
    let accounts =
        AccountApi::new(pool.clone(), reports.clone(), Arc::clone(directory), authorizer);
    let catalog =
        CatalogApi::service(pool.clone(), Arc::clone(&domain.book), Arc::clone(directory));
    let authorization = AuthorizationApi::new(
        Arc::clone(&domain.authorizer),
        Arc::clone(directory),
        domain.recorder.clone(),
        parts.tasks.closing(),
    );
    let keys = KeyApi::new(
        pool.clone(),
        reports.clone(),
        Arc::clone(directory),
        Arc::clone(&domain.authorizer),
    );
    let budgets = BudgetApi::new(
        pool.clone(),
        reports.clone(),
        Arc::clone(directory),
        Arc::clone(&domain.authorizer),
    );
    let credits = CreditApi::new(
        pool.clone(),
        reports.clone(),
        Arc::clone(directory),
        Arc::clone(&domain.authorizer),
    );
    let ledger = LedgerApi::new(reports.all(), Arc::clone(directory));

    let billing = BillingApi::new(
        pool.clone(),
        reports.clone(),
        Arc::clone(directory),
        domain.closing.clone(),
        Arc::clone(&domain.authorizer),
    );
    let audit = AuditApi::new(reports.all(), Arc::clone(directory));
    let installation = InstallationApi::new(Doctor::new(reports.all(), parts.installation.clone()));
    let seller = SellerApi::new(pool.clone(), reports.all());

    let tokens = TokenApi::new(
        pool.clone(),
        reports.all(),
        Arc::clone(&parts.revoked),
        Arc::clone(&domain.authorizer),
    );

    let intake = Intake::new(
        Arc::clone(&domain.authorizer),
        Arc::clone(&domain.book),
        Arc::clone(directory),
        domain.recorder.clone(),
        pool.clone(),
    );
    let usage = UsageApi {
        intake,
        directory: Arc::clone(directory),
        book: Arc::clone(&domain.book),
        pool: pool.clone(),
        reports: reports.clone(),
        closing: parts.tasks.closing(),
    };

    let mut routes = RoutesBuilder::default();
    routes
        .add_service(health)
        .add_service(AccountServiceServer::new(accounts))
        .add_service(AuditServiceServer::new(audit))
        .add_service(BillingServiceServer::new(billing))
        .add_service(BudgetServiceServer::new(budgets))
        .add_service(InstallationServiceServer::new(installation))
        .add_service(KeyServiceServer::new(keys))
        .add_service(catalog)
        .add_service(CreditServiceServer::new(credits))
        .add_service(LedgerServiceServer::new(ledger))
        .add_service(SellerServiceServer::new(seller))
        .add_service(TokenServiceServer::new(tokens))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(Dispatch::new(
        AuthorizationServiceServer::new(authorization),
        UsageServiceServer::new(usage),
        routes.routes(),
    ))
}

fn reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // Of no service, but in the details of every error: tools print what they find here.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}
