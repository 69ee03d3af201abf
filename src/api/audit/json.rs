//! Messages of the contract as JSON, by their descriptors: what an entry shows of a request and an
//! answer, under the contract's own field names.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, value::Serializer};

use crate::proto;

/// Fields that are secrets, wherever they are. They are empty in what is committed; this says it again.
const SECRETS: [&str; 1] = ["api_key"];

/// Fields that name a person, wherever they are: the trail says that somebody's data were erased, and
/// does not keep whose.
const PERSONAL: [&str; 1] = ["end_user"];

/// Of the two messages of an RPC.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Request,
    Answer,
}

/// The JSON form of a message of this RPC; `None` for bytes that are no such message.
pub(super) fn of_message(rpc: &str, side: Side, bytes: &[u8]) -> Option<Value> {
    static CONTRACT: LazyLock<Option<DescriptorPool>> =
        LazyLock::new(|| DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).ok());
    let (service, method) = rpc.strip_prefix('/')?.split_once('/')?;
    let service = CONTRACT.as_ref()?.get_service_by_name(service)?;
    let method = service.methods().find(|one| one.name() == method)?;
    let descriptor = match side {
        Side::Request => method.input(),
        Side::Answer => method.output(),
    };
    let message = DynamicMessage::decode(descriptor, bytes).ok()?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut value = message.serialize_with_options(Serializer, &options).ok()?;
    strike_out(&mut value);
    Some(value)
}

fn strike_out(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if SECRETS.contains(&name.as_str()) {
                    *member = Value::String("[secret]".to_owned());
                } else if PERSONAL.contains(&name.as_str()) {
                    *member = Value::String("[erased]".to_owned());
                } else {
                    strike_out(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strike_out),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;

    const ISSUE: &str = "/tollgate.v1.KeyService/IssueKey";

    #[test]
    fn a_message_is_shown_under_the_contracts_names_and_its_secret_is_not() {
        let request = proto::IssueKeyRequest {
            account: "acme".to_owned(),
            tier: proto::Tier::Pro.into(),
            expires_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..proto::IssueKeyRequest::default()
        };
        let shown = of_message(ISSUE, Side::Request, &request.encode_to_vec());
        let expected =
            json!({ "account": "acme", "tier": "TIER_PRO", "expires_at": "1970-01-01T00:00:00Z" });
        assert_eq!(shown, Some(expected));
        let answer = proto::IssueKeyResponse { key: None, api_key: "x".to_owned() };
        let shown = of_message(ISSUE, Side::Answer, &answer.encode_to_vec());
        assert_eq!(shown, Some(json!({ "api_key": "[secret]" })));
        assert_eq!(of_message(ISSUE, Side::Answer, &[0xff]), None);
    }
}
