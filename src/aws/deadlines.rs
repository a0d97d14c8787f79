//! How long one call of a cloud may take, and how often a read is tried: the same for every vendor.

use std::future::Future;
use std::time::Duration;

use crate::error::{Class, CloudError};
use crate::metrics;

/// For the TCP and TLS handshake.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);

/// The deadlines of a client. The vendors have none of their own: a call can hang for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For one attempt of a read: 10 s.
    pub read: Duration,
    /// For the one attempt of a write: 30 s.
    pub write: Duration,
    /// Attempts of a read, the first included: 3.
    pub attempts: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { read: Duration::from_secs(10), write: Duration::from_secs(30), attempts: 3 }
    }
}

impl Deadlines {
    /// A read, tried again while the failure says nothing about the resource.
    pub(crate) async fn again<T, F>(self, attempt: impl Fn() -> F) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let mut made = 1;
        loop {
            match attempt().await {
                Err(error) if made < self.attempts && matches!(error.class, Class::Transient | Class::Throttled) => {
                    tokio::time::sleep(pause(error.class, made)).await;
                    made += 1;
                }
                last => return last,
            }
        }
    }
}

/// How long to wait before another attempt: longer when we were asked to slow down, never the same twice.
pub(crate) fn pause(class: Class, attempt: u32) -> Duration {
    let base = if class == Class::Throttled { 500 } else { 100 };
    Duration::from_millis(base << attempt.min(5)).mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// One attempt, counted.
pub(crate) async fn within<T>(
    deadline: Duration,
    service: &'static str,
    operation: &'static str,
    call: impl Future<Output = Result<T, CloudError>>,
) -> Result<T, CloudError> {
    let began = tokio::time::Instant::now();
    let outcome = tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", deadline.as_secs_f64());
        Err(CloudError::new(Class::Transient, service, operation, "", &message))
    });
    metrics::cloud_request(service, operation, outcome.as_ref().err().map(|error| error.class), began.elapsed());
    match &outcome {
        Ok(_) => tracing::debug!(service, operation, "answered"),
        Err(error) => tracing::debug!(service, operation, class = ?error.class, %error, "failed"),
    }
    outcome
}
