//! What a cloud call can answer besides success, reduced to what the caller should do about it.
//! Pure: the shell's clients map their SDK's errors to a [`CloudError`], everything else decides on its [`Class`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// What to do about a failed call. Every vendor's codes map to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// 5xx, connection loss, deadline: try again with back-off; says nothing about the resource.
    Transient,
    /// The API asked us to slow down.
    Throttled,
    /// The resource is busy or in a state that forbids the call: observe again and plan again.
    Conflict,
    /// It exists already: adopt it only if it is ours.
    Exists,
    /// It is not there: success for a delete, a reading of [`crate::observed::Reading::Absent`] for a read.
    NotFound,
    /// A permission is missing; the message names the action.
    Denied,
    /// The credentials are invalid or expired.
    Credentials,
    /// An account limit is reached.
    Quota,
    /// The account has no subscription to the service, or opted out of the region.
    Subscription,
    /// The request is wrong and will stay wrong until the manifest changes.
    Rejected,
}

impl Class {
    /// Whether the same call may succeed later with nothing changed by a person.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        match self {
            Self::Transient | Self::Throttled | Self::Conflict => true,
            Self::Exists
            | Self::NotFound
            | Self::Denied
            | Self::Credentials
            | Self::Quota
            | Self::Subscription
            | Self::Rejected => false,
        }
    }

    /// Whether the call may have been executed although it failed: the reply, not the request, was lost.
    #[must_use]
    pub fn is_ambiguous(self) -> bool {
        self == Self::Transient
    }
}

/// A failed cloud call: who, what, why, and the vendor's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct CloudError {
    /// What to do about it.
    pub class: Class,
    /// The vendor's service as its documentation names it, such as `App Runner`.
    pub service: String,
    /// The operation, such as `UpdateService`.
    pub operation: String,
    /// The vendor's error code, such as `InvalidStateException`; empty when none was sent.
    pub code: String,
    /// The vendor's message, stripped of control characters and cut at 512 bytes.
    pub message: String,
    /// The vendor's request id, for a support case.
    pub request_id: Option<String>,
}

impl CloudError {
    /// Builds an error with the message made safe to show.
    #[must_use]
    pub fn new(class: Class, service: &str, operation: &str, code: &str, message: &str) -> Self {
        Self {
            class,
            service: service.to_owned(),
            operation: operation.to_owned(),
            code: code.to_owned(),
            message: presentable(message, 512),
            request_id: None,
        }
    }

    /// The same error with the vendor's request id.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<&str>) -> Self {
        self.request_id = id.map(str::to_owned);
        self
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.service, self.operation)?;
        if !self.code.is_empty() {
            write!(f, "{}: ", self.code)?;
        }
        f.write_str(&self.message)?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

/// Cuts `text` at `limit` bytes on a character boundary and drops control characters: remote text is never trusted.
#[must_use]
pub fn presentable(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > limit {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// An error with everything that led to it: what a client says first is rarely why. What one has said already is not
/// said again.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut reasons = vec![error.to_string()];
    let mut source = error.source();
    while let Some(reason) = source {
        let text = reason.to_string();
        if reasons.last().is_none_or(|said| !said.contains(&text)) {
            reasons.push(text);
        }
        source = reason.source();
    }
    reasons.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_is_cut_on_a_character_and_stripped_of_control_characters() {
        assert_eq!(presentable("a\u{1b}[31mb\nc", 100), "a [31mb c");
        assert_eq!(presentable("ééé", 4), "éé…");
    }

    #[test]
    fn the_message_names_service_operation_code_and_request() {
        let error = CloudError::new(Class::Conflict, "App Runner", "UpdateService", "InvalidStateException", "busy")
            .with_request_id(Some("r-1"));
        assert_eq!(error.to_string(), "App Runner UpdateService: InvalidStateException: busy (request r-1)");
    }
}
