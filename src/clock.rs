//! The one place where this process reads the clock and lets time pass.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

/// The clock and the waiting, so that a test can turn both.
pub trait Time: Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Lets time pass.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Time for Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
