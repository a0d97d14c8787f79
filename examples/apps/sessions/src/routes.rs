//! The HTTP surface: login, click, renew, whoami, logout, and two health endpoints. An answer of success means Redis
//! has it; an unknown session is 401 `Invalid session`, a Redis that does not answer is 503. Thin: no state of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRef, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::session::{Session, is_id, new_id, short};
use crate::store::{Store, StoreError};

const COOKIE: &str = "sid";
/// The longest a click may work before it answers.
const LONGEST_WORK: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct App {
    store: Store,
    instance: String,
    ttl: u64,
}

/// All routes over one store.
pub(crate) fn router(store: Store, instance: String, ttl: u64) -> Router {
    let app = App { store, instance, ttl };
    Router::new()
        .route("/login", post(login))
        .route("/click", post(click))
        .route("/renew", post(renew))
        .route("/whoami", get(whoami))
        .route("/logout", post(logout))
        .route("/health", get(health))
        .route("/api/redis-health/", get(redis_health))
        .route("/api/ws-diagnostic/", get(diagnostic))
        .layer(middleware::from_fn_with_state(app.clone(), name_the_instance))
        .with_state(app)
}

/// Why a request is not answered with what it asked for.
enum Refusal {
    InvalidSession,
    Unavailable,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        println!("[Session] Request refused, no session store: {error}");
        Self::Unavailable
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::InvalidSession => (StatusCode::UNAUTHORIZED, "Invalid session").into_response(),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Session store unavailable").into_response(),
        }
    }
}

/// The id a request carries as a bearer token or a cookie.
struct SessionId(String);

impl<S: Send + Sync> FromRequestParts<S> for SessionId
where
    App: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        presented_id(&parts.headers).map(|id| Self(id.to_owned())).ok_or(Refusal::InvalidSession)
    }
}

fn presented_id(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let cookie = || {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
    };
    bearer.or_else(cookie).filter(|id| is_id(id))
}

async fn name_the_instance(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&app.instance) {
        response.headers_mut().insert("x-instance", value);
    }
    response
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

async fn login(State(app): State<App>, Json(body): Json<Login>) -> Result<Response, Refusal> {
    let (id, session) = (new_id(), Session::new(body.user, epoch_seconds()));
    app.store.create(&id, &session, app.ttl).await?;
    println!("[Session] Session created: {}", short(&id));
    let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={}", app.ttl);
    let answer = json!({ "session": id, "user": session.user, "step": session.step, "expiresIn": app.ttl });
    Ok(([(header::SET_COOKIE, cookie)], Json(answer)).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Click {
    step: u64,
    /// How long the page takes between reading the session and saving it.
    #[serde(default)]
    work_ms: u64,
}

async fn click(State(app): State<App>, SessionId(id): SessionId, Json(body): Json<Click>) -> Result<Response, Refusal> {
    let session = app.store.load(&id).await?.ok_or(Refusal::InvalidSession)?;
    if body.work_ms > 0 {
        tokio::time::sleep(Duration::from_millis(body.work_ms).min(LONGEST_WORK)).await;
    }
    let session = session.clicked(body.step);
    if !app.store.save(&id, &session, app.ttl).await? {
        return Err(Refusal::InvalidSession);
    }
    Ok(Json(json!({ "step": session.step, "clicks": session.clicks, "expiresIn": app.ttl })).into_response())
}

async fn renew(State(app): State<App>, SessionId(id): SessionId) -> Result<Response, Refusal> {
    if !app.store.touch(&id, app.ttl).await? {
        return Err(Refusal::InvalidSession);
    }
    Ok(Json(json!({ "expiresIn": app.ttl })).into_response())
}

async fn whoami(State(app): State<App>, SessionId(id): SessionId) -> Result<Response, Refusal> {
    let session = app.store.load(&id).await?.ok_or(Refusal::InvalidSession)?;
    let remaining = app.store.remaining(&id).await?;
    let answer = json!({
        "user": session.user, "step": session.step, "clicks": session.clicks, "page": session.page, "expiresIn": remaining,
    });
    Ok(Json(answer).into_response())
}

async fn logout(State(app): State<App>, SessionId(id): SessionId) -> Result<Response, Refusal> {
    if !app.store.end(&id).await? {
        return Err(Refusal::InvalidSession);
    }
    println!("[Session] Session ended: {}", short(&id));
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Says only that the process lives: a Redis outage must not make the platform kill instances.
async fn health(State(app): State<App>) -> Response {
    Json(json!({ "status": "ok", "instance": app.instance })).into_response()
}

async fn redis_health(State(app): State<App>) -> Response {
    let (status, mut answer) = probe(&app).await;
    answer["store"] = json!(app.store.address());
    (status, Json(answer)).into_response()
}

async fn diagnostic(State(app): State<App>, SessionId(id): SessionId) -> Result<Response, Refusal> {
    let session = app.store.load(&id).await?.ok_or(Refusal::InvalidSession)?;
    let (status, mut answer) = probe(&app).await;
    answer["user_authenticated"] = json!(true);
    answer["user_id"] = json!(session.user);
    answer["notification_group_name"] = json!(format!("notifications.user.{}", session.user));
    answer["redis_url_configured"] = json!(app.store.address().is_some());
    Ok((status, Json(answer)).into_response())
}

async fn probe(app: &App) -> (StatusCode, Value) {
    let outcome = app.store.probe(&app.instance).await;
    let connected = matches!(outcome, Ok(true));
    let result = match &outcome {
        Ok(true) => "ok".to_owned(),
        Ok(false) => "a value written could not be read back".to_owned(),
        Err(error) => error.to_string(),
    };
    let status = if connected { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({
        "channel_layer_available": connected,
        "redis_configured": app.store.address().is_some(),
        "redis_connected": connected,
        "redis_test_result": result,
    });
    (status, answer)
}

#[expect(clippy::disallowed_methods, reason = "the one place where this service reads the clock")]
fn epoch_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn an_id_comes_by_bearer_or_cookie() {
        let id = new_id();
        assert_eq!(presented_id(&headers(header::AUTHORIZATION, &format!("Bearer {id}"))), Some(id.as_str()));
        assert_eq!(presented_id(&headers(header::COOKIE, &format!("theme=dark; sid={id}; a=b"))), Some(id.as_str()));
        assert_eq!(presented_id(&headers(header::COOKIE, &format!("sidx={id}"))), None);
        assert_eq!(presented_id(&headers(header::AUTHORIZATION, "Bearer ../../x")), None);
        assert_eq!(presented_id(&HeaderMap::new()), None);
    }
}
