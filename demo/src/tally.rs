//! Counts what visitors saw, and the shape in which it is told. Pure.
//! It counts verdicts and endings; it never reaches one of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;
use crate::judge::{Broken, Ending, Memory, Verdict};

/// So many broken moments are told in full.
const EXAMPLES: usize = 20;

/// Everything the visitors can say at the end of a visit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// What became of the sessions.
    pub sessions: Sessions,
    /// What became of the requests.
    pub requests: Requests,
    /// How requests failed, and how often.
    pub failures: BTreeMap<String, u64>,
    /// The longest time after an acknowledgement at which an answer did not yet know of it, in milliseconds.
    pub worst_lag_ms: u64,
    /// The instances that answered, and where they kept sessions.
    pub fleet: Fleet,
    /// The first moments that were not as they should be.
    pub examples: Vec<String>,
}

/// What became of the sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sessions {
    /// Logged in when the move began.
    pub before: u64,
    /// Logged in at the end, accepted and with the acknowledged value.
    pub after: u64,
    /// Acknowledged, never logged out, and refused or older at the end.
    pub lost: u64,
    /// Logged out, and accepted at the end.
    pub zombies: u64,
    /// Of the lost ones: those refused.
    pub refused: u64,
    /// Of the lost ones: those with an older value than the acknowledged one.
    pub older: u64,
    /// Kept, but for less time than a renewal promised.
    pub shortened: u64,
    /// Logged out and still out.
    pub stayed_out: u64,
    /// Nobody can say what should be true.
    pub open: u64,
    /// Every session ever acknowledged; each was read once more at the end.
    pub ever: u64,
}

/// What became of the requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Sent from the beginning of the move until the visitors left.
    pub total: u64,
    /// Sent in the whole visit but for the last read.
    pub all: u64,
    /// 5xx, time-out, reset, or an acknowledged session refused later than the lag allows.
    pub failed: u64,
    /// An acknowledged session refused within the lag.
    pub refused_within_lag: u64,
    /// An older value shown within the lag.
    pub stale_within_lag: u64,
    /// An older value shown later than the lag allows.
    pub stale_late: u64,
    /// A logged-out session accepted within the lag.
    pub accepted_after_logout_within_lag: u64,
    /// A logged-out session accepted later than the lag allows.
    pub accepted_after_logout_late: u64,
}

impl Findings {
    /// Counts one request; `moving` says whether the move had begun when it was sent.
    pub fn count(&mut self, verdict: &Verdict, max_lag: Duration, moving: bool, what: impl FnOnce() -> String) {
        self.requests.all += 1;
        self.requests.total += u64::from(moving);
        let late = |after: &Duration| *after > max_lag;
        match verdict {
            Verdict::Fine => return,
            Verdict::Failed(how) => self.fail(how.to_string()),
            Verdict::RefusedLate(after) => {
                self.lagged(*after);
                self.fail("refused late".to_owned());
            }
            Verdict::RefusedWithinLag(after) => {
                self.lagged(*after);
                self.requests.refused_within_lag += 1;
            }
            Verdict::Stale(after) => {
                self.lagged(*after);
                if late(after) { self.requests.stale_late += 1 } else { self.requests.stale_within_lag += 1 }
            }
            Verdict::AcceptedAfterLogout(after) => {
                self.lagged(*after);
                let requests = &mut self.requests;
                if late(after) {
                    requests.accepted_after_logout_late += 1;
                } else {
                    requests.accepted_after_logout_within_lag += 1;
                }
            }
        }
        self.tell(|| format!("{}: {verdict:?}", what()));
    }

    /// Counts what became of a session.
    pub fn conclude(&mut self, memory: &Memory, ending: &Ending) {
        let sessions = &mut self.sessions;
        sessions.ever += 1;
        self.fleet.count(memory.opened_by.as_deref(), memory.ended_by.as_deref());
        match ending {
            Ending::Kept => sessions.after += 1,
            Ending::Shortened(_) => {
                sessions.after += 1;
                sessions.shortened += 1;
            }
            Ending::Refused => {
                sessions.lost += 1;
                sessions.refused += 1;
            }
            Ending::Older { .. } => {
                sessions.lost += 1;
                sessions.older += 1;
            }
            Ending::StayedOut => sessions.stayed_out += 1,
            Ending::Zombie => sessions.zombies += 1,
            Ending::Open => sessions.open += 1,
        }
        if !matches!(ending, Ending::Kept | Ending::StayedOut) {
            let (born, changed) = (memory.born.as_secs_f64(), memory.step_at.as_secs_f64());
            let id = memory.token.get(..8).unwrap_or_default();
            self.tell(|| {
                format!(
                    "at the end: session {id} born {born:.3}s, changed {changed:.3}s, {:?}: {ending:?}",
                    memory.state
                )
            });
        }
    }

    /// Adds what another visitor saw.
    pub fn add(&mut self, other: Self) {
        let (mine, theirs) = (&mut self.sessions, &other.sessions);
        mine.before += theirs.before;
        mine.after += theirs.after;
        mine.lost += theirs.lost;
        mine.zombies += theirs.zombies;
        mine.refused += theirs.refused;
        mine.older += theirs.older;
        mine.shortened += theirs.shortened;
        mine.stayed_out += theirs.stayed_out;
        mine.open += theirs.open;
        mine.ever += theirs.ever;
        let (mine, theirs) = (&mut self.requests, &other.requests);
        mine.total += theirs.total;
        mine.all += theirs.all;
        mine.failed += theirs.failed;
        mine.refused_within_lag += theirs.refused_within_lag;
        mine.stale_within_lag += theirs.stale_within_lag;
        mine.stale_late += theirs.stale_late;
        mine.accepted_after_logout_within_lag += theirs.accepted_after_logout_within_lag;
        mine.accepted_after_logout_late += theirs.accepted_after_logout_late;
        for (how, count) in other.failures {
            *self.failures.entry(how).or_default() += count;
        }
        self.worst_lag_ms = self.worst_lag_ms.max(other.worst_lag_ms);
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }

    fn fail(&mut self, how: String) {
        self.requests.failed += 1;
        *self.failures.entry(how).or_default() += 1;
    }

    fn lagged(&mut self, after: Duration) {
        self.worst_lag_ms = self.worst_lag_ms.max(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Reset => f.write_str("connection broken"),
            Self::Garbled => f.write_str("unreadable answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(5);

    fn seen(verdicts: &[(Verdict, bool)]) -> Findings {
        let mut findings = Findings::default();
        for (verdict, moving) in verdicts {
            findings.count(verdict, LAG, *moving, || "click".to_owned());
        }
        findings
    }

    #[test]
    fn requests_before_the_move_count_only_in_all() {
        let findings = seen(&[(Verdict::Fine, false), (Verdict::Fine, true), (Verdict::Fine, true)]);
        assert_eq!((findings.requests.all, findings.requests.total), (3, 2));
        assert!(findings.examples.is_empty());
    }

    #[test]
    fn within_the_lag_is_apart_from_failed() {
        let seconds = Duration::from_secs;
        let findings = seen(&[
            (Verdict::RefusedWithinLag(seconds(2)), true),
            (Verdict::Stale(seconds(1)), true),
            (Verdict::AcceptedAfterLogout(seconds(3)), true),
        ]);
        assert_eq!((findings.requests.failed, findings.worst_lag_ms), (0, 3000));
        let late = seen(&[
            (Verdict::RefusedLate(seconds(6)), true),
            (Verdict::Failed(Broken::Status(503)), false),
            (Verdict::Stale(seconds(6)), true),
            (Verdict::AcceptedAfterLogout(seconds(7)), true),
        ]);
        let requests = &late.requests;
        assert_eq!((requests.failed, requests.stale_late, requests.accepted_after_logout_late), (2, 1, 1));
        assert_eq!(late.failures.keys().map(String::as_str).collect::<Vec<_>>(), ["refused late", "status 503"]);
    }

    #[test]
    fn refused_and_older_are_lost_and_the_sum_of_endings_is_everybody() {
        let memory = Memory::new("t".to_owned(), LAG, LAG, LAG);
        let mut findings = Findings::default();
        let endings = [
            Ending::Kept,
            Ending::Shortened(LAG),
            Ending::Refused,
            Ending::Older { shown: 1, acknowledged: 2 },
            Ending::StayedOut,
            Ending::Zombie,
            Ending::Open,
        ];
        for ending in &endings {
            findings.conclude(&memory, ending);
        }
        let sessions = &findings.sessions;
        assert_eq!((sessions.after, sessions.lost, sessions.zombies, sessions.ever), (2, 2, 1, 7));
        assert_eq!(sessions.after + sessions.lost + sessions.stayed_out + sessions.zombies + sessions.open, 7);
        let mut sum = findings.clone();
        sum.add(findings);
        assert_eq!((sum.sessions.ever, sum.sessions.older, sum.sessions.shortened), (14, 2, 2));
    }
}
