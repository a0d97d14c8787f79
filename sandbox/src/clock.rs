//! Time of the emulated vendors: wall time for timestamps, a speed for how long things take.
//! The only file of the control plane that reads a clock.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// Divides the vendors' durations by a speed that can change while somebody waits.
#[derive(Debug)]
pub struct Clock {
    speed: watch::Sender<f64>,
}

impl Clock {
    /// `speed` 1 = the vendors' own pace; 60 = a minute passes in a second. Less than 0.001 counts as 0.001.
    pub fn new(speed: f64) -> Self {
        Self { speed: watch::Sender::new(speed.max(0.001)) }
    }

    /// Now, never sped up: signatures, TTLs and deadlines of clients are wall time.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The speed in force.
    pub fn speed(&self) -> f64 {
        *self.speed.borrow()
    }

    /// Changes the pace, also of what is under way.
    pub fn set_speed(&self, speed: f64) {
        self.speed.send_replace(speed.max(0.001));
    }

    /// Returns after `duration` of the vendors' time.
    pub async fn pass(&self, duration: Duration) {
        let mut changed = self.speed.subscribe();
        let mut left = duration.as_secs_f64();
        loop {
            let speed = *changed.borrow_and_update();
            let started = tokio::time::Instant::now();
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs_f64(left / speed)) => return,
                _ = changed.changed() => left = (left - started.elapsed().as_secs_f64() * speed).max(0.0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_faster_clock_shortens_what_is_under_way() {
        let clock = std::sync::Arc::new(Clock::new(1.0));
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.pass(Duration::from_hours(1)).await }
        });
        tokio::task::yield_now().await;
        clock.set_speed(1e6);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("an hour passed").unwrap();
    }
}
