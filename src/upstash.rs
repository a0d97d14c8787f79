//! Upstash's management API: thin, lenient in what it reads, bounded in what it accepts.
//! No idempotency keys exist, so a create is made once; passwords are asked for only where they are needed.

use std::time::Duration;

use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::aws::Deadlines;
use crate::aws::deadlines::{CONNECT, within};
use crate::error::{Class, CloudError, chain};

pub use self::wire::{Database, State, Stats};

mod wire;

/// The vendor's name in errors.
pub const SERVICE: &str = "Upstash";
/// Where the API is, unless a setting says otherwise.
pub const DEFAULT_URL: &str = "https://api.upstash.com/v2";

/// The largest answer read; the list of a hundred databases is some 200 KiB.
const BODY_LIMIT: usize = 1024 * 1024;

/// An account or team key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The account's e-mail address.
    pub email: String,
    /// The key.
    pub key: SecretString,
}

/// What sends the requests; holds no key.
///
/// # Errors
/// `Rejected` when the TLS roots of this machine cannot be read.
pub fn http() -> Result<reqwest::Client, CloudError> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .user_agent(concat!("sessionbackend/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| wrong(&format!("the HTTP client cannot be set up: {}", chain(&error))))
}

fn wrong(what: &str) -> CloudError {
    CloudError::new(Class::Rejected, SERVICE, "connect", "", what)
}

/// The client.
#[derive(Clone, Debug)]
pub struct Upstash {
    http: reqwest::Client,
    base: Url,
    key: ApiKey,
    /// The Secret the key is from.
    secret: Option<String>,
    deadlines: Deadlines,
}

impl Upstash {
    /// A client for the API at `base`.
    ///
    /// # Errors
    /// `Rejected` when `base` is no URL or the TLS roots of this machine cannot be read.
    pub fn new(base: &str, key: ApiKey) -> Result<Self, CloudError> {
        Self::over(http()?, base, key)
    }

    /// The same over a client that others use too.
    ///
    /// # Errors
    /// `Rejected` when `base` is no URL.
    pub fn over(http: reqwest::Client, base: &str, key: ApiKey) -> Result<Self, CloudError> {
        let base = Url::parse(&format!("{}/", base.trim_end_matches('/')))
            .map_err(|error| wrong(&format!("the API URL {base:?} is not a URL: {error}")))?;
        Ok(Self { http, base, key, secret: None, deadlines: Deadlines::default() })
    }

    /// The same with a key from `secret`, which is named when the key is refused.
    #[must_use]
    pub fn of_secret(self, secret: String) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// The same with other deadlines.
    #[must_use]
    pub fn within(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// Every database the key sees, without credentials.
    pub async fn databases(&self) -> Result<Vec<Database>, CloudError> {
        let body = self.read("ListDatabases", "redis/databases").await?;
        let rows = body.as_array().ok_or_else(|| unreadable("ListDatabases", "the answer is no list"))?;
        Ok(rows.iter().filter_map(Database::read).collect())
    }

    /// One database with its password, unless the account hides it.
    pub async fn database(&self, id: &str) -> Result<Database, CloudError> {
        let operation = "GetDatabase";
        let body = self.read(operation, &format!("redis/database/{}", segment(id)?)).await?;
        Database::read(&body).ok_or_else(|| unreadable(operation, "the answer is no database"))
    }

    /// One database, its credentials left out.
    pub async fn database_without_credentials(&self, id: &str) -> Result<Database, CloudError> {
        let operation = "GetDatabase";
        let body = self.read(operation, &format!("redis/database/{}?credentials=hide", segment(id)?)).await?;
        Database::read(&body).ok_or_else(|| unreadable(operation, "the answer is no database"))
    }

    /// What a database has used.
    pub async fn stats(&self, id: &str) -> Result<Stats, CloudError> {
        Ok(Stats::read(&self.read("GetDatabaseStats", &format!("redis/stats/{}", segment(id)?)).await?))
    }

    /// Creates a database. The answer may be the only chance ever to see its password.
    pub async fn create(&self, name: &str, region: &str, plan: Option<&str>) -> Result<Database, CloudError> {
        let operation = "CreateDatabase";
        // `region: global` is what the older dialect wants; the newer one ignores it.
        let mut body = json!({
            "database_name": name, "platform": platform(region), "primary_region": region, "region": "global", "tls": true,
        });
        if let (Some(plan), Some(fields)) = (plan, body.as_object_mut()) {
            fields.insert("plan".to_owned(), Value::from(plan));
        }
        let answer = self.send(Method::POST, operation, "redis/database", Some(body), self.deadlines.write).await?;
        Database::read(&answer).ok_or_else(|| unreadable(operation, "the answer is no database"))
    }

    /// Deletes a database at once and for good.
    pub async fn delete(&self, id: &str) -> Result<(), CloudError> {
        let path = format!("redis/database/{}", segment(id)?);
        self.send(Method::DELETE, "DeleteDatabase", &path, None, self.deadlines.write).await.map(|_| ())
    }

    async fn read(&self, operation: &'static str, path: &str) -> Result<Value, CloudError> {
        self.deadlines.again(|| self.send(Method::GET, operation, path, None, self.deadlines.read)).await
    }

    async fn send(
        &self,
        method: Method,
        operation: &'static str,
        path: &str,
        body: Option<Value>,
        deadline: Duration,
    ) -> Result<Value, CloudError> {
        within(deadline, SERVICE, operation, self.exchange(method, operation, path, body)).await
    }

    async fn exchange(
        &self,
        method: Method,
        operation: &'static str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, CloudError> {
        let failed = |class, message: &str| CloudError::new(class, SERVICE, operation, "", message);
        let url = self.base.join(path).map_err(|error| failed(Class::Rejected, &error.to_string()))?;
        let mut request =
            self.http.request(method, url).basic_auth(&self.key.email, Some(self.key.key.expose_secret()));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let lost = |error: &reqwest::Error| failed(Class::Transient, &chain(error));
        let mut answer = request.send().await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error))? {
            if bytes.len() + chunk.len() > BODY_LIMIT {
                return Err(failed(Class::Transient, "the answer is larger than 1 MiB"));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            // `"OK"` is JSON too.
            return serde_json::from_slice(&bytes).map_err(|_| unreadable(operation, "the answer is not JSON"));
        }
        let message = wire::reason(&bytes);
        let class = crate::aws::classify::class(SERVICE, "", Some(status.as_u16()), &message);
        let secret = self.secret.as_ref().filter(|_| class == Class::Credentials);
        let refused = secret.map(|secret| format!("; Secret {secret} (email, apiKey) was refused")).unwrap_or_default();
        Err(failed(class, &format!("HTTP {}: {message}{refused}", status.as_u16())))
    }
}

/// An id as a path segment; the vendor's are UUIDs, a manifest's could be anything.
fn segment(id: &str) -> Result<&str, CloudError> {
    let plain = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    plain.then_some(id).ok_or_else(|| {
        let message = format!("{id:?} is not a database id (letters, digits, hyphens)");
        CloudError::new(Class::Rejected, SERVICE, "GetDatabase", "", &message)
    })
}

/// Which cloud a region name belongs to: Google's end in a digit without a hyphen before it.
fn platform(region: &str) -> &'static str {
    let mut last = region.chars().rev();
    let digit = last.next().is_some_and(|c| c.is_ascii_digit());
    if digit && last.next().is_some_and(|c| c != '-') { "gcp" } else { "aws" }
}

fn unreadable(operation: &'static str, what: &str) -> CloudError {
    CloudError::new(Class::Transient, SERVICE, operation, "", what)
}

/// An error with its causes; reqwest keeps the interesting one innermost. The URL holds no secret, but says nothing either.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_follows_from_the_region() {
        for (region, expected) in [
            ("us-east-1", "aws"),
            ("ap-northeast-1", "aws"),
            ("us-central1", "gcp"),
            ("europe-west1", "gcp"),
            ("us-east4", "gcp"),
        ] {
            assert_eq!(platform(region), expected, "{region}");
        }
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        assert!(segment("96ad0856-03b1-4ee7-9666-e81abd0349e1").is_ok());
        for id in ["", "a/b", "../teams", "a?credentials=hide", "a%2fb"] {
            assert_eq!(segment(id).unwrap_err().class, Class::Rejected, "{id}");
        }
    }
}
