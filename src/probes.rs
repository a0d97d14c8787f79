//! `/livez`, `/readyz` and `/metrics`, over plain HTTP: they tell nothing that is not in the status of objects.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics;

/// Why the process is not ready, by what it lacks; ready where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, String>>>);

impl Readiness {
    /// Of this subject: it is as it should be, or why not.
    pub fn set(&self, subject: &str, reason: Option<String>) {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lacks.get(subject) == reason.as_ref() {
            return;
        }
        if let Some(reason) = reason {
            tracing::warn!(subject, reason, "not ready");
            lacks.insert(subject.to_owned(), reason);
        } else {
            tracing::info!(subject, "ready");
            lacks.remove(subject);
        }
    }

    /// Everything that is lacking, a line each.
    #[must_use]
    pub fn reasons(&self) -> String {
        let lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (subject, reason) in &*lacks {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{subject}: {reason}");
        }
        text
    }
}

/// Listens at `address` and answers in a task of its own. Returns where it listens.
///
/// # Errors
/// When it cannot listen there.
pub async fn serve(address: SocketAddr, readiness: Readiness) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let at = listener.local_addr()?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(numbers))
        .with_state(readiness);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "probes and metrics are not served any more");
        }
    });
    Ok(at)
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let reasons = readiness.reasons();
    if reasons.is_empty() { (StatusCode::OK, "ok\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, reasons) }
}

async fn numbers() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics::text())
}
