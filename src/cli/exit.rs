//! Exit codes: what a pipeline can rely on.

use crate::render::apply::Ending;

/// Done, or nothing to do.
pub const CONVERGED: u8 = 0;
/// An error, or something has to be put right first.
pub const ERROR: u8 = 1;
/// `plan`: there are changes.
pub const CHANGES: u8 = 2;
/// The services are back, or still, on the former store.
pub const ROLLED_BACK: u8 = 3;
/// A person's word is needed.
pub const APPROVAL: u8 = 4;
/// Ended by a signal; another `apply` goes on.
pub const INTERRUPTED: u8 = 130;

/// The code of an ending.
#[must_use]
pub fn of(ending: &Ending) -> u8 {
    match ending {
        Ending::Converged { .. } | Ending::Deleted => CONVERGED,
        Ending::RolledBack { .. } | Ending::Abandoned { .. } => ROLLED_BACK,
        Ending::AwaitsApproval { .. } => APPROVAL,
        Ending::Blocked { .. } | Ending::Failed { .. } => ERROR,
        Ending::LookedOnly => CHANGES,
        Ending::Interrupted { .. } => INTERRUPTED,
    }
}
