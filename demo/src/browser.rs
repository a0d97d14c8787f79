//! How a visitor meets the app: HTTP with kept-alive connections, nothing else. It turns whatever comes back into an
//! answer the judge understands and never retries: what a person would have seen is what counts.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::judge::{Answer, Asked, Broken};

/// Nobody looks at a blank page for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A browser pointed at one service.
#[derive(Debug, Clone)]
pub struct Browser {
    client: Client,
    base: String,
}

/// A session the app opened.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// What to show to be recognised.
    pub session: String,
    /// Seconds it lives from now.
    pub expires_in: u64,
    /// The instance that opened it.
    #[serde(skip)]
    pub by: Option<String>,
}

/// Where an instance says it keeps sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The instance that answered.
    pub instance: String,
    /// Host and port of its store.
    pub store: String,
}

struct Reply {
    status: StatusCode,
    by: Option<String>,
    body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    step: Option<u64>,
    expires_in: Option<i64>,
}

impl Browser {
    /// A browser for the service at `base`, such as `https://abc.us-east-1.awsapprunner.com`.
    ///
    /// # Errors
    /// When the trust roots of this machine (`SSL_CERT_FILE`) cannot be read.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(PATIENCE).pool_max_idle_per_host(64).tcp_nodelay(true).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// Logs in.
    ///
    /// # Errors
    /// How the answer failed to be one; a login that is refused is such a failure.
    pub async fn log_in(&self, user: &str) -> Result<Opened, Broken> {
        let reply = self.exchange(Method::POST, "/login", None, Some(json!({ "user": user }))).await?;
        if !reply.status.is_success() {
            return Err(Broken::Status(reply.status.as_u16()));
        }
        let opened: Opened = serde_json::from_slice(&reply.body).map_err(|_| Broken::Garbled)?;
        Ok(Opened { by: reply.by, ..opened })
    }

    /// Asks any instance for its store, as the runbook's health check does; `None` if it does not say.
    pub async fn whereabouts(&self) -> Option<Whereabouts> {
        let reply = self.exchange(Method::GET, "/api/redis-health/", None, None).await.ok()?;
        let health: Value = serde_json::from_slice(&reply.body).ok()?;
        Some(Whereabouts { instance: reply.by?, store: health.get("store")?.as_str()?.to_owned() })
    }

    /// Does something with a session; a slow click works for `work` before it saves. Also says which instance answered.
    pub async fn ask(&self, token: &str, asked: Asked, work: Duration) -> (Answer, Option<String>) {
        let (method, path, body) = match asked {
            Asked::Click(step) => (Method::POST, "/click", Some(json!({ "step": step, "workMs": work.as_millis() }))),
            Asked::Renew => (Method::POST, "/renew", None),
            Asked::Look => (Method::GET, "/whoami", None),
            Asked::LogOut => (Method::POST, "/logout", None),
        };
        match self.exchange(method, path, Some(token), body).await {
            Ok(reply) => (read(reply.status, &reply.body), reply.by),
            Err(broken) => (Answer::Broken(broken), None),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Reply, Broken> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| broken(&error))?;
        let status = response.status();
        let by = response.headers().get("x-instance").and_then(|name| Some(name.to_str().ok()?.to_owned()));
        let body = response.bytes().await.map_err(|error| broken(&error))?.to_vec();
        Ok(Reply { status, by, body })
    }
}

fn broken(error: &reqwest::Error) -> Broken {
    if error.is_timeout() { Broken::TimedOut } else { Broken::Reset }
}

fn read(status: StatusCode, body: &[u8]) -> Answer {
    if status == StatusCode::UNAUTHORIZED && body == b"Invalid session" {
        return Answer::Refused;
    }
    if !status.is_success() {
        return Answer::Broken(Broken::Status(status.as_u16()));
    }
    if body.is_empty() {
        return Answer::Accepted { step: None, lifetime: None };
    }
    serde_json::from_slice::<Shown>(body).map_or(Answer::Broken(Broken::Garbled), |shown| Answer::Accepted {
        step: shown.step,
        lifetime: shown.expires_in.map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(0))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_apps_own_words_are_a_refusal() {
        assert_eq!(read(StatusCode::UNAUTHORIZED, b"Invalid session"), Answer::Refused);
        assert_eq!(read(StatusCode::UNAUTHORIZED, b""), Answer::Broken(Broken::Status(401)));
        assert_eq!(read(StatusCode::NOT_FOUND, b""), Answer::Broken(Broken::Status(404)));
        assert_eq!(read(StatusCode::BAD_GATEWAY, b"{}"), Answer::Broken(Broken::Status(502)));
    }

    #[test]
    fn an_answer_shows_value_and_lifetime() {
        let shown = read(StatusCode::OK, br#"{"user":"a","step":4,"expiresIn":7100}"#);
        assert_eq!(shown, Answer::Accepted { step: Some(4), lifetime: Some(Duration::from_secs(7100)) });
        assert_eq!(read(StatusCode::NO_CONTENT, b""), Answer::Accepted { step: None, lifetime: None });
        assert_eq!(read(StatusCode::OK, b"<html>"), Answer::Broken(Broken::Garbled));
    }
}
