//! The planner's reasons in the words of conditions. One table, every cell decided.

use crate::api::Reason as Word;
use crate::plan::Reason;

/// The word for a reason.
pub(super) fn word(reason: Reason) -> Word {
    match reason {
        Reason::AccountMismatch => Word::AccountMismatch,
        Reason::CredentialsInvalid => Word::CredentialsInvalid,
        Reason::PermissionDenied => Word::AccessDenied,
        Reason::QuotaReached => Word::QuotaExceeded,
        Reason::NotSubscribed | Reason::WriterNotOffered => Word::Unsupported,
        Reason::Rejected => Word::Rejected,
        Reason::VendorUnavailable => Word::ApiUnavailable,
        Reason::Hidden | Reason::SourceUnknown | Reason::ServicesDisagree => Word::SourceUnknown,
        Reason::ServiceNotFound => Word::ServiceNotFound,
        Reason::ServicePaused => Word::ServicePaused,
        Reason::ServiceFailed => Word::ServiceUnusable,
        Reason::ServiceStuck => Word::ServiceBusy,
        Reason::VariablesInRepository => Word::VariablesHidden,
        Reason::ClaimedByOther => Word::Claimed,
        Reason::TakeoverRefused => Word::ForeignVariable,
        Reason::RivalVariables => Word::RivalVariable,
        Reason::StoreNotFound | Reason::StoreGone | Reason::StoreAmbiguous => Word::StoreNotFound,
        Reason::StoreFailed => Word::StoreFailed,
        Reason::CredentialsMissing => Word::SecretNotFound,
        Reason::Unreachable | Reason::NetworkPath => Word::Unreachable,
        Reason::ConsentNeeded => Word::DataLoss,
        Reason::ClusterMismatch => Word::ClusterMismatch,
        Reason::StoreUnsafe => Word::WouldNotFit,
        Reason::RoleCannotRead => Word::SecretUnreadable,
        Reason::CopyFailed => Word::CopyFailed,
        Reason::LagTooHigh => Word::LagTooHigh,
        Reason::CheckFailed => Word::CheckFailed,
        Reason::ChecksUndecided => Word::CheckInconclusive,
        Reason::ApprovalNeeded => Word::ApprovalNeeded,
        Reason::DrainIncomplete => Word::TimedOut,
        Reason::OnHold | Reason::Unclear | Reason::GuardViolated => Word::Unclear,
        Reason::RollbackBlocked => Word::DeploymentFailed,
        Reason::RolledBack => Word::RolledBack,
        Reason::Contested => Word::Contested,
        Reason::InUse => Word::InUse,
        Reason::DeletionFrozen => Word::Deleting,
    }
}
