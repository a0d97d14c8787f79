//! Conditions (`metav1.Condition`) and their reasons: stable words a script may rely on.
//! A reason's doc comment is the user's remedy; nothing repeats it elsewhere.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::error::Class;

/// One aspect of the object's state.
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $(#[doc = $remedy:literal] $word:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[doc = $remedy] $word,)*
        }

        impl $name {
            /// Every word, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$word,)*];

            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)*
                }
            }

            /// Its doc comment: what the user should know or do.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$word => $remedy.trim_ascii(),)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| UnknownWord(text.to_owned()))
            }
        }
    };
}

/// A word this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no word this version knows")]
pub struct UnknownWord(String);

words! {
    /// Which aspect a condition is about: kstatus' three and ours.
    pub enum Kind {
        /// The services use the store of the spec and the checks pass.
        Ready,
        /// Something is under way; the message says what it waits for and until when.
        Reconciling,
        /// Nothing moves until somebody does something; the message says what.
        Stalled,
        /// The spec is valid.
        Accepted,
        /// The store of the spec exists and serves, by its vendor's word.
        StoreAvailable,
        /// Every service runs, and none is being deployed.
        ServicesDeployed,
        /// The checks pass.
        Validated,
        /// The last migration is complete.
        Migrated,
    }
}

words! {
    /// Why a condition is as it is.
    pub enum Reason {
        /// All is as the spec says; nothing to do.
        AsDesired,
        /// A migration is under way; `status.migration` says how far it is.
        Migrating,
        /// Things are being made or changed; wait, the message says for what and until when.
        Progressing,
        /// A person has to open a gate; look at the plan, then `sessionbackend approve`, or set the approve annotation.
        ApprovalNeeded,
        /// Somebody outside App Runner uses the store and is moved by hand; move it, then approve.
        HandoverNeeded,
        /// The object is paused; remove the annotation sessionbackend.dev/paused to go on.
        Paused,
        /// mode is Plan: nothing is changed; set mode: Apply to act on the plan.
        PlanOnly,

        /// The spec has mistakes; correct every field the message names.
        InvalidSpec,
        /// An annotation asks for something that makes no sense now; the message says what, correct or remove it.
        AnnotationIgnored,
        /// The object was stored in a form this version cannot read; apply the manifest again.
        Undecodable,
        /// The spec asks for something this version cannot do yet; the message says what works instead.
        Unsupported,
        /// The services belong to another account than the credentials; use credentials of that account, or set spec.aws.roleArn.
        AccountMismatch,
        /// AWS or Upstash refused the credentials; renew them, or correct the Secret the message names.
        CredentialsInvalid,
        /// A permission is missing; allow the action the message names.
        AccessDenied,
        /// The controller does not let this namespace name that service or role; correct the field, or have the flag in the message added.
        NotGranted,
        /// An account limit is reached; raise it or free something, then it goes on by itself.
        QuotaExceeded,
        /// App Runner is closed to new customers; use an account that already has it.
        NotSubscribed,
        /// It cannot be seen from here; make it visible, or name it in the spec.
        Hidden,
        /// The vendor's API answers with errors or asks us to slow down; it is tried again by itself.
        ApiUnavailable,
        /// The vendor refused a call for good; the message has its words, correct the field it names.
        Rejected,

        /// There is no service of that name in the region; correct spec.services, or create the service.
        ServiceNotFound,
        /// The service is paused and refuses updates; resume it.
        ServicePaused,
        /// The service never came up or cannot be deleted; repair or re-create it first.
        ServiceUnusable,
        /// An operation has been running for more than an hour; ask AWS support, nothing else can be done about it.
        ServiceStuck,
        /// An operation of somebody else is under way; it is waited out.
        ServiceBusy,
        /// The variables are decided by apprunner.yaml in the repository; set env.writer: ConfigFile, or ConfigurationSource=API on the service.
        VariablesHidden,
        /// A variable has a value we did not write; set env.takeover: Always, or remove the variable.
        ForeignVariable,
        /// A leftover variable of another format points elsewhere and the app could prefer it; remove it from the service.
        RivalVariable,
        /// Another SessionBackend writes this variable; the older claim wins, remove the service from one of them.
        Claimed,
        /// The service would have more than 50 variables; remove some.
        TooManyVariables,
        /// Another tool keeps undoing our change; let it ignore our variables, the message has the snippet.
        Contested,
        /// The instance role may not read our secrets; attach the policy in the message.
        SecretUnreadable,

        /// A Secret is missing; create it in the object's namespace.
        SecretNotFound,
        /// A Secret lacks a key, or its value has the wrong form; the message names the key, never the value.
        SecretInvalid,
        /// There is no such store; correct spec.store, or let it be created.
        StoreNotFound,
        /// The store was deleted behind our back; restore it, or name another one.
        StoreGone,
        /// Something that is not ours has the name of what is to be made; name it by its id to use it, or choose another name.
        NameTaken,
        /// A password is not known; give the credentials the message asks for.
        CredentialsMissing,
        /// The store is being made or changed; wait.
        StoreNotReady,
        /// The store exists and does not serve; the message has the vendor's status.
        StoreFailed,
        /// The store refuses our credentials; correct the Secret.
        StoreCredentials,
        /// TLS of the store is not what spec.store.external.tls asks for; change the URL or the field.
        TlsMismatch,
        /// The format of the variables cannot describe this store; the message names one that can.
        FormatMismatch,
        /// The store speaks the cluster protocol and the app does not, or the other way round; set app.clusterClient, or choose another store.
        ClusterMismatch,
        /// The store may drop sessions before they expire; set its maxmemory-policy to noeviction or volatile-ttl, or migration.consent.dataLoss.
        UnsafeEviction,
        /// The store allows fewer connections than the app needs; choose a bigger plan, or a smaller pool.
        ConnectionLimit,
        /// Something in the spec cannot be changed in place; the message says how to get there.
        Immutable,

        /// There is no way through the network to the store; the message says what is missing.
        Unreachable,
        /// The change of egress is not possible as asked; add a NAT gateway, allow the egress the message names, or stay.
        NetworkPath,
        /// The service would lose the internet; add a NAT gateway, or set migration.consent.noInternet.
        NoInternet,
        /// The VPC is still needed by something; add a NAT gateway, or keep the egress.
        VpcNeeded,

        /// Which store serves cannot be read off the services; set migration.from.
        SourceUnknown,
        /// The services use different stores; let all use one first, or set migration.from.
        ServicesDisagree,
        /// Sessions would end; set migration.consent.dataLoss if that is meant.
        DataLoss,
        /// The new store already has keys; empty it, or choose another.
        TargetNotEmpty,
        /// The old store's data does not fit; choose a bigger plan.
        WouldNotFit,
        /// Keys match no rule; add rules to migration.keys, or set migration.unmatched.
        UnmatchedKeys,
        /// Copying would use too much of the quota; raise migration.consent.quotaShare or the plan, or wait for the next period.
        QuotaShare,
        /// The old store drops keys while they are copied; give it more memory.
        Evicting,
        /// Changes take longer than migration.maxLag to arrive; wait, or raise it.
        LagTooHigh,
        /// Nobody runs the copier; run `sessionbackend apply` again, or start the runner the message names.
        NoRunner,
        /// The copier stopped; the message says why.
        CopyFailed,
        /// Somebody still uses the drained store; the message says who, and which word lets go.
        DrainIncomplete,
        /// The two stores differ after the copy; look at the keys the message names.
        NotInStep,

        /// A deployment of ours failed or was rolled back by App Runner; look at the service's logs, then retry.
        DeploymentFailed,
        /// A check that passed before the switch failed after it; the message names it and what it saw.
        CheckFailed,
        /// A check could not be decided; the message says why, it is tried again.
        CheckInconclusive,
        /// Somebody else deployed the service in the middle; look at it, then retry or abort.
        ForeignDeployment,
        /// Something took longer than it may; the message says what and what to look at.
        TimedOut,
        /// What happened cannot be told from what can be read; look at the service, then retry or abort.
        Unclear,
        /// A person must decide; say `retry` to go on, or `abort` to go back.
        OnHold,
        /// It was asked for; nothing to do.
        Aborted,
        /// The way back cannot go on; remove the cause the message names, then retry: both stores are kept in step.
        RollbackBlocked,
        /// The services are back on the old store; look at why, then change the store or retry.
        RolledBack,

        /// Something is still in use and is not deleted; free it first.
        InUse,
        /// A migration was under way when the object was deleted; both stores are kept, look which one serves.
        DeletionFrozen,
        /// The object is being deleted.
        Deleting,
        /// The planner contradicted one of its own promises and nothing was done; report it with the plan.
        GuardViolated,
        /// The journal was destroyed in mid-migration; see which store each service is told of, then annotate sessionbackend.dev/abandon, delete the object and apply it again.
        JournalLost,
        /// The controller broke off at this object and tries again each minute; report it with its log.
        Defect,
    }
}

impl Reason {
    /// Whether nobody has to do anything for it to pass.
    #[must_use]
    pub fn ends_by_itself(self) -> bool {
        matches!(
            self,
            Self::ApiUnavailable | Self::Progressing | Self::Migrating | Self::ServiceBusy | Self::StoreNotReady
        )
    }

    /// What a failed call of `class` is to the user.
    #[must_use]
    pub fn of_class(class: Class) -> Self {
        match class {
            Class::Transient | Class::Throttled | Class::Conflict => Self::ApiUnavailable,
            Class::Denied => Self::AccessDenied,
            Class::Credentials => Self::CredentialsInvalid,
            Class::Quota => Self::QuotaExceeded,
            Class::Subscription => Self::NotSubscribed,
            Class::Exists | Class::NotFound | Class::Rejected => Self::Rejected,
        }
    }
}

/// What a condition says, without the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which aspect.
    pub kind: Kind,
    /// True, False, or not known.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// What it waits for or what is wrong, since when, until when, and what to do; no secret.
    pub message: String,
}

impl Finding {
    /// The condition this makes of `before`: the transition time moves only with the status.
    #[must_use]
    pub fn condition(&self, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let status = match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let same = before.iter().find(|condition| condition.type_ == self.kind.as_str() && condition.status == status);
        Condition {
            type_: self.kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: self.reason.as_str().to_owned(),
            // The API server admits 32 KiB.
            message: crate::error::presentable(&self.message, 32_000),
            observed_generation: generation,
            last_transition_time: same.map_or_else(|| Time(now), |condition| condition.last_transition_time.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_one_camel_case_word_with_a_remedy() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(
                word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
            );
            assert!(reason.remedy().ends_with('.'), "{word}: {}", reason.remedy());
            assert_eq!(word.parse(), Ok(*reason));
        }
        assert_eq!("asDesired".parse::<Reason>(), Err(UnknownWord("asDesired".into())));
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let finding = |status, message: &str| Finding {
            kind: Kind::Ready,
            status,
            reason: Reason::Migrating,
            message: message.into(),
        };
        let first = finding(Some(false), "a").condition(&[], Some(1), at(1));
        let second = finding(Some(false), "b").condition(std::slice::from_ref(&first), Some(2), at(2));
        assert_eq!((&second.last_transition_time, second.message.as_str()), (&first.last_transition_time, "b"));
        let third = finding(None, "b").condition(&[second], Some(2), at(3));
        assert_eq!((third.last_transition_time, third.status.as_str()), (Time(at(3)), "Unknown"));
    }
}
