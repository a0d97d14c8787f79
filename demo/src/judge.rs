//! What a visitor may conclude from an answer, in the words of the migration's promises: failed, refused within the
//! lag, stale, lost, zombie. Pure: time is an argument, counted from the beginning of the visit.
//! It must not know about stores, deployments or the copier.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, counted from the beginning of the visit.
pub type At = Duration;

/// A lifetime is given in whole seconds and rounded; what differs by less than this was not shortened.
const LIFETIME_ROUNDING: Duration = Duration::from_secs(2);

/// What one visitor remembers about one session: only what the app acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What the visitor shows to be recognised.
    pub token: String,
    /// When the login was acknowledged.
    pub born: At,
    /// The newest value the app acknowledged, and when it did.
    pub step: u64,
    /// When `step` was acknowledged.
    pub step_at: At,
    /// The newest value sent, acknowledged or not.
    pub sent_step: u64,
    /// The app promised that the session lives at least until then.
    pub lives_until: At,
    /// Logged in, out, or nobody knows.
    pub state: State,
    /// The instance that acknowledged the login.
    pub opened_by: Option<String>,
    /// The instance that acknowledged the logout.
    pub ended_by: Option<String>,
}

/// Whether a session should be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The login was acknowledged, no logout was asked for.
    LoggedIn,
    /// The logout was acknowledged at this moment.
    LoggedOut(At),
    /// A logout was asked for and its answer never came.
    Unsure,
}

/// What a visitor asked of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Save this value.
    Click(u64),
    /// Prolong the session, its value untouched.
    Renew,
    /// Show the session.
    Look,
    /// End the session.
    LogOut,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The app did it. The value is there if the app showed the session, the lifetime if the app named it.
    Accepted {
        /// The value the session holds.
        step: Option<u64>,
        /// How long the session lives from now.
        lifetime: Option<Duration>,
    },
    /// The app does not know the session.
    Refused,
    /// No proper answer.
    Broken(Broken),
}

/// How an answer can fail to be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Broken {
    /// A status no visitor should see: 5xx, or one this app never gives.
    Status(u16),
    /// Nothing came in time.
    TimedOut,
    /// The connection broke.
    Reset,
    /// The answer could not be read.
    Garbled,
}

/// One request about one session, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// When the request left.
    pub sent: At,
    /// When the answer was there.
    pub answered: At,
    /// What was asked.
    pub asked: Asked,
    /// What came back.
    pub answer: Answer,
    /// The instance that says it answered; for the record, no verdict depends on it.
    pub by: Option<String>,
}

/// What one exchange shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// 5xx, time-out, reset.
    Failed(Broken),
    /// An acknowledged session was refused this long after its acknowledgement, longer than the lag allows.
    RefusedLate(Duration),
    /// An acknowledged session was refused this long after its acknowledgement: two stores not yet in step.
    RefusedWithinLag(Duration),
    /// An older value than the acknowledged one was shown, this long after its acknowledgement.
    Stale(Duration),
    /// A session was accepted this long after its logout was acknowledged.
    AcceptedAfterLogout(Duration),
}

/// What the last look at a session shows, once both stores should agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Accepted, with the acknowledged value or a newer one, for as long as was promised.
    Kept,
    /// Accepted with the acknowledged value, but it ends this much too early: a renewal was lost.
    Shortened(Duration),
    /// Refused, or not readable at all, although it was acknowledged and never logged out.
    Refused,
    /// Accepted, but with an older value than the acknowledged one.
    Older {
        /// What the app shows.
        shown: u64,
        /// What the app acknowledged.
        acknowledged: u64,
    },
    /// Logged out, and refused as it should be.
    StayedOut,
    /// Logged out, and accepted.
    Zombie,
    /// Nobody can say what should be true: an unanswered logout, or its time has passed.
    Open,
}

impl Memory {
    /// A session as remembered right after its login was acknowledged.
    pub fn new(token: String, sent: At, answered: At, lifetime: Duration) -> Self {
        Self {
            token,
            born: answered,
            step: 0,
            step_at: answered,
            sent_step: 0,
            lives_until: sent + lifetime,
            state: State::LoggedIn,
            opened_by: None,
            ended_by: None,
        }
    }

    /// Whether the visitor believes to be logged in.
    pub fn is_live(&self) -> bool {
        self.state == State::LoggedIn
    }

    /// The value for the next click; no value is ever sent twice.
    pub fn next_step(&mut self) -> u64 {
        self.sent_step += 1;
        self.sent_step
    }

    /// Judges an exchange and remembers what it acknowledged.
    pub fn hear(&mut self, exchange: &Exchange, max_lag: Duration) -> Verdict {
        let verdict = judge(self, exchange, max_lag);
        self.remember(exchange);
        verdict
    }

    fn remember(&mut self, exchange: &Exchange) {
        let Answer::Accepted { lifetime, .. } = &exchange.answer else {
            if exchange.asked == Asked::LogOut && matches!(exchange.answer, Answer::Broken(_)) {
                self.state = State::Unsure;
            }
            return;
        };
        match exchange.asked {
            Asked::Click(step) => {
                self.step = step;
                self.step_at = exchange.answered;
            }
            Asked::LogOut => {
                self.state = State::LoggedOut(exchange.answered);
                self.ended_by.clone_from(&exchange.by);
            }
            Asked::Renew | Asked::Look => {}
        }
        if let (Asked::Click(_) | Asked::Renew, Some(lifetime)) = (exchange.asked, lifetime) {
            self.lives_until = self.lives_until.max(exchange.sent + *lifetime);
        }
    }
}

/// What an exchange shows about a session, before anything of it is remembered.
pub fn judge(memory: &Memory, exchange: &Exchange, max_lag: Duration) -> Verdict {
    match (&exchange.answer, memory.state) {
        (Answer::Broken(how), _) => Verdict::Failed(how.clone()),
        (_, State::Unsure) | (Answer::Refused, State::LoggedOut(_)) => Verdict::Fine,
        // A session that was acknowledged once must be known everywhere one lag later, however often it was used since.
        (Answer::Refused, State::LoggedIn) => {
            let after = exchange.sent.saturating_sub(memory.born);
            if after > max_lag { Verdict::RefusedLate(after) } else { Verdict::RefusedWithinLag(after) }
        }
        (Answer::Accepted { .. }, State::LoggedOut(at)) => {
            Verdict::AcceptedAfterLogout(exchange.sent.saturating_sub(at))
        }
        (Answer::Accepted { step, .. }, State::LoggedIn) => match (exchange.asked, step) {
            (Asked::Look, Some(shown)) if *shown < memory.step => {
                Verdict::Stale(exchange.sent.saturating_sub(memory.step_at))
            }
            (Asked::Click(_) | Asked::Renew | Asked::Look | Asked::LogOut, _) => Verdict::Fine,
        },
    }
}

/// What the last look at a session shows. `exchange` must be a [`Asked::Look`] made after the stores were in step.
pub fn conclude(memory: &Memory, exchange: &Exchange) -> Ending {
    let expired = exchange.answered + LIFETIME_ROUNDING >= memory.lives_until;
    match (memory.state, &exchange.answer) {
        (State::LoggedOut(_), Answer::Accepted { .. }) => Ending::Zombie,
        (State::LoggedOut(_), Answer::Refused) => Ending::StayedOut,
        (State::Unsure, _) | (State::LoggedOut(_), Answer::Broken(_)) => Ending::Open,
        (State::LoggedIn, Answer::Refused | Answer::Broken(_)) if expired => Ending::Open,
        (State::LoggedIn, Answer::Refused | Answer::Broken(_)) => Ending::Refused,
        (State::LoggedIn, Answer::Accepted { step, lifetime }) => {
            if let Some(shown) = step
                && *shown < memory.step
            {
                return Ending::Older { shown: *shown, acknowledged: memory.step };
            }
            let ends = lifetime.map_or(memory.lives_until, |lifetime| exchange.answered + lifetime);
            let missing = memory.lives_until.saturating_sub(ends);
            if missing > LIFETIME_ROUNDING { Ending::Shortened(missing) } else { Ending::Kept }
        }
    }
}

#[cfg(test)]
mod tests;
