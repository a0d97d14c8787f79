//! What a call is, told by its request alone: a verb, what it is about, and the how-manieth of its kind in a run. Names that
//! differ from run to run are masked, so that the same call has the same name in each.

use std::fmt;

use axum::http::{HeaderMap, Method, Uri};
use serde_json::Value;

/// A call, before it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) verb: String,
    pub(crate) resource: String,
    /// It may change something.
    pub(crate) changes: bool,
}

/// A call of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Boundary {
    pub(crate) call: Call,
    /// From 1.
    pub(crate) nth: u32,
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.call.verb, self.call.resource, self.nth)
    }
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// The request is not sent on.
    Before,
    /// The answer was given, and is not passed to the operator.
    After,
}

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kill {
    pub(crate) side: Side,
    pub(crate) boundary: Boundary,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::After => "after",
        };
        write!(f, "{side} {}", self.boundary)
    }
}

/// Takes what differs from run to run out of a text: the given words, and ids of eight and more hexadecimal digits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask(Vec<(String, &'static str)>);

impl Mask {
    pub(crate) fn of(words: Vec<(String, &'static str)>) -> Self {
        Self(words)
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let text = self.0.iter().fold(text.to_owned(), |text, (word, with)| text.replace(word.as_str(), with));
        ids_masked(&suffix_of_secret_cut(&text))
    }

    pub(crate) fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(all) => all.iter().map(|one| self.value(one)).collect(),
            Value::Object(all) => {
                Value::Object(all.iter().map(|(name, one)| (self.text(name), self.value(one))).collect())
            }
            other => other.clone(),
        }
    }
}

/// An ARN of a secret ends in six characters of chance; a reference to a key of it may follow.
fn suffix_of_secret_cut(text: &str) -> String {
    let mut parts: Vec<&str> = text.split(':').collect();
    if let ["arn", _, "secretsmanager", _, _, "secret", name, ..] = &mut parts[..]
        && let Some(at) = name.len().checked_sub(7).filter(|at| name.as_bytes()[*at] == b'-')
    {
        *name = &name[..at];
    }
    parts.join(":")
}

fn ids_masked(text: &str) -> String {
    let (mut out, mut run) = (String::new(), String::new());
    let end = |out: &mut String, run: &mut String| {
        let digits = run.chars().filter(char::is_ascii_hexdigit).count();
        out.push_str(if digits >= 8 { "~" } else { run.as_str() });
        run.clear();
    };
    for c in text.chars() {
        if matches!(c, '0'..='9' | 'a'..='f' | '-') {
            run.push(c);
        } else {
            end(&mut out, &mut run);
            out.push(c);
        }
    }
    end(&mut out, &mut run);
    out
}

const READING: [&str; 6] = ["Describe", "List", "Get", "Filter", "Simulate", "BatchGet"];
/// What says which thing a call is about, the first that is there.
const NAMING: [&str; 12] = [
    "SecretId",
    "Name",
    "ServiceName",
    "VpcConnectorName",
    "ServiceArn",
    "VpcConnectorArn",
    "ResourceArn",
    "ResourceName",
    "ReplicationGroupId",
    "CacheSubnetGroupName",
    "GroupId",
    "RoleName",
];

/// A call of the clouds.
pub(crate) fn of_a_cloud(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8], mask: &Mask) -> Call {
    let aws = |operation: &str, resource: Option<&str>| Call {
        verb: operation.to_owned(),
        resource: mask.text(resource.unwrap_or("-")),
        changes: !READING.iter().any(|word| operation.starts_with(word)),
    };
    if let Some(path) = uri.path().strip_prefix("/v2/") {
        let changes = method != Method::GET;
        return Call { verb: method.to_string(), resource: mask.text(path), changes };
    }
    if let Some(target) = headers.get("x-amz-target").and_then(|target| target.to_str().ok()) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let resource = NAMING.iter().find_map(|name| body[*name].as_str());
        return aws(target.rsplit('.').next().unwrap_or(target), resource);
    }
    let form = String::from_utf8_lossy(body).into_owned();
    let field = |wanted: &str| {
        let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    aws(field("Action").unwrap_or("-"), NAMING.iter().find_map(|name| field(name)))
}

/// A call of the API server; nothing where it is one that says nothing about our objects: leases, events, watches.
pub(crate) fn of_the_api_server(method: &Method, uri: &Uri, mask: &Mask) -> Option<Call> {
    let query = uri.query().unwrap_or_default();
    let path = uri.path();
    if path.contains("/leases") || path.contains("/events") || query.contains("watch=") {
        return None;
    }
    let resource =
        path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/')).map_or(path, |(_, rest)| rest);
    let kind = if method == Method::PATCH && !path.ends_with("/status") { "PATCH metadata" } else { method.as_str() };
    Some(Call { verb: kind.to_owned(), resource: mask.text(resource), changes: method != Method::GET })
}

#[test]
fn a_call_has_the_same_name_in_every_run() {
    let mask = Mask::of(vec![("kills-7".to_owned(), "NS")]);
    let masked = |text: &str| mask.text(text);
    assert_eq!(
        masked("sessionbackend/default/kills-7/web/epochs/1.0d3adb33f00d/REDIS_URL"),
        "sessionbackend/default/NS/web/epochs/1.~/REDIS_URL"
    );
    assert_eq!(masked("redis/database/96ad0856-03b1-4ee7-9666-e81abd0349e1"), "redis/database/~");
    assert_eq!(masked("epochs/1.decbefed/REDIS_URL"), "epochs/1.~/REDIS_URL", "one in thousands has letters only");
    assert_eq!(masked("us-east-1 default cafe"), "us-east-1 default cafe");
    assert_eq!(
        masked("arn:aws:secretsmanager:us-east-1:1:secret:a/b-AbCdEf:url::"),
        "arn:aws:secretsmanager:us-east-1:1:secret:a/b:url::"
    );
}

#[test]
fn leases_events_and_watches_are_no_boundaries() {
    let call = |method: Method, uri: &str| of_the_api_server(&method, &uri.parse().unwrap(), &Mask::default());
    assert_eq!(call(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/x"), None);
    assert_eq!(call(Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events"), None);
    assert_eq!(call(Method::GET, "/apis/sessionbackend.dev/v1alpha1/namespaces/a/sessionbackends?watch=true"), None);
    let status =
        call(Method::PATCH, "/apis/sessionbackend.dev/v1alpha1/namespaces/a/sessionbackends/web/status").unwrap();
    assert_eq!(
        (status.verb.as_str(), status.resource.as_str(), status.changes),
        ("PATCH", "sessionbackends/web/status", true)
    );
    assert!(!call(Method::GET, "/api/v1/namespaces/a/secrets/upstash-api").unwrap().changes);
}
