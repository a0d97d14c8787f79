//! From a request as it is written to one that can only go to the service's own host.
//! Pure. What is refused here is what could make a path, a header or a body mean something else on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Violations;
use crate::checks::spec::{HeaderSpec, Method, RequestSpec, Scalar};
use crate::checks::{Body, Header, HeaderSource, Request};

/// `template` says which placeholders are allowed; `None` means none.
pub(super) fn request(
    at: &str,
    spec: &RequestSpec,
    method: Method,
    template: Option<&[&str]>,
    violations: &mut Violations,
) -> Option<Request> {
    let field = |name: &str| format!("{at}.{name}");
    let RequestSpec { method: given, path: _, headers, body, content_type, status, json, present, max_latency } = spec;
    let method = given.unwrap_or(method);
    if body.is_some() && method.is_safe() {
        violations.add(&field("body"), format_args!("a {} has none; remove it or use POST", method.as_str()));
    }
    if let Some(body) = body {
        violations.length(&field("body"), body.len(), 0..=4096, "bytes");
    }
    let status = status.clone().unwrap_or_else(|| vec![200]);
    violations.length(&field("status"), status.len(), 1..=16, "entries");
    for code in &status {
        violations.number(&field("status"), Some(*code), 100..=599);
    }
    let json = self::json(&field("json"), json.as_ref(), violations);
    let present = present.clone().unwrap_or_default();
    violations.length(&field("present"), present.len(), 0..=32, "entries");
    let headers = headers.as_deref().unwrap_or_default();
    violations.length(&field("headers"), headers.len(), 0..=16, "entries");
    let headers =
        headers.iter().filter_map(|header| self::header(&field("headers"), header, template, violations)).collect();
    let range = Duration::from_millis(1)..=Duration::from_mins(2);
    let max_latency = violations.duration(&field("maxLatency"), max_latency.as_ref(), range);
    let content_type = content_type.clone().unwrap_or_else(|| "application/json".to_owned());
    if !header_text(&content_type) {
        violations.add(&field("contentType"), "holds a character no header may hold; use a type such as text/plain");
    }
    let path = self::path(&field("path"), spec.path.as_deref(), template, violations)?;
    let body = body.as_ref().map(|text| Body { text: text.clone(), content_type });
    Some(Request { method, path, headers, body, status, json, present, max_latency })
}

fn json(field: &str, json: Option<&BTreeMap<String, Scalar>>, violations: &mut Violations) -> BTreeMap<String, Value> {
    let Some(json) = json else { return BTreeMap::new() };
    violations.length(field, json.len(), 0..=32, "entries");
    for (place, Scalar(value)) in json {
        violations.length(field, place.len(), 1..=256, "bytes in a place");
        if value.is_object() || value.is_array() || value.is_null() {
            violations.add(
                field,
                format_args!("{place}: only a text, a number or a boolean can be expected; use `present` for the rest"),
            );
        }
    }
    json.iter().map(|(place, Scalar(value))| (place.clone(), value.clone())).collect()
}

fn path(field: &str, path: Option<&str>, template: Option<&[&str]>, violations: &mut Violations) -> Option<String> {
    let Some(path) = path else {
        violations.missing(field, "set the path on the service, such as /health");
        return None;
    };
    violations.length(field, path.len(), 1..=1024, "bytes");
    // The host is the service's own, always: nothing here may be read as another one.
    if !path.starts_with('/') || path.starts_with("//") {
        violations.add(field, "must start with exactly one /; write only the path, the host is the service's own");
        return None;
    }
    let bare = without_placeholders(path, template);
    let odd =
        |c: char| !c.is_ascii_graphic() || matches!(c, '\\' | '#' | '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}');
    if bare.chars().any(odd) {
        let allowed = template.map_or(String::new(), |names| format!(" ({} may be used)", names.join(" and ")));
        violations
            .add(field, format_args!("holds a character that is not one of a URL's path; percent-encode it{allowed}"));
        return None;
    }
    Some(path.to_owned())
}

fn without_placeholders(text: &str, template: Option<&[&str]>) -> String {
    template.unwrap_or_default().iter().fold(text.to_owned(), |text, placeholder| text.replace(placeholder, ""))
}

fn header_text(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

fn header(at: &str, spec: &HeaderSpec, template: Option<&[&str]>, violations: &mut Violations) -> Option<Header> {
    const OURS: [&str; 9] = [
        "host",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
        "te",
        "upgrade",
        "trailer",
        "expect",
    ];
    const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];
    let name = spec.name.to_ascii_lowercase();
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(token) {
        violations.add(at, "holds a name that is not one of a header; use letters, digits and hyphens");
        return None;
    }
    if OURS.contains(&name.as_str()) {
        violations.add(at, format_args!("{name} is set by the check itself; remove it"));
        return None;
    }
    let source = match (&spec.value, &spec.secret_key_ref) {
        (Some(_), Some(_)) => {
            violations.add(at, format_args!("{name} has both value and secretKeyRef; keep one"));
            return None;
        }
        (None, None) => {
            violations.add(at, format_args!("{name} has no value; set value or secretKeyRef"));
            return None;
        }
        (Some(value), None) => {
            let carries_the_session = template.is_some() && value.contains("{token}");
            if SECRET.contains(&name.as_str()) && !carries_the_session {
                violations.add(at, format_args!("{name} is a secret; put it into a Secret and use secretKeyRef"));
            }
            HeaderSource::Plain(format!("{}{value}", spec.prefix.as_deref().unwrap_or_default()))
        }
        (None, Some(key)) => HeaderSource::Secret { prefix: spec.prefix.clone().unwrap_or_default(), key: key.clone() },
    };
    let visible = match &source {
        HeaderSource::Plain(value) => value,
        HeaderSource::Secret { prefix, .. } => prefix,
    };
    if !header_text(visible) || visible.len() > 1024 {
        violations
            .add(at, format_args!("{name} holds a character no header may hold, or is too long; use visible ASCII"));
    }
    Some(Header { name, source })
}
