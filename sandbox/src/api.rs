//! The operations: one function each from state and input to an answer or the vendor's error, whoever calls
//! (the wire, `sandbox call`). No HTTP here; what takes time goes on in tasks after the answer.

pub mod apprunner;
pub mod ec2;
pub mod elasticache;
pub mod iam;
pub mod logs;
pub mod policy;
pub mod secretsmanager;
pub mod upstash;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::{CallRecord, Cloud};
use crate::fault::CallFault;
use crate::models::{self, Model, Protocol, Violation};
use crate::state::{State, Tags};

/// The vendor's error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// As on the wire.
    pub code: String,
    /// Text.
    pub message: String,
    /// HTTP status; 0 = what the service's description says about the code.
    pub status: u16,
}

impl ApiError {
    /// An error of the service's own; the status comes from its description (400 if it has none).
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), status: 0 }
    }

    /// With a status of its own.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// The answer of an operation: members as the vendor names them.
pub type Reply = Result<Value, ApiError>;

/// What an operation works on.
pub struct Call<'a> {
    /// The state, locked for the time of the operation.
    pub state: &'a mut State,
    /// For what goes on afterwards.
    pub cloud: &'a Cloud,
    /// Time of the call.
    pub now: Timestamp,
}

/// An operation that answers at once.
pub type Operation = fn(&mut Call<'_>, &Value) -> Reply;

/// What comes of a call.
#[derive(Debug)]
pub enum Disposition {
    /// Answer.
    Reply(Reply),
    /// No answer, the connection stays open.
    Hang,
    /// The connection is reset.
    Drop,
}

/// Runs a call, with the faults that strike it, and writes it into the request log.
pub async fn call(cloud: &Cloud, service: &str, operation: &str, input: Value) -> Disposition {
    let mutating = mutates(operation);
    let resource = resource_of(&input);
    if service == "apprunner" {
        apprunner::platform::other_hand(cloud, operation, &input);
    }
    let fault = cloud.shared.faults(|faults| faults.call(service, operation, mutating));
    let (disposition, outcome) = match fault {
        None => replied(execute(cloud, service, operation, input, false).await),
        Some(CallFault::Stale) => replied(execute(cloud, service, operation, input, true).await),
        Some(CallFault::Hang) => (Disposition::Hang, "hang".to_owned()),
        Some(CallFault::Lost) => (Disposition::Drop, "lost".to_owned()),
        Some(CallFault::LostReply) => {
            let reply = execute(cloud, service, operation, input, false).await;
            let outcome = reply.err().map_or("lost-reply".to_owned(), |e| format!("lost-reply {}", e.code));
            (Disposition::Drop, outcome)
        }
        Some(
            kind @ (CallFault::Throttle
            | CallFault::Internal
            | CallFault::Denied
            | CallFault::ExpiredCredentials
            | CallFault::NotSubscribed
            | CallFault::OtherHand),
        ) => replied(Err(vendor_error(service, operation, kind))),
    };
    cloud.shared.record(CallRecord {
        time: cloud.shared.clock.now().to_string(),
        service: service.to_owned(),
        operation: operation.to_owned(),
        resource,
        outcome,
        mutating,
    });
    disposition
}

fn replied(reply: Reply) -> (Disposition, String) {
    let outcome = reply.as_ref().err().map_or("ok".to_owned(), |e| e.code.clone());
    (Disposition::Reply(reply), outcome)
}

/// Whether an operation may change something, by its name.
pub fn mutates(operation: &str) -> bool {
    !["Describe", "List", "Get", "Filter", "Simulate"].iter().any(|verb| operation.starts_with(verb))
}

fn resource_of(input: &Value) -> String {
    const NAMES: [&str; 24] = [
        "ServiceArn",
        "ServiceName",
        "VpcConnectorArn",
        "VpcConnectorName",
        "ResourceArn",
        "SecretId",
        "Name",
        "RoleName",
        "PolicySourceArn",
        "ReplicationGroupId",
        "ServerlessCacheName",
        "CacheSubnetGroupName",
        "ResourceName",
        "GroupId",
        "GroupName",
        "VpcId",
        "SubnetId",
        "RouteTableId",
        "logGroupName",
        "id",
        "database_name",
        "name",
        "AutoScalingConfigurationArn",
        "AutoScalingConfigurationName",
    ];
    NAMES.iter().find_map(|name| input[name].as_str()).unwrap_or_default().to_owned()
}

async fn execute(cloud: &Cloud, service: &str, operation: &str, input: Value, stale: bool) -> Reply {
    if service == "upstash" {
        return upstash::execute(cloud, operation, input, stale).await;
    }
    let unknown = || unknown_operation(models::by_name(service), operation);
    let model = models::by_name(service).ok_or_else(unknown)?;
    let described = model.operations.get(operation).ok_or_else(unknown)?;
    let input = match &described.input {
        Some(shape) => model.admit(shape, input).map_err(|violation| violated(model, &violation))?,
        None => json!({}),
    };
    let run: Operation = match service {
        "apprunner" => apprunner::operation(operation),
        "ec2" => ec2::operation(operation),
        "elasticache" => elasticache::operation(operation),
        "iam" | "sts" => iam::operation(operation),
        "secretsmanager" => secretsmanager::operation(operation),
        "logs" => logs::operation(operation),
        _ => None,
    }
    .ok_or_else(unknown)?;
    let reply = answer(cloud, run, operation, &input, stale);
    if let (Ok(value), Some(shape)) = (&reply, &described.output) {
        for member in model.strangers(shape, value) {
            tracing::error!(service, operation, member, "the vendor's description has no such member");
        }
    }
    reply
}

fn answer(cloud: &Cloud, run: Operation, operation: &str, input: &Value, stale: bool) -> Reply {
    let now = cloud.shared.clock.now();
    if stale {
        return cloud.shared.read_stale(|state| run(&mut Call { state, cloud, now }, input));
    }
    if mutates(operation) {
        cloud.shared.remember();
    }
    cloud.shared.change(|state| run(&mut Call { state, cloud, now }, input))
}

/// What the vendors answer to an operation they do not know.
pub fn unknown_operation(model: Option<&Model>, operation: &str) -> ApiError {
    match model.map(|m| (m.protocol, m.version.as_str())) {
        Some((Protocol::Ec2, _)) => {
            ApiError::new("InvalidAction", format!("The action {operation} is not valid for this web service."))
                .with_status(400)
        }
        Some((Protocol::Query, version)) => {
            ApiError::new("InvalidAction", format!("Could not find operation {operation} for version {version}"))
                .with_status(400)
        }
        Some((Protocol::Json, _)) | None => {
            ApiError::new("UnknownOperationException", format!("The operation {operation} is not known."))
                .with_status(404)
        }
    }
}

fn violated(model: &Model, violation: &Violation) -> ApiError {
    let (code, message) = match violation {
        Violation::Type(path) => ("SerializationException", format!("Unexpected type of value at '{path}'")),
        Violation::Missing(path) if model.protocol == Protocol::Ec2 => {
            ("MissingParameter", format!("The request must contain the parameter {path}"))
        }
        Violation::Missing(path) => (
            validation_code(model),
            format!(
                "1 validation error detected: Value null at '{path}' failed to satisfy constraint: Member must not be null"
            ),
        ),
        Violation::Constraint(path, rule) => (
            validation_code(model),
            format!("1 validation error detected: Value at '{path}' failed to satisfy constraint: {rule}"),
        ),
    };
    ApiError::new(code, message).with_status(400)
}

fn validation_code(model: &Model) -> &'static str {
    match (model.protocol, model.service.as_str()) {
        (Protocol::Json, "apprunner") => "InvalidRequestException",
        (Protocol::Json, "logs") => "InvalidParameterException",
        (Protocol::Json, _) => "ValidationException",
        (Protocol::Query, _) => "ValidationError",
        (Protocol::Ec2, _) => "InvalidParameterValue",
    }
}

/// The vendor's words for a fault.
fn vendor_error(service: &str, operation: &str, fault: CallFault) -> ApiError {
    use CallFault::{Denied, ExpiredCredentials, NotSubscribed, Throttle};
    let protocol = models::by_name(service).map(|m| m.protocol);
    let who = "arn:aws:iam::123456789012:user/sandbox";
    let denied = format!("User: {who} is not authorized to perform: {service}:{operation}");
    let (code, message, status) = match (fault, protocol) {
        (Throttle, Some(Protocol::Json)) => ("ThrottlingException", "Rate exceeded".into(), 400),
        (Throttle, Some(Protocol::Query)) => ("Throttling", "Rate exceeded".into(), 400),
        (Throttle, Some(Protocol::Ec2)) => ("RequestLimitExceeded", "Request limit exceeded.".into(), 503),
        (Throttle, None) => ("429", "Too Many Requests".into(), 429),
        (Denied, Some(Protocol::Json)) => ("AccessDeniedException", denied, 400),
        (Denied, Some(Protocol::Query)) => ("AccessDenied", denied, 403),
        (Denied, Some(Protocol::Ec2)) => {
            ("UnauthorizedOperation", "You are not authorized to perform this operation.".into(), 403)
        }
        (Denied, None) => ("403", "Forbidden".into(), 403),
        (ExpiredCredentials, Some(Protocol::Json)) => {
            ("ExpiredTokenException", "The security token included in the request is expired".into(), 403)
        }
        (ExpiredCredentials, Some(Protocol::Query)) => {
            ("ExpiredToken", "The security token included in the request is expired".into(), 403)
        }
        (ExpiredCredentials, Some(Protocol::Ec2)) => ("RequestExpired", "Request has expired.".into(), 400),
        (ExpiredCredentials, None) => ("401", "Unauthorized".into(), 401),
        (NotSubscribed, _) => {
            ("SubscriptionRequiredException", "The AWS Access Key Id needs a subscription for the service".into(), 400)
        }
        (_, Some(Protocol::Json)) if service == "apprunner" => {
            ("InternalServiceErrorException", "An internal error occurred.".into(), 500)
        }
        (_, Some(Protocol::Json)) if service == "secretsmanager" => {
            ("InternalServiceError", "An internal error occurred.".into(), 500)
        }
        (_, Some(Protocol::Json)) => {
            ("ServiceUnavailableException", "The service cannot complete the request.".into(), 503)
        }
        (_, Some(Protocol::Query)) => ("InternalFailure", "An internal error occurred.".into(), 500),
        (_, Some(Protocol::Ec2)) => ("InternalError", "An internal error has occurred".into(), 500),
        (_, None) => ("500", "Internal Server Error".into(), 500),
    };
    ApiError::new(code, message).with_status(status)
}

/// Text of a member, if it is there.
pub(crate) fn text<'a>(input: &'a Value, member: &str) -> Option<&'a str> {
    input[member].as_str()
}

/// Text of a member that the description requires; empty if a caller found a way around it.
pub(crate) fn required<'a>(input: &'a Value, member: &str) -> &'a str {
    input[member].as_str().unwrap_or_default()
}

/// A list of strings; absent = empty.
pub(crate) fn strings(input: &Value, member: &str) -> Vec<String> {
    let items = input[member].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `[{Key, Value}]` as tags.
pub(crate) fn tags_in(input: &Value, member: &str) -> Tags {
    let items = input[member].as_array().map(Vec::as_slice).unwrap_or_default();
    let pair =
        |tag: &Value| Some((tag["Key"].as_str()?.to_owned(), tag["Value"].as_str().unwrap_or_default().to_owned()));
    items.iter().filter_map(pair).collect()
}

/// Tags as `[{Key, Value}]`.
pub(crate) fn tags_out(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// Epoch seconds, as answers carry timestamps.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
pub(crate) fn epoch(at: Timestamp) -> Value {
    json!(at.as_millisecond() as f64 / 1000.0)
}

/// Drops null members: the vendors leave out what is not there.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// One page of `items`, and the token of the next. Tokens are opaque to clients: an offset in base 36 with a mark.
pub(crate) fn page(items: Vec<Value>, token: Option<&str>, size: usize) -> Result<(Vec<Value>, Option<String>), ()> {
    let start = match token {
        None => 0,
        Some(token) => token.strip_prefix("sbx-").and_then(|n| usize::from_str_radix(n, 16).ok()).ok_or(())?,
    };
    let more = (items.len() > start.saturating_add(size)).then(|| format!("sbx-{:x}", start + size));
    Ok((items.into_iter().skip(start).take(size).collect(), more))
}
