//! Which service answers a call. The two that a gateway calls for each request are found by their names;
//! all others by the router, which costs a call what it takes to look a path up and to wrap its answer.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{body::Body, codegen::BoxFuture, server::NamedService as _, service::Routes};
use tower::Service;

use crate::{
    api::{authorization::AuthorizationApi, usage::UsageApi},
    proto::{
        authorization_service_server::AuthorizationServiceServer,
        usage_service_server::UsageServiceServer,
    },
};

type Authorizations = AuthorizationServiceServer<AuthorizationApi>;
type Usages = UsageServiceServer<UsageApi>;

/// Everything this server answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Dispatch {
    authorizations: Authorizations,
    usages: Usages,
    others: Routes,
}

impl Dispatch {
    pub(super) const fn new(
        authorizations: Authorizations,
        usages: Usages,
        others: Routes,
    ) -> Self {
        Self { authorizations, usages, others }
    }

    /// The same, with what can be done before the first call done.
    pub(super) fn prepare(self) -> Self {
        Self { others: self.others.prepare(), ..self }
    }
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    /// All are always ready: none of them limits how many calls it takes.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match service_in(request.uri().path()) {
            Authorizations::NAME => self.authorizations.call(request),
            Usages::NAME => self.usages.call(request),
            _ => Box::pin(self.others.call(request)),
        }
    }
}

/// The service in the path of a call, `/service/method`.
fn service_in(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_what_stands_between_two_slashes() {
        assert_eq!(service_in("/tollgate.v1.UsageService/RecordUsage"), Usages::NAME);
        assert_eq!(service_in("/tollgate.v1.AuthorizationService/X/Y"), Authorizations::NAME);
        for none in ["", "/", "tollgate.v1.UsageService/RecordUsage", "/tollgate.v1.UsageService"] {
            assert_eq!(service_in(none), "", "{none}");
        }
    }
}
