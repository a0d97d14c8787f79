//! One HTTP request of a check and what its answer should be; judging an answer is here, sending it is not.
//! Pure. No message repeats what an answer held: a body is foreign text and may carry secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::{Method, SecretKeyRef};

/// What `{token}` becomes in a path: everything but RFC 3986's unreserved characters is encoded.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One request to a service and what its answer should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, starting with one `/`; only visible ASCII.
    pub path: String,
    /// Headers to send.
    pub headers: Vec<Header>,
    /// The body to send.
    pub body: Option<Body>,
    /// Statuses that count as success.
    pub status: Vec<u16>,
    /// Places of the JSON answer and the scalar each must hold.
    pub json: BTreeMap<String, Value>,
    /// Places of the JSON answer that must be there.
    pub present: Vec<String>,
    /// Longest time to the end of the answer.
    pub max_latency: Option<Duration>,
}

/// A header to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name, lower case.
    pub name: String,
    /// Where its value comes from.
    pub source: HeaderSource,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderSource {
    /// From the manifest.
    Plain(String),
    /// From a Secret, after a prefix such as `Bearer `.
    Secret {
        /// What stands before it.
        prefix: String,
        /// Where it is.
        key: SecretKeyRef,
    },
}

/// A body to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The text.
    pub text: String,
    /// Its type.
    pub content_type: String,
}

/// What came back, as far as it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body, at most as long as is read of one.
    pub body: &'a [u8],
    /// Time from the first byte dialled to the last byte read.
    pub took: Duration,
}

/// Values for the placeholders of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placeholders<'a> {
    /// For `{token}`; empty where there is none yet.
    pub token: &'a str,
    /// For `{random}`.
    pub random: &'a str,
}

impl Request {
    /// A GET of `path` that expects 200.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::Get,
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            status: vec![200],
            json: BTreeMap::new(),
            present: Vec::new(),
            max_latency: None,
        }
    }

    /// The secrets its headers take values from.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        self.headers.iter().filter_map(|header| match &header.source {
            HeaderSource::Plain(_) => None,
            HeaderSource::Secret { key, .. } => Some(key),
        })
    }

    /// The same request with its placeholders filled; the token is percent-encoded in the path.
    #[must_use]
    pub fn filled(&self, values: Placeholders<'_>) -> Self {
        let plain = |text: &str| text.replace("{token}", values.token).replace("{random}", values.random);
        let mut filled = self.clone();
        let encoded = utf8_percent_encode(values.token, PATH_SEGMENT).to_string();
        filled.path = self.path.replace("{token}", &encoded).replace("{random}", values.random);
        if let Some(body) = &mut filled.body {
            body.text = plain(&body.text);
        }
        for header in &mut filled.headers {
            if let HeaderSource::Plain(value) = &mut header.source {
                *value = plain(value);
            }
        }
        filled
    }

    /// Everything about `answer` that is not as expected; empty if all is well.
    #[must_use]
    pub fn faults(&self, answer: Answer<'_>) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.status.contains(&answer.status) {
            let expected: Vec<_> = self.status.iter().map(u16::to_string).collect();
            faults.push(format!("answered {}, expected {}", answer.status, expected.join(" or ")));
        }
        if let Some(limit) = self.max_latency
            && answer.took > limit
        {
            faults.push(format!("took {} ms, at most {} ms", answer.took.as_millis(), limit.as_millis()));
        }
        if self.json.is_empty() && self.present.is_empty() {
            return faults;
        }
        let Ok(body) = serde_json::from_slice::<Value>(answer.body) else {
            faults.push("the answer is not JSON".to_owned());
            return faults;
        };
        for (place, expected) in &self.json {
            match lookup(&body, place) {
                None => faults.push(format!("{place} is missing, expected {expected}")),
                Some(found) if found != expected => {
                    faults.push(format!("{place} is {}, expected {expected}", shape(found)));
                }
                Some(_) => {}
            }
        }
        let missing = self.present.iter().filter(|place| lookup(&body, place).is_none());
        faults.extend(missing.map(|place| format!("{place} is missing")));
        faults
    }
}

/// What a found value may be called: numbers and booleans as they are, anything else only by its sort.
fn shape(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "another text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The value at `place`: a JSON pointer if it starts with `/`, else names and indices separated by dots.
#[must_use]
pub fn lookup<'a>(value: &'a Value, place: &str) -> Option<&'a Value> {
    if place.starts_with('/') {
        return value.pointer(place);
    }
    place.split('.').try_fold(value, |at, step| match at {
        Value::Object(map) => map.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer<'_> {
        Answer { status, body: body.as_bytes(), took: Duration::from_millis(30) }
    }

    fn health() -> Request {
        let mut request = Request::get("/api/redis-health/");
        request.json.insert("redis_connected".to_owned(), json!(true));
        request.json.insert("redis_test_result".to_owned(), json!("ok"));
        request
    }

    #[test]
    fn an_answer_as_expected_has_no_faults() {
        assert!(health().faults(answer(200, r#"{"redis_connected":true,"redis_test_result":"ok"}"#)).is_empty());
    }

    #[test]
    fn every_fault_is_named_and_no_text_of_the_body_is_repeated() {
        let body = r#"{"redis_connected":false,"redis_test_result":"redis://user:canary@10.0.0.1"}"#;
        assert_eq!(
            health().faults(answer(503, body)),
            [
                "answered 503, expected 200",
                "redis_connected is false, expected true",
                r#"redis_test_result is another text, expected "ok""#,
            ]
        );
        assert_eq!(health().faults(answer(200, "<html>canary")), ["the answer is not JSON"]);
    }

    #[test]
    fn a_slow_answer_is_a_fault_although_its_content_is_right() {
        let mut request = Request::get("/health");
        request.max_latency = Some(Duration::from_millis(29));
        assert_eq!(request.faults(answer(200, "")), ["took 30 ms, at most 29 ms"]);
        request.max_latency = Some(Duration::from_millis(30));
        assert!(request.faults(answer(200, "")).is_empty());
    }

    #[test]
    fn a_place_is_a_pointer_or_dotted() {
        let value = json!({ "a": [{ "b.c": 1, "d": 2 }] });
        assert_eq!(lookup(&value, "a.0.d"), Some(&json!(2)));
        assert_eq!(lookup(&value, "/a/0/b.c"), Some(&json!(1)));
        assert_eq!(lookup(&value, "a.1.d"), None);
        assert_eq!(lookup(&value, "a.0.d.e"), None);
    }

    #[test]
    fn a_token_cannot_leave_its_segment_of_the_path() {
        let filled = Request::get("/s/{token}/validate").filled(Placeholders { token: "a/../b?c#d@e", random: "" });
        assert_eq!(filled.path, "/s/a%2F..%2Fb%3Fc%23d%40e/validate");
    }
}
