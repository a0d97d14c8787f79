//! The one list of reasons. The doc comment of each is what the user can do about it.

use serde::Serialize;

use crate::error::Class;

macro_rules! reasons {
    ($($(#[doc = $remedy:literal])+ $name:ident,)*) => {
        /// Why something waits for somebody: one word each, stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
        pub enum Reason {
            $($(#[doc = $remedy])+ $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What the user can do.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => concat!($($remedy,)+).trim_ascii(),)* }
            }

            /// The word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

reasons! {
    /// Use credentials of the account the object belongs to, or set spec.aws.accountId.
    AccountMismatch,
    /// Check the credentials: they are invalid or expired.
    CredentialsInvalid,
    /// Grant the action the message names.
    PermissionDenied,
    /// Raise the limit the message names, or remove something.
    QuotaReached,
    /// App Runner is closed to new customers: use an account that already has it.
    NotSubscribed,
    /// Correct what the vendor refuses.
    Rejected,
    /// Nothing: the vendor is tried again.
    VendorUnavailable,
    /// Make it visible, or name it in the spec.
    Hidden,
    /// Check the service's name and spec.aws.region.
    ServiceNotFound,
    /// Resume the service.
    ServicePaused,
    /// Repair or delete the service: it never came up.
    ServiceFailed,
    /// Wait, or ask AWS support: the operation has been running for more than an hour.
    ServiceStuck,
    /// Set ConfigurationSource to API, or env.writer to ConfigFile.
    VariablesInRepository,
    /// This version writes variables itself only; set env.writer to Operator.
    WriterNotOffered,
    /// Another object holds the variable: change its spec, or delete it.
    ClaimedByOther,
    /// Set env.takeover, or remove the variable by hand.
    TakeoverRefused,
    /// Remove the variables the message names: the app could prefer them.
    RivalVariables,
    /// Let all services use one store first, or set migration.from.
    ServicesDisagree,
    /// Name the store in use in migration.from.
    SourceUnknown,
    /// Check the store's name or id in spec.store.
    StoreNotFound,
    /// Restore the store, or name another one: it was deleted behind our back.
    StoreGone,
    /// Look at the store in its vendor's console.
    StoreFailed,
    /// Give the credentials the message asks for.
    CredentialsMissing,
    /// Rename one of the stores, or name one by id.
    StoreAmbiguous,
    /// Attach a VPC connector: spec.services[].egress.
    Unreachable,
    /// Add a NAT gateway, allow the change of egress the message names, or stay.
    NetworkPath,
    /// Set the consent the message names if that is meant.
    ConsentNeeded,
    /// Set app.clusterClient, or choose a store without the cluster protocol.
    ClusterMismatch,
    /// Choose a larger store, or one that does not evict.
    StoreUnsafe,
    /// Attach the policy in the message to the instance role.
    RoleCannotRead,
    /// See the message of the copy.
    CopyFailed,
    /// Lower the load, raise migration.maxLag, or give the store a change feed.
    LagTooHigh,
    /// Repair what the failed check names, or override the check.
    CheckFailed,
    /// Look why the checks could not be decided.
    ChecksUndecided,
    /// Say `approve`.
    ApprovalNeeded,
    /// Look who still uses the old store.
    DrainIncomplete,
    /// Say `retry` to go on, or `abort` to go back.
    OnHold,
    /// Find out whose update it was, then `retry` or `abort`.
    Unclear,
    /// Remove the cause, then `retry`: the services are still on the new store and both stores are in step.
    RollbackBlocked,
    /// Remove the cause, then `retry`, or change spec.store.
    RolledBack,
    /// Stop the other tool from writing these variables, or set env.writer to External.
    Contested,
    /// Take it out of use, or out of migration.retire.alsoRemove.
    InUse,
    /// Let the migration end, or set the abandon annotation.
    DeletionFrozen,
    /// Report it with the plan: the planner contradicted one of its own promises and nothing was done.
    GuardViolated,
}

impl Reason {
    /// What a failed call of `class` is to the user.
    #[must_use]
    pub fn of_class(class: Class) -> Self {
        match class {
            Class::Transient | Class::Throttled | Class::Conflict => Self::VendorUnavailable,
            Class::Denied => Self::PermissionDenied,
            Class::Credentials => Self::CredentialsInvalid,
            Class::Quota => Self::QuotaReached,
            Class::Subscription => Self::NotSubscribed,
            Class::Exists | Class::NotFound | Class::Rejected => Self::Rejected,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}
