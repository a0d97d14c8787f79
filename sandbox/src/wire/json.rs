//! awsJson1_0 and awsJson1_1: `X-Amz-Target` in, JSON out.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::{Answer, Signature, plain, settle, signature};
use crate::api::{self, ApiError, Reply};
use crate::cloud::Cloud;
use crate::models::{self, Model};
use crate::state;

pub(super) async fn answer(cloud: &Cloud, target: &str, headers: &HeaderMap, body: &Bytes) -> Answer {
    let (prefix, operation) = target.split_once('.').unwrap_or((target, ""));
    let Some(model) = models::all().iter().find(|m| m.target.as_deref() == Some(prefix)) else {
        return Ok(write(None, &Err(api::unknown_operation(None, operation))));
    };
    match signature(headers) {
        Signature::Missing => {
            let missing = ApiError::new("MissingAuthenticationTokenException", "Missing Authentication Token");
            return Ok(write(Some(model), &Err(missing.with_status(403))));
        }
        Signature::Unknown(name) => return Ok(write(Some(model), &Err(wrong_scope(model, name)))),
        Signature::Known(signed) if signed.service != model.service => {
            return Ok(write(Some(model), &Err(wrong_scope(model, &signed.signing))));
        }
        Signature::Known(_) => {}
    }
    let input: Value = match serde_json::from_slice(if body.is_empty() { b"{}" } else { body }) {
        Ok(input) => input,
        Err(_) => return Ok(write(Some(model), &Err(ApiError::new("SerializationException", "")))),
    };
    let reply = settle(api::call(cloud, &model.service, operation, input).await).await?;
    Ok(write(Some(model), &reply))
}

fn wrong_scope(model: &Model, name: &str) -> ApiError {
    let text = format!("Credential should be scoped to correct service: '{}' (got '{name}').", model.signing);
    ApiError::new("InvalidSignatureException", text).with_status(403)
}

fn write(model: Option<&Model>, reply: &Reply) -> Response<Full<Bytes>> {
    let version = model.and_then(|m| m.json.as_deref()).unwrap_or("1.1");
    let content_type = format!("application/x-amz-json-{version}");
    let (status, body, error) = match reply {
        Ok(value) if value.is_null() => (200, json!({}), None),
        Ok(value) => (200, value.clone(), None),
        Err(error) => {
            let declared = model.and_then(|m| m.errors.get(&error.code)).copied().unwrap_or(400);
            let status = if error.status == 0 { declared } else { error.status };
            (status, error_body(model, error), Some(error.code.as_str()))
        }
    };
    let mut response = plain(status, &content_type, body.to_string());
    let headers = response.headers_mut();
    if let Ok(id) = state::uuid().parse() {
        headers.insert("x-amzn-requestid", id);
    }
    if let Some(code) = error.and_then(|code| code.parse().ok()) {
        headers.insert("x-amzn-errortype", code);
    }
    response
}

/// App Runner's modelled member is a capital `Message` and its type carries a namespace; the others are looser.
fn error_body(model: Option<&Model>, error: &ApiError) -> Value {
    match model.map(|m| m.service.as_str()) {
        Some("apprunner") => {
            json!({"__type": format!("com.amazonaws.apprunner#{}", error.code), "Message": error.message})
        }
        Some("secretsmanager") => json!({"__type": error.code, "Message": error.message}),
        _ => json!({"__type": error.code, "message": error.message}),
    }
}
