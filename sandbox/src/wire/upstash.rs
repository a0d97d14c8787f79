//! The Upstash management API over HTTP: Basic authentication, verb paths, JSON.

use base64::Engine;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::{Answer, plain, settle};
use crate::api;
use crate::cloud::Cloud;

pub(super) async fn answer(cloud: &Cloud, head: &Parts, body: &Bytes) -> Answer {
    let settings = &cloud.shared.settings;
    let wanted = format!("{}:{}", settings.upstash_email, settings.upstash_key);
    let wanted = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(wanted));
    if head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) != Some(&wanted) {
        return Ok(error(401, "Unauthorized"));
    }
    let path = head.uri.path().strip_prefix("/v2").unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let Some((operation, id)) = api::upstash::route(&parts) else { return Ok(error(404, "Not Found")) };
    let Some(operation) = operation.iter().find(|(method, _)| *method == head.method.as_str()).map(|(_, o)| *o) else {
        return Ok(error(405, "Method Not Allowed"));
    };
    let mut input: Value = if body.is_empty() {
        json!({})
    } else {
        match serde_json::from_slice(body) {
            Ok(input @ Value::Object(_)) => input,
            Ok(_) | Err(_) => return Ok(error(400, "invalid request body")),
        }
    };
    if let Some(id) = id {
        input["id"] = json!(id);
    }
    for pair in head.uri.query().unwrap_or_default().split('&') {
        if let Some((name @ ("credentials" | "period"), value)) = pair.split_once('=') {
            input[name] = json!(value);
        }
    }
    Ok(match settle(api::call(cloud, "upstash", operation, input).await).await? {
        Ok(value) => plain(200, "application/json", value.to_string()),
        Err(failed) => error(failed.status, &failed.message),
    })
}

/// The official CLI reads `error`, then `message`; the published description has `code` and `message`.
fn error(status: u16, message: &str) -> Response<Full<Bytes>> {
    plain(
        status,
        "application/json",
        json!({"error": message, "code": status.to_string(), "message": message}).to_string(),
    )
}
