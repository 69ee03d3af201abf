//! The permission table against the contract: every RPC that the descriptors name, called with every
//! role over the wire, is allowed or refused as the table says; and `docs/security.md` shows the
//! table as it is.

use std::{fmt::Write as _, path::PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tollgate::{
    identity::{Role, Roles, permissions::permission_for},
    ids::AccountId,
    proto,
};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::harness::server::{TestServer, token};

/// Set this to have the table in `docs/security.md` written instead of compared.
const WRITE: &str = "TOLLGATE_WRITE_DOCS";
const BEGIN: &str = "<!-- permissions: written by tests/suite/permissions.rs -->\n";
const END: &str = "<!-- end of permissions -->\n";

/// Every RPC of the contract, as `(service, method)`.
pub(crate) fn contract() -> Vec<(String, String)> {
    let descriptors = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut rpcs = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            rpcs.extend(
                service.method.iter().map(|method| (name.clone(), method.name().to_owned())),
            );
        }
    }
    assert!(rpcs.len() > 40, "only {} RPCs were found", rpcs.len());
    rpcs
}

/// Who may call it; an RPC without a line in the table fails whichever test asks.
fn allowed(path: &str) -> Roles {
    let permission = permission_for(path);
    permission.unwrap_or_else(|| panic!("{path} has no line in identity/permissions.rs")).roles
}

/// What an RPC of any kind answers to one empty message.
pub(crate) async fn ask(server: &TestServer, path: &str, token: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(()));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let codec = ProstCodec::<(), ()>::default();
    let path = PathAndQuery::try_from(path).unwrap();
    grpc.streaming(request, path, codec).await?.into_inner().message().await.map(|_| ())
}

#[tokio::test]
async fn every_rpc_is_allowed_and_refused_to_each_role_as_the_table_says() {
    let server = TestServer::start().await;
    let mut wrong = Vec::new();
    for role in Role::ALL {
        let account = (role == Role::Tenant).then(AccountId::generate);
        let token = token(&[role], account);
        for (service, method) in contract() {
            let path = format!("/{service}/{method}");
            let outcome = ask(&server, &path, &token).await;
            let (code, reason) = match &outcome {
                Ok(()) => (Code::Ok, String::new()),
                Err(status) => {
                    let details = status.get_error_details();
                    let reason = details.error_info().map(|info| info.reason.clone());
                    (status.code(), reason.unwrap_or_default())
                }
            };
            let is_refused = code == Code::PermissionDenied && reason == "ROLE_NOT_ALLOWED";
            // An empty message may be wrong in any other way, which shows that it got through.
            let is_lost = matches!(code, Code::Unauthenticated | Code::Unimplemented);
            if is_lost || is_refused == allowed(&path).has(role) {
                wrong.push(format!("{role} {path}: {code:?} {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    server.drain().await.unwrap();
}

/// The table as Markdown, in the order of the contract.
fn table() -> String {
    let mut text = String::from("| RPC |");
    for role in Role::ALL {
        let _ = write!(text, " {role} |");
    }
    text.push_str("\n|---|");
    text.push_str(&":-:|".repeat(Role::ALL.len()));
    text.push('\n');
    for (service, method) in contract() {
        let roles = allowed(&format!("/{service}/{method}"));
        let short = service.rsplit('.').next().unwrap();
        let _ = write!(text, "| {short}.{method} |");
        for role in Role::ALL {
            text.push_str(if roles.has(role) { " yes |" } else { " |" });
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_documented_permissions_are_those_of_the_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("docs/security.md has no beginning");
    let (written, after) = rest.split_once(END).expect("docs/security.md has no end");
    let now = table();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
        return;
    }
    assert!(
        written == now,
        "docs/security.md does not show the permissions as they are; write it anew with\n  \
         {WRITE}=1 cargo test --test suite the_documented_permissions"
    );
}
