//! What two stores that serve the same users should both hold next: the three-way merge of DESIGN §7.2, per key.
//!
//! Pure: no clock, no IO, no value, only digests and deadlines. It judges; whoever moves the bytes (`copy`) does so by
//! compare-and-set and asks again when a store has moved on meanwhile. It never sees names, so it cannot treat one key
//! differently from another.

use std::{cmp::max, fmt};

use serde::{Deserialize, Serialize};

/// How far two readings of the clock may be apart, in milliseconds: a key that vanished this shortly before its
/// deadline has expired. Calling it a deletion would log out a user who renewed on the other side in the last moment.
pub const CLOCK_GRACE: i64 = 500;

/// Deadlines that are no further apart say nothing about which write was the later one, in milliseconds: two servers' clocks
/// are compared over a network.
pub const SAME_MOMENT: i64 = 100;

/// When a key ends: milliseconds since the epoch by the old store's clock, or never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Deadline(i64);

impl Deadline {
    /// No expiry; later than every other deadline.
    pub const NEVER: Self = Self(i64::MAX);

    /// At `millis` since the epoch; a negative value is how Redis says "no expiry" (`PEXPIRETIME` → −1).
    #[must_use]
    pub const fn at(millis: i64) -> Self {
        if millis < 0 { Self::NEVER } else { Self(millis) }
    }

    /// Milliseconds since the epoch; `None` without expiry.
    #[must_use]
    pub const fn millis(self) -> Option<i64> {
        if self.0 == i64::MAX { None } else { Some(self.0) }
    }

    /// The same moment by a clock that shows `millis` more.
    #[must_use]
    pub const fn shifted(self, millis: i64) -> Self {
        if self.0 == i64::MAX { self } else { Self(self.0.saturating_add(millis)) }
    }

    const fn passed(self, now: i64) -> bool {
        self.0 <= now
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.millis() {
            Some(at) => write!(f, "@{at}"),
            None => f.write_str("@never"),
        }
    }
}

/// One key as one store holds it, or as both held it when they last agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Of the type and the content; equal digests are taken for equal values.
    pub digest: u64,
    /// When it ends.
    pub deadline: Deadline,
}

/// What a key means to the application; it decides who wins when one side deleted what the other changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A deletion is a logout, which must not come back.
    #[default]
    Session,
    /// A change is worth more than a deletion.
    Data,
}

/// Which store: the one the application comes from, or the one it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The store that was in use when the migration began.
    Old,
    /// The store it goes to; it wins where nothing else decides.
    New,
}

impl Side {
    /// The opposite store.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// Why a key had to be decided against one of its writers. Counted and named in the report, never silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Conflict {
    /// Both sides wrote different values since they last agreed. Of a session the one that lives longer stays: where a
    /// write renews it, that is the later write, as it would be in one store. Else, and of data, the new store's.
    BothChanged,
    /// Both have it, different, and they never agreed on it; decided in the same way.
    NeverAgreed,
    /// One side deleted what the other changed; a session is deleted, data keeps the change.
    DeletedAndChanged,
}

/// What one store needs so that it holds what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// It already does.
    Keep,
    /// Write the value the other store has, to end at this deadline.
    Put(Deadline),
    /// Its value is right, its deadline is not.
    Renew(Deadline),
    /// Delete it.
    Delete,
}

/// The decision for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What both hold once `old` and `new` are carried out: the next base. `None`: neither has it.
    pub agreed: Option<Entry>,
    /// What the old store needs.
    pub old: Act,
    /// What the new store needs.
    pub new: Act,
    /// Set where somebody's write is lost by the decision.
    pub conflict: Option<Conflict>,
}

impl Outcome {
    /// Nothing has to be written anywhere.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!((self.old, self.new), (Act::Keep, Act::Keep))
    }

    /// What this side needs.
    #[must_use]
    pub const fn on(&self, side: Side) -> Act {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }
}

/// What happened to a key on one side since both sides agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Not there, and there is no reason to think that somebody removed it.
    Gone,
    Deleted,
    Same,
    Renewed(Entry),
    Changed(Entry),
}

fn change(base: Option<Entry>, seen: Option<Entry>, now: i64) -> Change {
    match (base, seen) {
        (None, None) => Change::Gone,
        (Some(base), None) if base.deadline.passed(now.saturating_add(CLOCK_GRACE)) => Change::Gone,
        (Some(_), None) => Change::Deleted,
        (Some(base), Some(seen)) if base == seen => Change::Same,
        (Some(base), Some(seen)) if base.digest == seen.digest => Change::Renewed(seen),
        (_, Some(seen)) => Change::Changed(seen),
    }
}

/// Decides what both stores should hold.
///
/// `base` is what both had when they last agreed, `old` and `new` what they hold now, `now` milliseconds since the
/// epoch by the clock the deadlines are given in. A `seen` whose deadline has passed counts as absent.
#[must_use]
pub fn merge(base: Option<Entry>, old: Option<Entry>, new: Option<Entry>, kind: Kind, now: i64) -> Outcome {
    let alive = |seen: Option<Entry>| seen.filter(|entry| !entry.deadline.passed(now));
    let (old, new) = (alive(old), alive(new));
    let (agreed, conflict) = agree(base, change(base, old, now), change(base, new, now), kind);
    Outcome { agreed, old: act(old, agreed), new: act(new, agreed), conflict }
}

fn agree(base: Option<Entry>, old: Change, new: Change, kind: Kind) -> (Option<Entry>, Option<Conflict>) {
    use Change::{Changed, Deleted, Gone, Renewed, Same};
    match (old, new) {
        (Gone | Deleted, Gone | Deleted) | (Deleted, Same | Renewed(_)) | (Same | Renewed(_), Deleted) => (None, None),
        (Gone | Same, Same) | (Same, Gone) => (base, None),
        (Gone | Same, Renewed(entry) | Changed(entry)) | (Renewed(entry) | Changed(entry), Gone | Same) => {
            (Some(entry), None)
        }
        (Deleted, Changed(entry)) | (Changed(entry), Deleted) => {
            let kept = match kind {
                Kind::Session => None,
                Kind::Data => Some(entry),
            };
            (kept, Some(Conflict::DeletedAndChanged))
        }
        (Changed(value), Renewed(other)) | (Renewed(other), Changed(value)) => (Some(later(value, other)), None),
        (Renewed(old), Renewed(new)) => (Some(later(new, old)), None),
        (Changed(old), Changed(new)) => {
            let conflict = (old.digest != new.digest)
                .then(|| if base.is_some() { Conflict::BothChanged } else { Conflict::NeverAgreed });
            let stays = match kind {
                Kind::Session if old.deadline > new.deadline.shifted(SAME_MOMENT) => old,
                Kind::Session | Kind::Data => new,
            };
            (Some(Entry { deadline: max(old.deadline, new.deadline), ..stays }), conflict)
        }
    }
}

/// The value of the first until the later of both deadlines.
fn later(value: Entry, other: Entry) -> Entry {
    Entry { digest: value.digest, deadline: max(value.deadline, other.deadline) }
}

fn act(seen: Option<Entry>, agreed: Option<Entry>) -> Act {
    match (seen, agreed) {
        (None, None) => Act::Keep,
        (Some(_), None) => Act::Delete,
        (Some(seen), Some(agreed)) if seen == agreed => Act::Keep,
        (Some(seen), Some(agreed)) if seen.digest == agreed.digest => Act::Renew(agreed.deadline),
        (_, Some(agreed)) => Act::Put(agreed.deadline),
    }
}

#[cfg(test)]
mod tests;
