//! Routes below `/_sandbox/`: calls without a vendor's protocol, faults, clock, request log.
//! Whatever it does not know it offers to the other half.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::api;
use crate::api::apprunner::platform;
use crate::cloud::Cloud;
use crate::dataplane::PlaneError;
use crate::fault::Fault;
use crate::wire::{Answer, Extra, plain, settle};

pub(crate) async fn answer(cloud: &Cloud, extra: &Extra, method: &Method, route: &str, body: &Bytes) -> Answer {
    let input: Value = match serde_json::from_slice(if body.is_empty() { b"null" } else { body }) {
        Ok(input) => input,
        Err(problem) => return Ok(refused(&format!("the body is not JSON: {problem}"))),
    };
    let done = match (method.as_str(), route) {
        ("POST", "call") => return call(cloud, input).await,
        ("GET", "log") => Ok(json!(cloud.shared.calls())),
        ("GET", "clock") => Ok(json!({"speed": cloud.shared.clock.speed()})),
        ("POST", "clock") => match input["speed"].as_f64().filter(|speed| *speed > 0.0) {
            Some(speed) => {
                cloud.shared.clock.set_speed(speed);
                Ok(json!({"speed": speed}))
            }
            None => Err("speed must be a number above 0".to_owned()),
        },
        ("GET", "fault") => Ok(json!(cloud.shared.faults(|f| f.list().to_vec()))),
        ("POST", "fault") => add_fault(cloud, input),
        ("DELETE", "fault") => Ok(json!({"removed": cloud.shared.faults(|f| f.remove(input["id"].as_u64()))})),
        ("POST", "store-fault") => store_fault(cloud, &input).await.map_err(|e| e.to_string()),
        ("POST", "ask") => ask(cloud, &input).await.map_err(|e| e.to_string()),
        ("POST", "push") => Ok(platform::push(cloud, input["image"].as_str().unwrap_or_default())),
        ("POST", "maintenance") => {
            let seconds = input["seconds"].as_u64().unwrap_or(300);
            platform::maintain(cloud, input["service"].as_str().unwrap_or_default(), Duration::from_secs(seconds))
        }
        ("POST", "release") => platform::release(cloud, input["service"].as_str().unwrap_or_default()),
        _ => match extra(route.to_owned(), input).await {
            Some(answer) => answer,
            None => return Ok(plain(404, "application/json", json!({"error": "no such route"}).to_string())),
        },
    };
    Ok(match done {
        Ok(value) => plain(200, "application/json", value.to_string()),
        Err(problem) => refused(&problem),
    })
}

fn refused(problem: &str) -> hyper::Response<http_body_util::Full<Bytes>> {
    plain(400, "application/json", json!({"error": problem}).to_string())
}

async fn call(cloud: &Cloud, input: Value) -> Answer {
    let (Some(service), Some(operation)) = (input["service"].as_str(), input["operation"].as_str()) else {
        return Ok(refused("service and operation must be given"));
    };
    let arguments = if input["input"].is_null() { json!({}) } else { input["input"].clone() };
    Ok(match settle(api::call(cloud, service, operation, arguments).await).await? {
        Ok(value) => plain(200, "application/json", value.to_string()),
        Err(error) => {
            let status = if error.status == 0 { 400 } else { error.status };
            plain(status, "application/json", json!({"code": error.code, "message": error.message}).to_string())
        }
    })
}

fn add_fault(cloud: &Cloud, input: Value) -> Result<Value, String> {
    let fault: Fault = serde_json::from_value(input).map_err(|e| format!("not a fault: {e}"))?;
    if fault.call.is_some() == fault.deployment.is_some() {
        return Err("a fault has exactly one of call and deployment".into());
    }
    Ok(json!({"id": cloud.shared.faults(|f| f.add(fault))}))
}

/// A store is named by its id or one of its vendor's names (replication group, serverless cache, database id or name).
fn store(cloud: &Cloud, input: &Value) -> String {
    let name = input["store"].as_str().unwrap_or_default();
    cloud.shared.read(|state| crate::network::store_id(state, name)).unwrap_or_else(|| name.to_owned())
}

/// `{store, command: [WORD, …]}`.
async fn ask(cloud: &Cloud, input: &Value) -> Result<Value, PlaneError> {
    let words = input["command"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Ok(json!({"reply": cloud.plane.ask_store(&store(cloud, input), words.collect()).await?}))
}

/// `{store, deny | allow: COMMAND}`, `{store, latencyMs}`, `{store, frozen}`.
async fn store_fault(cloud: &Cloud, input: &Value) -> Result<Value, PlaneError> {
    let store = store(cloud, input);
    if let Some(command) = input["deny"].as_str() {
        cloud.plane.deny_command(&store, command, true).await?;
    }
    if let Some(command) = input["allow"].as_str() {
        cloud.plane.deny_command(&store, command, false).await?;
    }
    if let Some(millis) = input["latencyMs"].as_u64() {
        cloud.plane.set_latency(&store, Duration::from_millis(millis)).await;
    }
    if let Some(frozen) = input["frozen"].as_bool() {
        cloud.plane.freeze_store(&store, frozen).await;
    }
    Ok(json!({"store": store}))
}
