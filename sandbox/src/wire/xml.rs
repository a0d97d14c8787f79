//! XML answers of the query protocols, written by the vendors' descriptions.

use serde_json::Value;

use crate::models::{Model, Protocol, Reference};

/// A successful answer.
pub(super) fn success(model: &Model, operation: &str, value: &Value, request: &str) -> String {
    let xmlns = model.xmlns.as_deref().map(|ns| with_slash(ns, model)).unwrap_or_default();
    let described = model.operations.get(operation);
    let mut body = String::new();
    if let Some(shape) = described.and_then(|o| o.output.as_deref()) {
        members(model, shape, value, &mut body);
    }
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    match model.protocol {
        Protocol::Ec2 => format!(
            "{declaration}\n<{operation}Response xmlns=\"{xmlns}\"><requestId>{request}</requestId>{}</{operation}Response>",
            // Operations without an output shape answer with `return`.
            if described.is_some_and(|o| o.output.is_none()) { "<return>true</return>" } else { &body }
        ),
        Protocol::Query | Protocol::Json => {
            let wrapper = described.and_then(|o| o.wrapper.as_deref());
            let result = wrapper.map_or(String::new(), |w| format!("<{w}>{body}</{w}>"));
            format!(
                "<{operation}Response xmlns=\"{xmlns}\">{result}<ResponseMetadata><RequestId>{request}</RequestId>\
                 </ResponseMetadata></{operation}Response>"
            )
        }
    }
}

fn with_slash(xmlns: &str, model: &Model) -> String {
    let slash = if model.protocol == Protocol::Ec2 && !xmlns.ends_with('/') { "/" } else { "" };
    format!("{xmlns}{slash}")
}

/// The error of awsQuery.
pub(super) fn query_error(xmlns: Option<&str>, kind: &str, code: &str, message: &str, request: &str) -> String {
    let xmlns = xmlns.map(|ns| format!(" xmlns=\"{ns}\"")).unwrap_or_default();
    format!(
        "<ErrorResponse{xmlns}><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{request}</RequestId></ErrorResponse>",
        escape(code),
        escape(message)
    )
}

/// The error of ec2Query.
pub(super) fn ec2_error(code: &str, message: &str, request: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{}</Code><Message>{}</Message>\
         </Error></Errors><RequestID>{request}</RequestID></Response>",
        escape(code),
        escape(message)
    )
}

fn members(model: &Model, shape: &str, value: &Value, out: &mut String) {
    for (member, reference) in &model.shape(shape).members {
        let value = &value[member];
        if !value.is_null() {
            element(model, reference, reference.location.as_deref().unwrap_or(member), value, out);
        }
    }
}

fn element(model: &Model, reference: &Reference, name: &str, value: &Value, out: &mut String) {
    let shape = model.shape(&reference.shape);
    match (shape.kind.as_str(), value) {
        ("structure", Value::Object(_)) => {
            open(name, out);
            members(model, &reference.shape, value, out);
            close(name, out);
        }
        ("list", Value::Array(items)) => {
            let Some(item) = &shape.element else { return };
            let flat = reference.flattened || shape.flattened;
            let inner = item.location.as_deref().unwrap_or(if flat { name } else { "member" });
            if !flat {
                open(name, out);
            }
            for value in items {
                element(model, item, inner, value, out);
            }
            if !flat {
                close(name, out);
            }
        }
        (kind, value) => {
            open(name, out);
            out.push_str(&escape(&scalar(kind, value)));
            close(name, out);
        }
    }
}

fn scalar(kind: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if kind == "timestamp" => {
            let millis = (number.as_f64().unwrap_or_default() * 1000.0).round();
            // Timestamps of this century fit.
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
            let at = jiff::Timestamp::from_millisecond(millis as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            format!("{at:.3}")
        }
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn open(name: &str, out: &mut String) {
    out.push('<');
    out.push_str(name);
    out.push('>');
}

fn close(name: &str, out: &mut String) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;
    use serde_json::json;

    #[test]
    fn elasticache_repeats_the_named_element_in_a_result() {
        let model = models::by_name("elasticache").unwrap();
        let value = json!({"ReplicationGroups": [{"ReplicationGroupId": "a<b", "MemberClusters": ["a-001"]}]});
        let text = success(model, "DescribeReplicationGroups", &value, "r");
        assert!(
            text.contains(
                "<DescribeReplicationGroupsResult><ReplicationGroups><ReplicationGroup><MemberClusters>\
             <ClusterId>a-001</ClusterId></MemberClusters><ReplicationGroupId>a&lt;b</ReplicationGroupId>"
            ),
            "{text}"
        );
    }

    #[test]
    fn ec2_has_items_and_no_result() {
        let model = models::by_name("ec2").unwrap();
        let value = json!({"NatGateways": [{"NatGatewayId": "nat-1", "CreateTime": 0.5}]});
        let text = success(model, "DescribeNatGateways", &value, "r");
        assert!(text.contains("<natGatewaySet><item>"), "{text}");
        assert!(text.contains("<createTime>1970-01-01T00:00:00.500Z</createTime>"), "{text}");
    }
}
