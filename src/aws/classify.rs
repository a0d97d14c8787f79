//! Every failure of a cloud call as one [`Class`]: what to do about it.
//! Pure but for unpacking the SDK's error. The vendors spell the same thing as a code, as a status and as prose.

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Class, CloudError};

/// Codes by which AWS asks to slow down. `LimitExceededException` is not here: Secrets Manager and Logs mean a quota by it.
const THROTTLES: [&str; 13] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "RequestThrottled",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
];

const CREDENTIALS: [&str; 13] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidClientTokenIdException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "AuthFailure",
    "InvalidCredentialsException",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

const DENIALS: [&str; 4] = ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"];

const TRANSIENTS: [&str; 8] = [
    "InternalServiceErrorException",
    "InternalServiceError",
    "InternalServerError",
    "InternalFailure",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeoutException",
];

/// Words by which a vendor says in prose what has no code of its own.
const PROSE: [(&str, Class); 13] = [
    // App Runner CreateService has no AlreadyExists code.
    ("Service with the provided name already exists", Class::Exists),
    ("combination provided in the request already exists on existing vpc connector", Class::Exists),
    // App Runner DeleteVpcConnector answers InvalidRequestException while anything uses it.
    ("Provided VPC connector arn is being used by other services", Class::Conflict),
    ("it isn't in RUNNING state", Class::Conflict),
    ("Service status must be RUNNING", Class::Conflict),
    ("You cannot delete a Service while", Class::Conflict),
    // ElastiCache: the modification is there already (code InvalidParameterCombination).
    ("No modifications were requested", Class::Exists),
    ("is not in a valid state to be", Class::Conflict),
    // Secrets Manager answers InvalidRequestException for a secret in its recovery window.
    ("marked for deletion", Class::Conflict),
    ("marked deleted", Class::Conflict),
    ("scheduled for deletion", Class::Conflict),
    // Secrets Manager: a forced deletion is still under way.
    ("deletion is still in progress", Class::Conflict),
    ("can't find the specified secret", Class::NotFound),
];

/// What a failed answer of `service` means.
#[must_use]
pub fn class(service: &str, code: &str, status: Option<u16>, message: &str) -> Class {
    if service == crate::upstash::SERVICE {
        return upstash(status, message);
    }
    by_code(code)
        .or_else(|| PROSE.iter().find(|(words, _)| message.contains(words)).map(|(_, class)| *class))
        .or_else(|| by_shape(code))
        .unwrap_or_else(|| by_status(status))
}

fn by_code(code: &str) -> Option<Class> {
    let listed = |codes: &[&str]| codes.contains(&code);
    if listed(&THROTTLES) {
        Some(Class::Throttled)
    } else if listed(&CREDENTIALS) {
        Some(Class::Credentials)
    } else if listed(&DENIALS) {
        Some(Class::Denied)
    } else if listed(&TRANSIENTS) {
        Some(Class::Transient)
    } else {
        match code {
            "SubscriptionRequiredException" | "OptInRequired" => Some(Class::Subscription),
            // A 404 that is about the request, not about a resource.
            "UnknownOperationException" | "InvalidAction" => Some(Class::Rejected),
            "DependencyViolation" | "OperationAbortedException" | "PreconditionNotMetException" => {
                Some(Class::Conflict)
            }
            "InsufficientCacheClusterCapacity" => Some(Class::Quota),
            "NoSuchEntity" | "NoSuchEntityException" => Some(Class::NotFound),
            _ => None,
        }
    }
}

fn by_shape(code: &str) -> Option<Class> {
    let has = |part: &str| code.contains(part);
    if has("AlreadyExists") || has("ResourceExists") || code.ends_with(".Duplicate") {
        Some(Class::Exists)
    } else if has("NotFound") {
        Some(Class::NotFound)
    } else if has("InUse") || (code.starts_with("Invalid") && has("State")) {
        Some(Class::Conflict)
    } else if has("QuotaExceeded") || has("QuotaFor") || has("LimitExceeded") {
        Some(Class::Quota)
    } else {
        None
    }
}

fn by_status(status: Option<u16>) -> Class {
    match status {
        // No answer at all, or one in another language than the protocol's.
        None | Some(200..=399 | 408 | 500..) => Class::Transient,
        Some(401) => Class::Credentials,
        Some(403) => Class::Denied,
        Some(404) => Class::NotFound,
        Some(409) => Class::Conflict,
        Some(429) => Class::Throttled,
        Some(_) => Class::Rejected,
    }
}

/// Upstash has no codes: its status decides, and its bodies are not reliably typed.
fn upstash(status: Option<u16>, message: &str) -> Class {
    match status {
        // Switching on what is on answers 400 "already enabled": done.
        Some(400) if message.contains("already") => Class::Exists,
        Some(404) => Class::NotFound,
        other => by_status(other),
    }
}

/// What a failed SDK call means, in the vendor's words.
pub(super) fn error<E>(
    service: &'static str,
    operation: &'static str,
    error: &SdkError<E, super::HttpResponse>,
) -> CloudError
where
    E: ProvideErrorMetadata,
{
    let told = |class, code: &str, message: &str| {
        CloudError::new(class, service, operation, code, message).with_request_id(super::request_id(error))
    };
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            let code = bare(error.code().unwrap_or_default());
            let message = error.message().unwrap_or("the answer gives no reason");
            let message = match status {
                Some(status) if code.is_empty() => format!("HTTP {status}: {message}"),
                _ => message.to_owned(),
            };
            told(class(service, code, status, &message), code, &message)
        }
        SdkError::TimeoutError(_) => told(Class::Transient, "", "no answer in time"),
        SdkError::DispatchFailure(failure) if failure.is_io() => {
            let why = failure.as_connector_error().map(|error| innermost(error)).unwrap_or_default();
            told(Class::Transient, "", format!("the connection failed: {why}").trim_end_matches(": "))
        }
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            told(Class::Transient, "", "no connection within 3 s")
        }
        // Nothing left this machine: what is missing is on our side.
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => unsent(error, told),
        _ => told(Class::Transient, "", "the call failed in a way this version does not know"),
    }
}

/// Why in the end: what is around it only says that a connection was wanted.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// What is said where no provider had anything to offer.
pub(crate) const NO_CREDENTIALS: &str = "no AWS credentials found";
/// Where they were looked for.
pub(crate) const LOOKED_AT: &str = "environment, profile, container, instance";

fn unsent<E>(error: &SdkError<E, super::HttpResponse>, told: impl Fn(Class, &str, &str) -> CloudError) -> CloudError {
    let mut reasons = Vec::new();
    let mut source: Option<&dyn std::error::Error> = match error {
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map(|error| error as _),
        _ => None,
    };
    while let Some(reason) = source {
        reasons.push(reason.to_string());
        source = reason.source();
    }
    let reason = reasons.join(": ");
    let lower = reason.to_lowercase();
    if ["credential", "identity", "token"].iter().any(|word| lower.contains(word)) {
        // What only says that there are none needs no reason.
        let why = reasons
            .last()
            .filter(|why| ["expired", "sso", "assume"].iter().any(|word| why.to_lowercase().contains(word)));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        told(Class::Credentials, "", &format!("{NO_CREDENTIALS} (looked at: {LOOKED_AT}){why}"))
    } else if reason.is_empty() {
        told(Class::Rejected, "", "the request could not be built; are region and credentials set?")
    } else {
        told(Class::Transient, "", &reason)
    }
}

/// The code without namespace and without what follows a colon.
fn bare(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code)
}

#[cfg(test)]
mod tests;
