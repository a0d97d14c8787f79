//! Tags of services, connectors and auto scaling configurations.

use serde_json::{Value, json};

use super::{invalid, invalid_state, not_found};
use crate::api::{ApiError, Call, Reply, required, strings, tags_in, tags_out};
use crate::state::{State, Tags};

/// Tags a resource can have.
const MOST: usize = 50;

fn tags_of<'a>(state: &'a mut State, arn: &str) -> Result<&'a mut Tags, ApiError> {
    let apprunner = &mut state.apprunner;
    if let Some(service) = apprunner.services.get_mut(arn).filter(|s| s.status != "DELETED") {
        return Ok(&mut service.tags);
    }
    if let Some(connector) = apprunner.connectors.get_mut(arn).filter(|c| c.deleted.is_none()) {
        return Ok(&mut connector.tags);
    }
    apprunner.scaling.get_mut(arn).map(|s| &mut s.tags).ok_or_else(|| not_found("Resource", arn))
}

/// A service that is being made or deleted refuses tags.
fn settled(state: &State, arn: &str) -> Result<(), ApiError> {
    let Some(service) = state.apprunner.services.get(arn) else { return Ok(()) };
    let latest = service.operations.front().map(|o| o.kind);
    if service.status == "OPERATION_IN_PROGRESS" && matches!(latest, Some("CREATE_SERVICE" | "DELETE_SERVICE")) {
        return Err(invalid_state(format!("Resource {arn} is in an invalid state for this operation.")));
    }
    Ok(())
}

pub(super) fn tag(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "ResourceArn");
    settled(call.state, arn)?;
    let new = tags_in(input, "Tags");
    if let Some(key) = new.keys().find(|key| key.starts_with("aws:")) {
        return Err(invalid(format!("Tag key {key} must not start with aws:")));
    }
    let tags = tags_of(call.state, arn)?;
    if tags.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>().len() > MOST {
        return Err(invalid(format!("A resource can have {MOST} tags.")));
    }
    tags.extend(new);
    Ok(json!({}))
}

pub(super) fn untag(call: &mut Call<'_>, input: &Value) -> Reply {
    let arn = required(input, "ResourceArn");
    settled(call.state, arn)?;
    let keys = strings(input, "TagKeys");
    tags_of(call.state, arn)?.retain(|key, _| !keys.contains(key));
    Ok(json!({}))
}

pub(super) fn list(call: &mut Call<'_>, input: &Value) -> Reply {
    let tags = tags_of(call.state, required(input, "ResourceArn"))?;
    Ok(json!({"Tags": tags_out(tags)}))
}
