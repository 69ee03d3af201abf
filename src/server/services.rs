//! The services, each made of its parts, in one list.

use tonic::service::{Routes, RoutesBuilder};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
use tonic_reflection::server::Builder as Reflection;

use super::{Parts, ServerError};
use crate::proto;

/// Everything this server answers.
pub(super) async fn routes(
    _parts: &Parts,
    health: HealthServer<HealthService>,
) -> Result<Routes, ServerError> {
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(routes.routes())
}

fn reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
