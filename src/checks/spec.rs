//! A check as it is written: in `spec.checks`, in an override, in a runbook file. Every field is optional so that the
//! same shape serves all three; `parse` says what is missing or wrong. Bounds stand in the schema and are checked again there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Severity, Stage};

/// An admission rule: what an API server refuses before anything is stored. `parse` says the same of what is older.
#[derive(Clone, Copy, Debug)]
struct Rule {
    cel: &'static str,
    message: &'static str,
    field: &'static str,
}

impl Rule {
    const fn new(field: &'static str, cel: &'static str, message: &'static str) -> Self {
        Self { cel, message, field }
    }

    fn json(self) -> Value {
        let mut rule = json!({ "rule": self.cel, "message": self.message });
        if !self.field.is_empty() {
            rule["fieldPath"] = self.field.into();
        }
        rule
    }
}

const LATER: &str = "is not offered by this version; use one of redis, http, session, logs, budget";

const CHECKS: [Rule; 7] = [
    Rule::new(
        "",
        "[has(self.redis), has(self.http), has(self.session), has(self.logs), has(self.budget), has(self.webSocket), \
         has(self.burst), has(self.progress), has(self.restart)].exists(kind, kind)",
        "says nothing to look at; set one of redis, http, session, logs, budget",
    ),
    Rule::new(
        "",
        "[has(self.redis), has(self.http), has(self.session), has(self.logs), has(self.budget), has(self.webSocket), \
         has(self.burst), has(self.progress), has(self.restart)].filter(kind, kind).size() <= 1",
        "looks at several things; split it into one check for each of redis, http, session, logs, budget",
    ),
    Rule::new(".webSocket", "!has(self.webSocket)", LATER),
    Rule::new(".burst", "!has(self.burst)", LATER),
    Rule::new(".progress", "!has(self.progress)", LATER),
    Rule::new(".restart", "!has(self.restart)", LATER),
    Rule::new(
        ".consecutive",
        "!has(self.consecutive) || !has(self.attempts) || self.consecutive <= self.attempts",
        "is more than attempts; lower it or raise attempts",
    ),
];

/// The host is the service's own, always: nothing here may be read as another one.
const PATHS: [Rule; 2] = [
    Rule::new(
        "",
        "self.startsWith('/') && !self.startsWith('//')",
        "must start with exactly one /; write only the path, the host is the service's own",
    ),
    Rule::new(
        "",
        r"self.matches('^([!$-;=?-Z_a-z~]|\\[|\\]|[{](token|random)[}])*$')",
        "holds a character that is not one of a URL's path; percent-encode it",
    ),
];

const PLAIN_SECRET: Rule = Rule::new(
    ".value",
    "!has(self.value) || self.value.contains('{token}') || \
     !(self.name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie', 'x-api-key'])",
    "is a secret; put it into a Secret and use secretKeyRef",
);

/// A duration within these limits; what is none has the wrong form, which the pattern says.
fn between(shortest: &str, longest: &str) -> Value {
    json!({
        "rule": format!(
            "!self.matches('^([0-9]{{1,7}}(ms|s|m|h))+$') || \
             (duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}'))"
        ),
        "message": format!("is out of range; use {shortest} to {longest}"),
    })
}

/// One check: a name, how it is judged, and exactly one of `redis`, `http`, `session`, `logs`, `budget`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = CHECKS.map(Rule::json)))]
pub struct CheckSpec {
    /// Its name, unique in the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Not made at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// What a failure leads to; `Gate` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// A failure counts even where the baseline failed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Most tries in one run; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub attempts: Option<u32>,
    /// Successes in a row that make it pass; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive: Option<u32>,
    /// Time for one try, 100ms–120s; 10s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,7}(ms|s|m|h))+$"), extend("x-kubernetes-validations" = [between("100ms", "2m")]))]
    pub timeout: Option<String>,
    /// Pause between two tries, 0s–60s; 1s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,7}(ms|s|m|h))+$"), extend("x-kubernetes-validations" = [between("0s", "1m")]))]
    pub interval: Option<String>,
    /// What is expected; `Pass` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// The stages it is made at; by default those that suit its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6))]
    pub stages: Option<Vec<Stage>>,
    /// The services it is made on; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10), inner(length(min = 1, max = 40)))]
    pub services: Option<Vec<String>>,
    /// Made only while the store is of this sort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreCondition>,
    /// Looks at the store itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
    /// Sends one request to a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<RequestSpec>,
    /// Creates one session and reads it many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionSpec>,
    /// Looks at a service's logs since the cut-over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogsSpec>,
    /// Compares what is needed with what the store gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// Not offered by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_socket: Option<Reserved>,
    /// Not offered by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Reserved>,
    /// Not offered by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Reserved>,
    /// Not offered by this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Reserved>,
}

/// The settings of a kind this version does not offer: taken as they are, so that the refusal can name the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Reserved(pub Map<String, Value>);

/// What is expected of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Expect {
    /// It works.
    #[default]
    Pass,
    /// The other side does not offer it and says so.
    Unsupported,
}

/// The sort of store a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StoreCondition {
    /// The services are told of a Redis.
    Redis,
    /// The services are told of none.
    Disabled,
}

/// A key of a Secret in the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Looks at the store itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisSpec {
    /// Whether SETEX, GET, TTL and DEL are tried on a key of our own; true by default, never at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<bool>,
    /// The expiry of that key, 5s–24h; 60s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,7}(ms|s|m|h))+$"), extend("x-kubernetes-validations" = [between("5s", "24h")]))]
    pub ttl: Option<String>,
    /// Limit on the time of a PING, seen from where the check is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencySpec>,
    /// `Required` or `Any`; `Any` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Most connections in use, percent of the store's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_connected_percent: Option<u32>,
}

/// Whether a connection must be TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tls {
    /// It must.
    Required,
    /// It need not.
    Any,
}

/// Limit on the time of a PING.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LatencySpec {
    /// Which percentile; 95 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percentile: Option<u32>,
    /// How long it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,7}(ms|s|m|h))+$"), extend("x-kubernetes-validations" = [between("1ms", "10s")]))]
    pub max: Option<String>,
    /// How many PINGs are sent; 20 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub samples: Option<u32>,
}

/// One request to a service and what its answer should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestSpec {
    /// `GET` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Path and query on the service's own host, starting with `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = PATHS.map(Rule::json)))]
    pub path: Option<String>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub headers: Option<Vec<HeaderSpec>>,
    /// The body to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub body: Option<String>,
    /// The body's type; `application/json` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub content_type: Option<String>,
    /// Statuses that count as success; 200 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 100, max = 599)))]
    pub status: Option<Vec<u16>>,
    /// Places of the JSON answer (`a.b.0` or `/a/b/0`) and the scalar each must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub json: Option<BTreeMap<String, Scalar>>,
    /// Places of the JSON answer that must be there, whatever they hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub present: Option<Vec<String>>,
    /// Longest time to the end of the answer, connection included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,7}(ms|s|m|h))+$"), extend("x-kubernetes-validations" = [between("1ms", "2m")]))]
    pub max_latency: Option<String>,
}

/// A string, a number or a boolean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Scalar(pub Value);

/// A header to send: a plain value, or one from a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [PLAIN_SECRET.json()]))]
pub struct HeaderSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value, if it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
    /// What stands before the secret, such as `Bearer ` with its blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub prefix: Option<String>,
    /// Where its value is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`.
    #[default]
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether it promises to change nothing.
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// Creates one session and reads it many times. `{token}` stands for the session, `{random}` for 16 hex digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionSpec {
    /// Makes the session; `POST` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<RequestSpec>,
    /// Where its answer carries the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
    /// Reads the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<RequestSpec>,
    /// Ends the session; `POST` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RequestSpec>,
    /// How often it is read, each time on a connection of its own; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub times: Option<u32>,
    /// How long after its creation it may be refused, 0s–60s; 0s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]{1,7}(ms|s|m|h))+$"), extend("x-kubernetes-validations" = [between("0s", "1m")]))]
    pub grace: Option<String>,
    /// The header that tells which instance answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub instance_header: Option<String>,
    /// How many different instances must have answered; needs `instanceHeader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 25))]
    pub min_instances: Option<u32>,
}

/// Where an answer carries a session: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenSpec {
    /// The cookie's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub cookie: Option<String>,
    /// The place in the JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub json: Option<String>,
}

/// Looks at a service's logs since the cut-over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogsSpec {
    /// `Application` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<LogGroup>,
    /// Literal texts of which each must appear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    pub appear: Option<Vec<String>>,
    /// Literal texts of which none may appear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    pub absent: Option<Vec<String>>,
}

/// The log groups App Runner keeps for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum LogGroup {
    /// What the app writes.
    #[default]
    Application,
    /// What App Runner writes about deployments.
    Service,
}

/// Compares what is needed with what the store gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetSpec {
    /// Pool × instances × 2 against the connection limit: a deployment doubles the instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionBudgetSpec>,
    /// The app's commands and ours against the quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<CommandBudgetSpec>,
}

/// Connections a deployment needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionBudgetSpec {
    /// Connections of one instance; `app.pool.max` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_instance: Option<u32>,
    /// Most instances of a service; its scaling by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub instances: Option<u32>,
    /// The limit where the store does not tell one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub limit: Option<u32>,
    /// Most of the limit that may be needed; 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent: Option<u32>,
}

/// Commands the app sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandBudgetSpec {
    /// Commands a day; `app.commandsPerDay` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub per_day: Option<u64>,
    /// The daily limit where the store does not tell a quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub limit_per_day: Option<u64>,
    /// Most of the quota that may be needed; 100 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent: Option<u32>,
}
