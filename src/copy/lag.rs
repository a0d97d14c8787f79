//! How old a change can be before it is on the other side: by the feed's fences where they can be trusted, else by the
//! sweeps. Reads what the loop has noted; moves nothing.

use std::time::Duration;

use super::run::Runner;
use crate::merge::Side;

/// Fences are sent every 200 ms; one that is later than this is late.
const FENCE_OVERDUE: Duration = Duration::from_millis(400);

impl Runner {
    /// A lag was measured.
    pub(crate) fn measured(&mut self, lag: Duration) {
        if self.both_ways {
            let worst = self.progress.worst_lag_both_ways.get_or_insert(lag);
            *worst = (*worst).max(lag);
        }
    }

    /// How old a change of this side can be before it is on the other; `None` until every key was carried once.
    pub(crate) fn lag(&self, side: Side) -> Option<Duration> {
        let rounds = self.rounds.on(side);
        if rounds.complete == 0 {
            return None;
        }
        if self.feed_is_good(side)
            && let Some((lag, measured)) = rounds.by_fence
        {
            // A fence that does not come back is a lag that grows.
            return Some(lag.max(measured.elapsed().saturating_sub(FENCE_OVERDUE)));
        }
        let since = rounds.covered.map(|covered| covered.elapsed()).unwrap_or_default();
        Some(rounds.by_sweep.unwrap_or_default().max(since))
    }

    /// What the lag of a side should be while nothing goes wrong.
    pub(crate) fn expected_lag(&self, side: Side) -> Duration {
        let rounds = self.rounds.on(side);
        match rounds.by_fence {
            Some((lag, _)) if self.feed_is_good(side) => lag,
            Some(_) | None => self.pause(side) + rounds.took.unwrap_or_default() * 2,
        }
    }

    /// The feed is connected and everything it may have missed has been swept.
    pub(crate) fn feed_is_good(&self, side: Side) -> bool {
        self.rounds.on(side).trusted && self.inboxes.on(side).is_up()
    }
}
