//! `/livez`, `/readyz` and `/metrics`, over plain HTTP: they tell nothing that is not in the status of objects.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::metrics;

/// Why the process is not ready, by what it lacks; ready where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Lack>>>);

/// Why, and until when where nobody will say that it is over.
#[derive(Debug)]
struct Lack {
    reason: String,
    until: Option<Instant>,
}

impl Lack {
    fn lasts(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Readiness {
    /// Of this subject: it is as it should be, or why not.
    pub fn set(&self, subject: &str, reason: Option<String>) {
        let mut lacks = self.lacks();
        if let Some(reason) = reason {
            lack(&mut lacks, subject, reason, None);
        } else if lacks.remove(subject).is_some() {
            tracing::info!(subject, "ready");
        }
    }

    /// Of this subject: why it is not as it should be. Unless that is said again it is over after so long.
    pub fn set_for(&self, subject: &str, reason: String, long: Duration) {
        lack(&mut self.lacks(), subject, reason, Some(Instant::now() + long));
    }

    fn lacks(&self) -> MutexGuard<'_, BTreeMap<String, Lack>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is lacking, a line each.
    #[must_use]
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        for (subject, Lack { reason, .. }) in self.lacks().iter().filter(|(_, lack)| lack.lasts()) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{subject}: {reason}");
        }
        text
    }
}

fn lack(lacks: &mut BTreeMap<String, Lack>, subject: &str, reason: String, until: Option<Instant>) {
    if !lacks.get(subject).is_some_and(|known| known.reason == reason && known.lasts()) {
        tracing::warn!(subject, reason, "not ready");
    }
    lacks.insert(subject.to_owned(), Lack { reason, until });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_until_it_is_there() {
        let readiness = Readiness::default();
        readiness.set("lease", Some("not asked for yet".to_owned()));
        readiness.set_for("namespace liberty", "cannot be watched".to_owned(), Duration::from_mins(1));
        assert_eq!(readiness.reasons(), "lease: not asked for yet\nnamespace liberty: cannot be watched\n");
        readiness.set("lease", None);
        assert_eq!(readiness.reasons(), "namespace liberty: cannot be watched\n");
        readiness.set("namespace liberty", None);
        assert_eq!(readiness.reasons(), "");
    }

    #[test]
    fn what_nobody_says_again_is_over() {
        let readiness = Readiness::default();
        readiness.set_for("namespace liberty", "cannot be watched".to_owned(), Duration::ZERO);
        assert_eq!(readiness.reasons(), "");
    }
}
