//! Upstash's management API v2: databases of one account. Answers conform to the published description
//! (upstash/docs, devops/developer-api/openapi.yml) plus the members every client uses.

mod database;
mod stats;

use serde_json::{Value, json};

use super::{ApiError, Reply};
use crate::cloud::Cloud;

/// Operations by HTTP method.
type Methods = &'static [(&'static str, &'static str)];

/// What a path below `/v2` means: operations by method, and the id in it.
pub fn route<'a>(parts: &[&'a str]) -> Option<(Methods, Option<&'a str>)> {
    Some(match parts {
        ["redis", "databases"] => (&[("GET", "ListDatabases")], None),
        ["redis", "database"] => (&[("POST", "CreateDatabase")], None),
        ["redis", "database", id] => (&[("GET", "GetDatabase"), ("DELETE", "DeleteDatabase")], Some(id)),
        ["redis", "rename", id] => (&[("POST", "RenameDatabase")], Some(id)),
        ["redis", "reset-password", id] => (&[("POST", "ResetPassword")], Some(id)),
        ["redis", "enable-tls", id] => (&[("POST", "EnableTls")], Some(id)),
        ["redis", "enable-eviction", id] => (&[("POST", "EnableEviction")], Some(id)),
        ["redis", "disable-eviction", id] => (&[("POST", "DisableEviction")], Some(id)),
        ["redis", "enable-autoupgrade", id] => (&[("POST", "EnableAutoUpgrade")], Some(id)),
        ["redis", "disable-autoupgrade", id] => (&[("POST", "DisableAutoUpgrade")], Some(id)),
        // The description of 2026; the one before had the verb first, as everywhere else.
        ["redis", id, "change-plan"] | ["redis", "change-plan", id] => (&[("POST", "ChangePlan")], Some(id)),
        ["redis", "update-budget", id] => (&[("PATCH", "UpdateBudget")], Some(id)),
        ["redis", "update-regions", id] => (&[("POST", "UpdateRegions")], Some(id)),
        ["redis", "stats", id] => (&[("GET", "GetStats")], Some(id)),
        _ => return None,
    })
}

/// Bodies of errors are not typed; the status is what counts.
fn refused(status: u16, message: impl Into<String>) -> ApiError {
    ApiError::new(&status.to_string(), message).with_status(status)
}

fn not_found() -> ApiError {
    refused(404, "database not found")
}

/// Runs an operation.
pub(super) async fn execute(cloud: &Cloud, operation: &str, input: Value, stale: bool) -> Reply {
    if super::mutates(operation) {
        cloud.shared.remember();
    }
    match operation {
        "ListDatabases" | "GetDatabase" => {
            let look = |state: &crate::state::State| match operation {
                "GetDatabase" => database::get(state, &input),
                _ => Ok(database::list(state)),
            };
            if stale { cloud.shared.read_stale(|state| look(state)) } else { cloud.shared.read(look) }
        }
        "CreateDatabase" => database::create(cloud, &input).await,
        "DeleteDatabase" => database::delete(cloud, &input).await,
        "ResetPassword" => database::reset_password(cloud, &input).await,
        "GetStats" => stats::get(cloud, &input).await,
        "RenameDatabase" | "EnableTls" | "EnableEviction" | "DisableEviction" | "EnableAutoUpgrade"
        | "DisableAutoUpgrade" | "UpdateBudget" => cloud.shared.change(|s| database::change(s, operation, &input)),
        "ChangePlan" | "UpdateRegions" => database::slow_change(cloud, operation, &input),
        _ => Err(refused(404, format!("unknown operation {operation}"))),
    }
}

fn ok() -> Value {
    json!("OK")
}
