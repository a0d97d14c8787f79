//! Exit codes: what a pipeline can rely on.

use crate::forecast::End;
use crate::render::apply::Ending;
use crate::render::plan::Preview;

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
/// The command line itself is wrong (EX_USAGE): 2 would look like changes.
pub const USAGE: u8 = 64;
/// Ended by a signal; another `apply` goes on.
pub const INTERRUPTED: u8 = 130;

/// The code of an ending.
#[must_use]
pub fn of(ending: &Ending) -> u8 {
    match ending {
        Ending::Converged { .. } | Ending::Deleted => CONVERGED,
        Ending::RolledBack { .. } => ROLLED_BACK,
        Ending::AwaitsApproval { .. } => APPROVAL,
        Ending::Blocked { .. } | Ending::Failed { .. } => ERROR,
        Ending::LookedOnly => CHANGES,
        Ending::Interrupted { .. } => INTERRUPTED,
    }
}

/// The code of a plan: what stops it is worse than what it would do.
#[must_use]
pub fn of_preview(preview: &Preview) -> u8 {
    match &preview.forecast.end {
        End::Blocked(_) | End::MayBlock(_) | End::Broken(_) => ERROR,
        End::Converged | End::AwaitsApproval if preview.has_changes() => CHANGES,
        End::Converged | End::AwaitsApproval => CONVERGED,
    }
}
