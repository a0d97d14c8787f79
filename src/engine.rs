//! One turn: observe → plan → guard → act → record. The only orchestration there is, generic over the world.

use std::future::Future;

use jiff::Timestamp;

use crate::desired::Desired;
use crate::error::CloudError;
use crate::identity::Owner;
use crate::journal::{Entry, Journal};
use crate::observed::{Observed, Reading};
use crate::step::Step;

/// The world as the engine sees it: the clouds, the stores, the copier and the journal's secret.
pub trait World: Sync {
    /// The journal as it stands. `Absent` is an owner nobody has written about. A version older than one this
    /// process wrote is `Unknown`: Secrets Manager reads are eventually consistent.
    fn journal(&self, owner: &Owner) -> impl Future<Output = Reading<Journal>> + Send;

    /// Everything else, read at once. Never fails: what could not be read is `Unknown`.
    fn observe(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> impl Future<Output = Observed> + Send;

    /// Carries out one step: at most one mutating call. Returns the journal line that keeps what cannot be read again
    /// (an operation id, a new database's id); the engine writes it before the next wave.
    fn perform(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Entry>, CloudError>> + Send;
}
