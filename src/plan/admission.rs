//! The states of a service that stop us, by what we are about to do: every cell decided.

use crate::observed::ServiceStatus;

/// What we are about to do with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intention {
    /// Begin a migration with it.
    Begin,
    /// Change it.
    Change,
    /// Change it back.
    ChangeBack,
    /// Only look at it.
    Look,
}

/// Whether its status allows that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Go,
    /// Somebody's operation is under way: wait for its end.
    Wait,
    /// It is paused: a person must resume it.
    Paused,
    /// It never came up, or could not be deleted.
    Failed,
    /// It is gone.
    Gone,
}

/// The table.
#[must_use]
pub fn admission(status: &ServiceStatus, intention: Intention) -> Admission {
    use Intention::{Begin, Change, ChangeBack, Look};
    match (status, intention) {
        (ServiceStatus::Running, Begin | Change | ChangeBack | Look) => Admission::Go,
        // UpdateService is refused while any operation runs, AWS's own maintenance included.
        (ServiceStatus::OperationInProgress, Begin | Change | ChangeBack) => Admission::Wait,
        (ServiceStatus::OperationInProgress, Look) => Admission::Go,
        // The API reference once allowed updates of a paused service; the current one refuses them.
        (ServiceStatus::Paused, Begin | Change | ChangeBack) => Admission::Paused,
        (ServiceStatus::Paused, Look) => Admission::Go,
        (ServiceStatus::CreateFailed, Begin | Change | ChangeBack | Look) => Admission::Failed,
        // A service that could not be deleted may still be serving.
        (ServiceStatus::DeleteFailed, Begin | Change | ChangeBack) => Admission::Failed,
        (ServiceStatus::DeleteFailed, Look) => Admission::Go,
        (ServiceStatus::Deleted, Begin | Change | ChangeBack | Look) => Admission::Gone,
        // A status this version does not know is waited out and never acted on.
        (ServiceStatus::Other(_), Begin | Change | ChangeBack) => Admission::Wait,
        (ServiceStatus::Other(_), Look) => Admission::Go,
    }
}
