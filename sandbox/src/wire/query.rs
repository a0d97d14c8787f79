//! awsQuery and ec2Query: a form in, XML out. Both read and write by the vendors' descriptions.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderMap;
use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};

use super::{Answer, Signature, plain, settle, signature, xml};
use crate::api::{self, ApiError, Reply};
use crate::cloud::Cloud;
use crate::models::{Model, Protocol, Reference};
use crate::state;

pub(super) async fn answer(cloud: &Cloud, headers: &HeaderMap, body: &Bytes) -> Answer {
    let form = Form::parse(body);
    let operation = form.scalar("Action").unwrap_or_default().to_owned();
    let model = match signature(headers) {
        Signature::Known(model) if model.protocol != Protocol::Json => model,
        Signature::Known(model) => return Ok(write(model, &operation, &Err(api::unknown_operation(None, &operation)))),
        Signature::Missing => {
            return Ok(unsigned("MissingAuthenticationToken", "Request is missing Authentication Token"));
        }
        Signature::Unknown(name) => {
            let text = format!("Credential is scoped to the service '{name}', which is not offered here.");
            return Ok(unsigned("SignatureDoesNotMatch", &text));
        }
    };
    if operation.is_empty() {
        let missing = ApiError::new("MissingAction", "The request must contain the parameter Action").with_status(400);
        return Ok(write(model, "", &Err(missing)));
    }
    let input = match model.operations.get(&operation).and_then(|o| o.input.as_deref()) {
        Some(shape) => match form.decode(model, shape) {
            Ok(input) => input,
            Err(path) => {
                let text = format!("The value of parameter {path} has the wrong type");
                let code = if model.protocol == Protocol::Ec2 { "InvalidParameterValue" } else { "MalformedInput" };
                return Ok(write(model, &operation, &Err(ApiError::new(code, text).with_status(400))));
            }
        },
        None => json!({}),
    };
    let reply = settle(api::call(cloud, &model.service, &operation, input).await).await?;
    Ok(write(model, &operation, &reply))
}

fn unsigned(code: &str, message: &str) -> Response<Full<Bytes>> {
    plain(403, "text/xml", xml::query_error(None, "Sender", code, message, &state::uuid()))
}

fn write(model: &Model, operation: &str, reply: &Reply) -> Response<Full<Bytes>> {
    let request = state::uuid();
    let (status, body) = match reply {
        Ok(value) => (200, xml::success(model, operation, value, &request)),
        Err(error) => {
            let declared = model.errors.get(&error.code).copied().unwrap_or(400);
            let status = if error.status == 0 { declared } else { error.status };
            let kind = if status >= 500 { "Receiver" } else { "Sender" };
            let body = match model.protocol {
                Protocol::Ec2 => xml::ec2_error(&error.code, &error.message, &request),
                Protocol::Query | Protocol::Json => {
                    xml::query_error(model.xmlns.as_deref(), kind, &error.code, &error.message, &request)
                }
            };
            (status, body)
        }
    };
    let mut response = plain(status, "text/xml;charset=UTF-8", body);
    if let Ok(id) = request.parse() {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// A form whose dotted names are a tree.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    value: Option<String>,
    members: BTreeMap<String, Form>,
}

impl Form {
    fn parse(body: &[u8]) -> Self {
        let mut root = Self::default();
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = (unescape(&pair[..at]), unescape(pair.get(at + 1..).unwrap_or_default()));
            let mut node = &mut root;
            for part in name.split('.') {
                node = node.members.entry(part.to_owned()).or_default();
            }
            node.value = Some(value);
        }
        root
    }

    fn scalar(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.value.as_deref()
    }

    fn numbered(&self) -> Vec<&Form> {
        let mut items: Vec<(u64, &Form)> =
            self.members.iter().filter_map(|(name, form)| Some((name.parse().ok()?, form))).collect();
        items.sort_by_key(|(n, _)| *n);
        items.into_iter().map(|(_, form)| form).collect()
    }

    /// The input in API names and JSON types; `Err` names what cannot be read.
    fn decode(&self, model: &Model, shape: &str) -> Result<Value, String> {
        self.decode_at(model, shape, false, "")
    }

    fn decode_at(&self, model: &Model, name: &str, flattened: bool, path: &str) -> Result<Value, String> {
        let shape = model.shape(name);
        match shape.kind.as_str() {
            "structure" => {
                let mut members = Map::new();
                for (member, reference) in &shape.members {
                    let element = shape_of(model, reference);
                    let flat = reference.flattened || element.flattened;
                    let mut wire = name_in(model.protocol, member, reference);
                    if flat && let Some(item) = element.element.as_ref().and_then(|e| e.location.clone()) {
                        wire = item;
                    }
                    if let Some(form) = self.members.get(&wire) {
                        members.insert(member.clone(), form.decode_at(model, &reference.shape, flat, member)?);
                    }
                }
                Ok(Value::Object(members))
            }
            "list" => {
                let Some(element) = &shape.element else { return Err(path.to_owned()) };
                let wrapped = model.protocol == Protocol::Query && !flattened;
                let inner = element.location.as_deref().unwrap_or("member");
                let items = if wrapped { self.members.get(inner) } else { Some(self) };
                let items = items.map(Form::numbered).unwrap_or_default();
                items.into_iter().map(|item| item.decode_at(model, &element.shape, false, path)).collect()
            }
            "map" => Ok(json!({})),
            kind => {
                let text = self.value.as_deref().unwrap_or_default();
                scalar(kind, text).ok_or_else(|| path.to_owned())
            }
        }
    }
}

fn shape_of<'a>(model: &'a Model, reference: &Reference) -> &'a crate::models::Shape {
    model.shape(&reference.shape)
}

/// What a member is called in a request.
fn name_in(protocol: Protocol, member: &str, reference: &Reference) -> String {
    let capital = |name: &str| {
        let mut letters = name.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    match protocol {
        Protocol::Ec2 => reference
            .query
            .clone()
            .or_else(|| reference.location.as_deref().map(capital))
            .unwrap_or_else(|| member.to_owned()),
        Protocol::Query | Protocol::Json => reference.location.clone().unwrap_or_else(|| member.to_owned()),
    }
}

fn scalar(kind: &str, text: &str) -> Option<Value> {
    match kind {
        "boolean" => match text.to_ascii_lowercase().as_str() {
            "true" => Some(json!(true)),
            "false" => Some(json!(false)),
            _ => None,
        },
        "integer" | "long" => text.parse::<i64>().ok().map(|n| json!(n)),
        "double" | "float" => text.parse::<f64>().ok().map(|n| json!(n)),
        "timestamp" => text.parse::<jiff::Timestamp>().ok().map(api::epoch),
        _ => Some(json!(text)),
    }
}

fn unescape(text: &[u8]) -> String {
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;

    fn decode(service: &str, shape: &str, form: &str) -> Value {
        Form::parse(form.as_bytes()).decode(models::by_name(service).unwrap(), shape).unwrap()
    }

    #[test]
    fn elasticache_lists_use_their_members_name() {
        let input = decode(
            "elasticache",
            "CreateCacheSubnetGroupMessage",
            "Action=CreateCacheSubnetGroup&CacheSubnetGroupName=a&SubnetIds.SubnetIdentifier.2=s2\
             &SubnetIds.SubnetIdentifier.1=s1&Tags.Tag.1.Key=k&Tags.Tag.1.Value=v%20w",
        );
        assert_eq!(
            input,
            json!({"CacheSubnetGroupName": "a", "SubnetIds": ["s1", "s2"], "Tags": [{"Key": "k", "Value": "v w"}]})
        );
    }

    #[test]
    fn ec2_lists_are_flat() {
        let input = decode(
            "ec2",
            "AuthorizeSecurityGroupIngressRequest",
            "GroupId=sg-1&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=6379&IpPermissions.1.ToPort=6379\
             &IpPermissions.1.Groups.1.GroupId=sg-2&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/16",
        );
        let permission = json!({"IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379,
            "UserIdGroupPairs": [{"GroupId": "sg-2"}], "IpRanges": [{"CidrIp": "10.0.0.0/16"}]});
        assert_eq!(input, json!({"GroupId": "sg-1", "IpPermissions": [permission]}));
    }

    #[test]
    fn iam_lists_are_called_member() {
        let input = decode(
            "iam",
            "SimulatePrincipalPolicyRequest",
            "PolicySourceArn=arn:aws:iam::1:role/r&ActionNames.member.1=a:B",
        );
        assert_eq!(input, json!({"PolicySourceArn": "arn:aws:iam::1:role/r", "ActionNames": ["a:B"]}));
    }
}
