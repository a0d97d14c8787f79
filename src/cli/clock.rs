//! The one place where this process reads the clock and lets time pass.

use std::time::Duration;

use jiff::Timestamp;

use super::drive::Time;

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
