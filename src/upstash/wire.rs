//! What Upstash sends, read leniently: unknown fields are allowed, missing ones too, numbers may come as strings.
//! Only the id is required. Pure.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

/// A database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its id.
    pub id: String,
    /// Its name; need not be unique.
    pub name: String,
    /// When it was made, where it is told.
    pub created: Option<Timestamp>,
    /// Host, lower case, completed where only a slug was sent.
    pub host: Option<String>,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is on.
    pub tls: bool,
    /// Its password, where it was sent.
    pub password: Option<SecretString>,
    /// How it stands.
    pub state: State,
    /// What is being changed; empty when nothing is.
    pub modifying: String,
    /// Its plan: `free`, `payg`, `pro`, `paid` …
    pub plan: Option<String>,
    /// Primary region.
    pub region: Option<String>,
    /// Connections it allows.
    pub max_clients: Option<u32>,
    /// Commands its plan allows in a period, where there is a limit.
    pub request_limit: Option<u64>,
    /// Whether it evicts.
    pub eviction: bool,
}

/// `state` of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Active,
    /// `suspended`, `passive`, `deleted` or one this version does not know: it does not.
    Other(String),
}

/// What a database has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands this month.
    pub monthly_requests: Option<u64>,
}

impl Database {
    /// The database in `body`, if there is one.
    pub(super) fn read(body: &Value) -> Option<Self> {
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Self {
            id: text("database_id")?.to_owned(),
            name: text("database_name").unwrap_or_default().to_owned(),
            created: number(body, "creation_time").and_then(|at| Timestamp::from_second(at.try_into().ok()?).ok()),
            host: text("endpoint").map(host),
            // Older databases use random ports: it is always read.
            port: number(body, "port").and_then(|port| u16::try_from(port).ok()).unwrap_or(6379),
            tls: body.get("tls").and_then(flag).unwrap_or(true),
            password: text("password").map(SecretString::from),
            state: match text("state") {
                None | Some("active") => State::Active,
                Some(other) => State::Other(crate::error::presentable(other, 64)),
            },
            modifying: text("modifying_state").unwrap_or_default().to_owned(),
            plan: text("type").map(str::to_owned),
            region: text("primary_region").map(str::to_owned),
            max_clients: number(body, "db_max_clients").and_then(|clients| u32::try_from(clients).ok()),
            request_limit: number(body, "db_request_limit").filter(|limit| *limit > 0),
            eviction: body.get("eviction").and_then(flag).unwrap_or(false),
        })
    }
}

impl Stats {
    pub(super) fn read(body: &Value) -> Self {
        Self { monthly_requests: number(body, "total_monthly_requests") }
    }
}

/// Why a call failed, from a body of no certain shape.
pub(super) fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(parsed) = serde_json::from_str::<Value>(&text) else {
        return crate::error::presentable(text.trim(), 300);
    };
    let found = ["error", "message"].iter().find_map(|name| parsed.get(name).and_then(Value::as_str));
    crate::error::presentable(found.or_else(|| parsed.as_str()).unwrap_or(text.trim()), 300)
}

/// The endpoint is described as a slug or a host name, and both have been seen.
fn host(endpoint: &str) -> String {
    let bare = endpoint.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.split(['/', ':']).next().unwrap_or(bare).to_ascii_lowercase();
    if bare.contains('.') { bare } else { format!("{bare}.upstash.io") }
}

fn number(body: &Value, name: &str) -> Option<u64> {
    let value = body.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_database_is_read_whatever_else_is_sent() {
        let database = Database::read(&json!({
            "database_id": "id-1", "database_name": "liberty", "endpoint": "beloved-stallion-58500", "port": 6379,
            "tls": true, "password": "hidden-word", "state": "active", "modifying_state": "", "type": "payg",
            "db_max_clients": 10000, "db_acl_enabled": "true", "brand_new": {"a": [1]},
            "creation_time": 1_784_000_000,
        }))
        .unwrap();
        assert_eq!(database.host.as_deref(), Some("beloved-stallion-58500.upstash.io"));
        assert_eq!(database.max_clients, Some(10000));
        assert_eq!(database.state, State::Active);
        assert_eq!(database.created, Timestamp::from_second(1_784_000_000).ok());
        assert_eq!(database.password.as_ref().unwrap().expose_secret(), "hidden-word");
        assert!(!format!("{database:?}").contains("hidden-word"));
    }

    #[test]
    fn only_the_id_is_required() {
        let database = Database::read(&json!({ "database_id": "id-1" })).unwrap();
        assert_eq!((database.host, database.port, database.tls), (None, 6379, true));
        assert!(Database::read(&json!({ "database_name": "x" })).is_none());
    }

    #[test]
    fn hosts_are_completed_and_lower_case() {
        for (sent, expected) in [
            ("Steady-Stud-32559.upstash.io", "steady-stud-32559.upstash.io"),
            ("slug-1", "slug-1.upstash.io"),
            ("https://a.upstash.io:6379/x", "a.upstash.io"),
        ] {
            assert_eq!(host(sent), expected);
        }
    }

    #[test]
    fn a_database_that_does_not_serve_says_so() {
        let database = Database::read(&json!({ "database_id": "i", "state": "passive", "port": "31234" })).unwrap();
        assert_eq!(database.state, State::Other("passive".into()));
        assert_eq!(database.port, 31234);
    }

    #[test]
    fn the_reason_is_found_in_every_shape_seen() {
        assert_eq!(reason(br#"{"error":"bad region","message":"other"}"#), "bad region");
        assert_eq!(reason(br#"{"code":1,"message":"bad plan"}"#), "bad plan");
        assert_eq!(reason(br#""Unauthorized""#), "Unauthorized");
        assert_eq!(reason(b"plain text\n"), "plain text");
    }
}
