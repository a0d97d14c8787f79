//! A world in the hands of whoever holds the lease.

use jiff::Timestamp;

use super::lease::Leadership;
use crate::clock::{Clock, Time as _};
use crate::desired::Desired;
use crate::engine::World;
use crate::error::{Class, CloudError};
use crate::identity::{MigrationId, Owner};
use crate::journal::{Entry, Journal, Migration};
use crate::observed::{CopyState, HELD, Observed, Reading};
use crate::runner::LocalCopiers;
use crate::step::{CopyMode, Step};
use crate::stop::{Stop, Waves};
use crate::world::CloudWorld;

/// The world, changed only while this process may act, with every call in the log.
pub(super) struct Led<'a> {
    world: &'a CloudWorld,
    leadership: &'a Leadership,
    waves: Waves,
}

impl<'a> Led<'a> {
    /// A world as it may be changed now.
    pub(super) fn new(world: &'a CloudWorld, leadership: &'a Leadership, stop: &Stop) -> Self {
        Self { world, leadership, waves: Waves::until(stop) }
    }

    /// What is written down of an owner.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn written(&self, owner: &Owner) -> Result<Journal, CloudError> {
        match self.world.journal(owner).await {
            Reading::Present(journal) => Ok(journal),
            Reading::Absent => Ok(Journal::default()),
            Reading::Unknown(error) => Err(error),
            Reading::Hidden(why) => Err(CloudError::new(Class::Denied, "sessionbackend", "journal", "", &why)),
        }
    }

    /// Has the copier of an open migration run, where both stores may be in use and none of `copiers` does it; how far that
    /// keeps them in step. All it needs is in the journal and its vault.
    ///
    /// # Errors
    /// When the journal cannot be read, or the copier cannot be started.
    pub(super) async fn keep_in_step(&self, owner: &Owner, copiers: &LocalCopiers) -> Result<Option<Kept>, CloudError> {
        let journal = self.written(owner).await?;
        let Some(migration) = journal.open_migration().filter(|migration| must_stay_in_step(migration)) else {
            return Ok(None);
        };
        // Asked first: one that is started again has forgotten what the one before it failed of.
        let how = How::of(copiers.state(&migration.id));
        if !copiers.is_at_work(&migration.id) {
            self.perform(owner, &in_step(migration), &journal, Clock.now()).await?;
        }
        Ok(Some(Kept { migration: migration.id.clone(), how }))
    }
}

/// Two stores that may both be in use, and what becomes of them.
#[derive(Debug)]
pub(super) struct Kept {
    /// By which migration.
    pub(super) migration: MigrationId,
    /// How.
    pub(super) how: How,
}

/// How two stores are kept in step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum How {
    /// They are.
    InStep,
    /// A copier has begun, or waits for the end of another one.
    Begun,
    /// The copier fails of this, and is tried again.
    Failing(String),
}

impl How {
    /// As the copier says.
    pub(super) fn of(state: Option<CopyState>) -> Self {
        match state {
            Some(CopyState::BothWays) => Self::InStep,
            Some(CopyState::Failed { reason, message, .. }) if reason != HELD => {
                Self::Failing(format!("{reason}: {message}"))
            }
            Some(CopyState::Failed { .. } | CopyState::Starting | CopyState::Bulk | CopyState::Following) | None => {
                Self::Begun
            }
        }
    }
}

/// Whether both stores of an open migration may be in use: without a copier a session could be lost.
pub(super) fn must_stay_in_step(migration: &Migration) -> bool {
    migration.still_copies() && migration.sealed.is_some()
}

/// The copier, both ways.
pub(super) fn in_step(migration: &Migration) -> Step {
    Step::Copy { migration: migration.id.clone(), mode: CopyMode::BothWays }
}

impl World for Led<'_> {
    async fn journal(&self, owner: &Owner) -> Reading<Journal> {
        self.world.journal(owner).await
    }

    async fn observe(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> Observed {
        self.waves.turn();
        self.world.observe(owner, desired, journal).await
    }

    async fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> Result<Option<Entry>, CloudError> {
        self.waves.call()?;
        if !self.leadership.is_held() {
            let what = "another replica may act by now; nothing was called";
            return Err(CloudError::new(Class::Conflict, "sessionbackend", "perform", "", what));
        }
        let result = self.world.perform(owner, step, journal, now).await;
        match &result {
            Ok(_) => tracing::info!(object = %owner, %step, "done"),
            Err(error) => tracing::warn!(object = %owner, %step, %error, "failed"),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_said_to_be_in_step_only_where_a_copier_says_so() {
        let failed = |reason: &str| CopyState::Failed {
            reason: reason.to_owned(),
            message: "it says why".to_owned(),
            temporary: true,
        };
        for (state, how) in [
            (None, How::Begun),
            (Some(CopyState::Starting), How::Begun),
            (Some(CopyState::Following), How::Begun),
            (Some(CopyState::BothWays), How::InStep),
            (Some(failed("Fenced")), How::Failing("Fenced: it says why".to_owned())),
            (Some(failed(HELD)), How::Begun),
        ] {
            assert_eq!(How::of(state), how);
        }
    }
}
