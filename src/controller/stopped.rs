//! Why an object cannot be turned now.

use std::time::Duration;

use super::api;
use crate::api::Reason;
use crate::connect;
use crate::manifest::NOT_FOUND;
use crate::observed::Lack;

/// A stable word, and what to say.
pub(super) struct Stopped {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// What the spec refers to and lacks, where that is why: an open migration is kept in step all the same.
    pub(super) lack: Option<Lack>,
    /// Until when it is to be looked at again at the latest, where that is soon.
    pub(super) within: Option<Duration>,
}

impl Stopped {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), lack: None, within: None }
    }

    /// To be looked at again so soon.
    pub(super) fn within(mut self, pause: Duration) -> Self {
        self.within = Some(pause);
        self
    }

    /// And this, too.
    pub(super) fn and(mut self, what: &str) -> Self {
        self.message = format!("{}; {what}", self.message);
        self
    }

    pub(super) fn lacking(lack: Lack) -> Self {
        let Lack { reason, subject, message, remedy } = &lack;
        let (reason, message) = (*reason, format!("{subject}: {message}; {remedy}"));
        Self { reason, message, lack: Some(lack), within: None }
    }

    /// It could not be connected.
    pub(super) fn unconnected(error: &connect::Error) -> Self {
        let stopped = || Self::new(reason(error), error.to_string());
        lack(error).map_or_else(stopped, Self::lacking)
    }

    pub(super) fn by_the_api_server(error: &api::Error) -> Self {
        Self::new(refusal(error), error.to_string())
    }

    /// The API server does not give the Secrets.
    pub(super) fn without_secrets(error: &api::Error) -> Self {
        let reason = refusal(error);
        Self::lacking(Lack {
            reason,
            subject: "the Secrets of the spec".to_owned(),
            message: format!("could not be read: {error}"),
            remedy: reason.remedy().to_owned(),
        })
    }
}

fn refusal(error: &api::Error) -> Reason {
    if error.is_forbidden() { Reason::AccessDenied } else { Reason::ApiUnavailable }
}

/// What a spec refers to and lacks, where that is why a connection could not be made.
fn lack(error: &connect::Error) -> Option<Lack> {
    let connect::Error::Violation(violation) = error else { return None };
    Some(Lack::new(reason(error), violation.clone()))
}

/// The reason a connection could not be made.
fn reason(error: &connect::Error) -> Reason {
    use connect::Error;
    match error {
        Error::Violation(violation) if violation.problem.ends_with(NOT_FOUND) => Reason::SecretNotFound,
        Error::Violation(_) => Reason::SecretInvalid,
        Error::Cloud(error) => Reason::of_class(error.class),
    }
}
