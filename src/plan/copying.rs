//! What the planner asks of the copier, and what it believes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::desired::Target;
use crate::identity::StoreId;
use crate::journal::{Copied, Entry, Gate, Migration, ServiceMove, Uncarried};
use crate::observed::{Client, Copy, CopyState, HELD, Reading};
use crate::step::{CopyMode, Side, Step};

use super::moves::any_moved;
use super::{Awaited, Draft, Inputs, Late, Reason, Wait, after};

/// A runner that has not been heard of for this long is taken for dead.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a copier that failed for good is left alone before it is tried again.
const TRIED_AGAIN: Duration = Duration::from_mins(1);
/// How long a copy may stay behind, or out of step, before a person is asked.
const CATCH_UP_LIMIT: Duration = Duration::from_hours(6);
/// How long the drained store may keep clients beyond the longest request.
const DRAIN_LIMIT: Duration = Duration::from_mins(30);

impl<'a> Draft<'a> {
    /// The copier, alive in this process; asks for it (in `mode`) where it is not. A failure of its own is said here.
    pub(crate) fn copier(&mut self, migration: &Migration, mode: CopyMode) -> Option<&'a Copy> {
        let alive = |copy: &&Copy| copy.here && self.inputs.now < after(copy.heartbeat, HEARTBEAT);
        let reading = &self.inputs.observed.copy;
        let copy = reading.present();
        if let Some(Copy { state: CopyState::Failed { reason, message, temporary }, heartbeat, here, .. }) = copy {
            if *here && *temporary && alive(&copy?) {
                // It goes on by itself when the trouble ends.
                let message = if reason == HELD {
                    format!("{message}: watching; this one takes over if it stops")
                } else {
                    let lost = given_up(migration).map(|word| format!("; if that store is lost for good, {word}"));
                    let lost = lost.unwrap_or_default();
                    format!("the copy is held up ({reason}: {message}) and goes on by itself{lost}")
                };
                self.wait(Wait {
                    on: Awaited::CopyInStep,
                    since: migration.sealed.unwrap_or(migration.began),
                    expected: None,
                    deadline: None,
                    message,
                });
                return None;
            }
            // What a former process failed at this one has not tried yet; what it failed at itself it tries again.
            if !here || *temporary || self.inputs.now >= after(*heartbeat, TRIED_AGAIN) {
                self.step(Step::Copy { migration: migration.id.clone(), mode });
            }
            if *temporary && *here {
                self.note(format!("the copy stopped ({reason}: {message}) and is tried again"));
            } else if *here {
                let told = [Reason::Evicting, Reason::UnmatchedKeys].into_iter().find(|told| reason == told.as_str());
                let word = told.unwrap_or(Reason::CopyFailed);
                self.block(word, format!("copy {}", migration.id), format!("{reason}: {message}"), remedy(migration));
            }
            return None;
        }
        match reading {
            Reading::Unknown(_) | Reading::Hidden(_) => {
                self.unread(reading, "the progress of the copy");
                return None;
            }
            Reading::Absent | Reading::Present(_) => {}
        }
        let in_mode = |copy: &&Copy| match mode {
            CopyMode::BothWays => copy.state == CopyState::BothWays,
            CopyMode::Follow | CopyMode::Clear { .. } | CopyMode::Withdraw => true,
        };
        let found = copy.filter(alive);
        if let Some(copy) = found.filter(in_mode) {
            return Some(copy);
        }
        if found.is_some_and(|copy| copy.here && copy.asked == Some(mode)) {
            self.wait(Wait {
                on: Awaited::CopyInStep,
                since: migration.sealed.unwrap_or(migration.began),
                expected: None,
                deadline: None,
                message: "what both stores hold is written down, so that they can be kept in step both ways".to_owned(),
            });
            return None;
        }
        self.step(Step::Copy { migration: migration.id.clone(), mode });
        None
    }

    /// Whether the new store has caught up and follows closely enough to switch.
    pub(crate) fn caught_up(&mut self, target: &Target, migration: &Migration) -> bool {
        let Some(copy) = self.copier(migration, CopyMode::Follow) else { return false };
        let limit = target.migration.max_lag;
        let lag = copy.lag_ms.map(Duration::from_millis);
        let following = match copy.state {
            CopyState::Following | CopyState::BothWays => true,
            CopyState::Starting | CopyState::Bulk | CopyState::Failed { .. } => false,
        };
        if following && lag.is_some_and(|lag| lag <= limit) {
            return true;
        }
        let message = match (following, lag) {
            (true, Some(_)) => format!(
                "the new store is behind by more than {} (migration.maxLag), the switch waits until it is not",
                shown(Some(limit))
            ),
            (true, None) => "how far the new store is behind is being measured".to_owned(),
            (false, _) => copied(copy),
        };
        self.wait_until(
            Awaited::CopyCaughtUp,
            migration.began,
            CATCH_UP_LIMIT,
            message,
            Late { reason: Reason::LagTooHigh, subject: "migration.maxLag", remedy: Reason::LagTooHigh.remedy() },
        );
        false
    }

    /// Whether both stores are kept in step, both ways, closely enough to change a service now.
    pub(crate) fn in_step(&mut self, target: &Target, migration: &Migration) -> bool {
        if !migration.copies || self.left_is_gone(migration) {
            return true;
        }
        let Some(copy) = self.copier(migration, CopyMode::BothWays) else { return false };
        let lag = copy.lag_ms.map(Duration::from_millis);
        if lag.is_some_and(|lag| lag <= target.migration.max_lag) {
            return true;
        }
        self.wait(Wait {
            on: Awaited::CopyInStep,
            since: migration.sealed.unwrap_or(migration.began),
            expected: None,
            deadline: None,
            message: match lag {
                Some(_) => format!(
                    "both stores are being brought in step; the lag is more than {} (migration.maxLag)",
                    shown(Some(target.migration.max_lag))
                ),
                None => "both stores are being brought in step; the lag is being measured".to_owned(),
            },
        });
        false
    }

    /// While an operation moves clients from store to store somebody must carry what they write, whoever began it.
    pub(crate) fn kept_in_step(&mut self, migration: &Migration) {
        if migration.copies && left_gone(self.inputs, migration).is_none() {
            self.copier(migration, CopyMode::BothWays);
        }
    }

    /// Whether the last client of the drained side is gone and nothing is left to carry away from it.
    /// `last` is when the last operation that moved clients away from it ended.
    pub(crate) fn drained(&mut self, target: &Target, migration: &Migration, side: Side, last: Timestamp) -> bool {
        let leaves = after(last, target.app.longest_request);
        if self.inputs.now < leaves {
            if migration.copies {
                self.in_step(target, migration);
            }
            self.wait(Wait {
                on: Awaited::LongestRequest,
                since: last,
                expected: Some(leaves),
                deadline: None,
                message: format!(
                    "old instances may still be serving for {} (app.longestRequest)",
                    shown(Some(target.app.longest_request))
                ),
            });
            return false;
        }
        if !migration.copies || self.left_is_gone(migration) {
            return true;
        }
        if !self.in_step(target, migration) {
            return false;
        }
        if side == Side::From && !self.handed_over(target, migration) {
            return false;
        }
        let Some(copy) = self.inputs.observed.copy.present() else { return false };
        let (clients, connected) = match side {
            Side::From => (copy.clients_from, &copy.connected_from),
            Side::To => (copy.clients_to, &copy.connected_to),
        };
        let late = Late {
            reason: Reason::DrainIncomplete,
            subject: "the drained store",
            remedy: &not_drained(migration, side),
        };
        if let Some(clients) = clients.filter(|clients| *clients > 0) {
            let message = format!(
                "{} to the drained store {} still open{}",
                crate::render::plural(usize::try_from(clients).unwrap_or(usize::MAX), "connection"),
                if clients == 1 { "is" } else { "are" },
                named(connected, clients)
            );
            self.wait_until(Awaited::ClientsGone, leaves, DRAIN_LIMIT, message, late);
            return false;
        }
        let counting = copy.quiet_since.is_some_and(|since| since >= leaves) && copy.drained == Some(side);
        if !counting {
            self.step(Step::CountQuiet { migration: migration.id.clone(), drained: side });
            return false;
        }
        if copy.quiet_sweeps >= 2 && copy.different == Some(0) {
            return true;
        }
        let different = match copy.different {
            None => "not compared yet",
            Some(0) => "no key differs",
            Some(_) => "some keys differ",
        };
        self.wait_until(
            Awaited::Quiet,
            copy.quiet_since.unwrap_or(leaves),
            DRAIN_LIMIT,
            format!("the last writes are carried over ({} quiet sweeps, {different})", copy.quiet_sweeps.min(2)),
            late,
        );
        false
    }

    /// Whether the users of the old store outside App Runner have been moved: only a person can say so.
    fn handed_over(&mut self, target: &Target, migration: &Migration) -> bool {
        let names: Vec<_> = target.other_consumers.iter().map(|other| other.name.as_str()).collect();
        if names.is_empty() || migration.approved.contains(&Gate::Handover) {
            return true;
        }
        self.note(format!(
            "{} must be pointed to {} by hand now; until that is approved both stores are kept in step",
            names.join(", "),
            migration.to.id
        ));
        self.approved(true, migration, Gate::Handover)
    }

    /// Whether the copier has gone and taken its traces with it, and, where the migration came to nothing (`mode` is
    /// `Withdraw`), what it had copied too. A store that is gone took its traces along.
    pub(crate) fn copy_cleared(&mut self, migration: &Migration, mode: CopyMode) -> bool {
        let copy = &self.inputs.observed.copy;
        if !migration.copies || copy.is_absent() || migration.copied.is_some_and(|copied| copied.cleared) {
            return true;
        }
        let gone = match (self.is_gone(migration, Side::From), self.is_gone(migration, Side::To)) {
            (true, true) => return true,
            (true, false) => Some(Side::From),
            (false, true) => Some(Side::To),
            (false, false) => None,
        };
        self.say_what_gives_up(migration);
        // What the copier has told is in the store it copies to.
        match copy {
            Reading::Unknown(_) if gone != Some(Side::To) => {
                self.unread(copy, "the progress of the copy");
                return false;
            }
            Reading::Present(copy) if migration.copied.is_none() => {
                let copied = Copied {
                    keys: copy.copied,
                    conflicts: copy.conflicts,
                    worst_lag_ms: copy.worst_lag_ms,
                    cleared: false,
                    uncarried: uncarried(migration, copy),
                };
                self.journal(Entry::Copied(copied));
                return false;
            }
            Reading::Present(_) | Reading::Unknown(_) | Reading::Hidden(_) | Reading::Absent => {}
        }
        let mode = if gone.is_none() { mode } else { CopyMode::Clear { gone } };
        self.step(Step::Copy { migration: migration.id.clone(), mode });
        false
    }

    /// The traces of a copy go from both stores; one that does not answer keeps the end waiting until a person lets go.
    fn say_what_gives_up(&mut self, migration: &Migration) {
        for (side, record) in [(Side::From, migration.from.as_ref()), (Side::To, Some(&migration.to))] {
            let Some(record) = record.filter(|record| silent(self.inputs, &record.id)) else { continue };
            if may_be_given_up(self.inputs, migration, side) && !migration.approved.contains(&Gate::GiveUp) {
                self.note(format!(
                    "{} does not answer, and the end of the copy waits for it; if it is lost for good, {}",
                    record.id,
                    give_up(&record.id, migration)
                ));
            }
        }
    }

    /// Whether a store of the migration is gone, or was given up by a person.
    pub(crate) fn is_gone(&self, migration: &Migration, side: Side) -> bool {
        gone(self.inputs, migration, side).is_some()
    }

    /// Whether the store that is being left is gone: then nothing can be carried from it, and nobody may stay on it.
    fn left_is_gone(&mut self, migration: &Migration) -> bool {
        let left = left_gone(self.inputs, migration);
        if let Some(store) = left {
            let how = if migration.approved.contains(&Gate::GiveUp) { "was given up" } else { "is gone" };
            self.note(format!("{store} {how}: what only it held is lost, and the stores are kept in step no longer"));
        }
        left.is_some()
    }

    /// Writes down that both stores are in step, ready for the first switch.
    pub(crate) fn sealed(&mut self, target: &Target, migration: &Migration) -> bool {
        if migration.sealed.is_some() {
            return true;
        }
        if self.in_step(target, migration) {
            self.journal(Entry::Sealed);
        }
        false
    }
}

/// What came into the store that is being left and is not carried from it.
pub(super) fn uncarried(migration: &Migration, copy: &Copy) -> Uncarried {
    if migration.rollback.is_some() { copy.uncarried_to } else { copy.uncarried_from }
}

/// What a person can do about a copier that stopped for good.
fn remedy(migration: &Migration) -> String {
    if migration.sealed.is_none() {
        return "repair what it names; it is tried again every minute".to_owned();
    }
    let anew = "repair what it names, then say `retry`: both stores are compared anew and everything is carried over but deletions";
    given_up(migration).map_or_else(|| anew.to_owned(), |word| format!("{anew}; or {word}"))
}

/// The word that gives up the store that is being left, where somebody has left it.
fn given_up(migration: &Migration) -> Option<String> {
    let left = if migration.rollback.is_some() { Some(&migration.to) } else { migration.from.as_ref() };
    let left = left.filter(|_| any_moved(migration))?;
    Some(give_up(&left.id, migration))
}

fn give_up(store: &StoreId, migration: &Migration) -> String {
    format!(
        "give {store} up, with what only it holds: sessionbackend approve {}/{} -f FILE",
        migration.id,
        Gate::GiveUp
    )
}

/// What a person can do about a store that somebody does not leave.
fn not_drained(migration: &Migration, side: Side) -> String {
    let others = match side {
        Side::From => "; or go back: sessionbackend abort -f FILE",
        Side::To => "",
    };
    let word = given_up(migration).map_or_else(String::new, |word| format!("; or {word}"));
    format!("close those connections or stop who writes there{word}{others}")
}

/// How far the first copy has come. What people read changes in steps; the figures themselves are in [`Copy`].
fn copied(copy: &Copy) -> String {
    match copy.copied.saturating_mul(100).checked_div(copy.total) {
        None => "the first keys are being copied".to_owned(),
        Some(percent) => format!("copying: {} % of the keys", percent.min(100) / 5 * 5),
    }
}

/// Who is connected, as far as the store tells, and roughly for how long.
fn named(connected: &[Client], all: u64) -> String {
    if connected.is_empty() {
        return String::new();
    }
    let one = |client: &Client| {
        let name = if client.name.is_empty() { "a client without a name" } else { &client.name };
        let host = client.address.rsplit_once(':').map_or(client.address.as_str(), |(host, _)| host);
        let age = match client.age {
            0..60 => "",
            60..3600 => " for minutes",
            3600..86_400 => " for hours",
            86_400.. => " for days",
        };
        format!("{name} from {host}{age}")
    };
    let told: BTreeSet<_> = connected.iter().map(one).collect();
    let told: Vec<_> = told.into_iter().collect();
    let more = all.saturating_sub(connected.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(": {}{more}", told.join(", "))
}

/// The store of a side, where it is gone for certain, by its vendor's word, or a person has given it up.
fn gone<'a>(inputs: &Inputs<'_>, migration: &'a Migration, side: Side) -> Option<&'a StoreId> {
    let record = match side {
        Side::From => migration.from.as_ref()?,
        Side::To => &migration.to,
    };
    let given_up = migration.approved.contains(&Gate::GiveUp) && may_be_given_up(inputs, migration, side);
    (given_up || inputs.observed.is_gone(&record.id, inputs.now)).then_some(&record.id)
}

/// Whether giving up means this store: the one that is being left; before the first call, when nothing but our traces is
/// in either, the one that does not answer.
fn may_be_given_up(inputs: &Inputs<'_>, migration: &Migration, side: Side) -> bool {
    if migration.services.iter().any(ServiceMove::was_told) {
        return migration.rollback.is_some() == (side == Side::To);
    }
    let record = match side {
        Side::From => migration.from.as_ref(),
        Side::To => Some(&migration.to),
    };
    migration.rollback.is_some() && record.is_some_and(|record| silent(inputs, &record.id))
}

/// Whether a store is there, by its vendor's word or ours, and its server was asked and did not answer.
fn silent(inputs: &Inputs<'_>, id: &StoreId) -> bool {
    let readings = [&inputs.observed.source, &inputs.observed.target];
    let mut servers = readings.into_iter().filter_map(Reading::present).filter(|store| store.id == *id);
    servers.any(|store| matches!(store.server, Reading::Hidden(_) | Reading::Unknown(_)))
}

/// The store that is being left, where it is gone: nothing can be carried from it, and nobody may stay on it.
pub(super) fn left_gone<'a>(inputs: &Inputs<'_>, migration: &'a Migration) -> Option<&'a StoreId> {
    let left = if migration.rollback.is_some() { Side::To } else { Side::From };
    // Before the first call nobody has left anything: a copy that cannot be made stops the migration.
    gone(inputs, migration, left).filter(|_| any_moved(migration))
}

/// A duration for people: two significant units at most, milliseconds below a second.
pub(crate) fn shown(duration: Option<Duration>) -> String {
    let Some(duration) = duration else { return "not known".to_owned() };
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
