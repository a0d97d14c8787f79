//! One row a vendor's way of saying something, with what we make of it.

use super::*;

const APP_RUNNER: &str = "App Runner";
const EC2: &str = "EC2";
const CACHE: &str = "ElastiCache";
const SECRETS: &str = "Secrets Manager";
const IAM: &str = "IAM";
const UPSTASH: &str = crate::upstash::SERVICE;

#[test]
fn every_way_of_failing_has_one_class() {
    let rows: &[(&str, &str, u16, &str, Class)] = &[
        // App Runner
        (APP_RUNNER, "InternalServiceErrorException", 500, "", Class::Transient),
        (APP_RUNNER, "ServiceUnavailable", 503, "", Class::Transient),
        (APP_RUNNER, "ThrottlingException", 400, "Rate exceeded", Class::Throttled),
        (APP_RUNNER, "ResourceNotFoundException", 400, "Service not found", Class::NotFound),
        (APP_RUNNER, "InvalidStateException", 400, "", Class::Conflict),
        (APP_RUNNER, "ServiceQuotaExceededException", 400, "", Class::Quota),
        (APP_RUNNER, "AccessDeniedException", 400, "not authorized to perform: apprunner:UpdateService", Class::Denied),
        (APP_RUNNER, "UnrecognizedClientException", 403, "", Class::Credentials),
        (APP_RUNNER, "ExpiredTokenException", 403, "", Class::Credentials),
        (APP_RUNNER, "SubscriptionRequiredException", 400, "needs a subscription", Class::Subscription),
        (APP_RUNNER, "OptInRequired", 403, "", Class::Subscription),
        (APP_RUNNER, "UnknownOperationException", 404, "", Class::Rejected),
        (APP_RUNNER, "RequestEntityTooLarge", 413, "", Class::Rejected),
        (
            APP_RUNNER,
            "InvalidRequestException",
            400,
            "No configurations provided in the UpdateService request.",
            Class::Rejected,
        ),
        (
            APP_RUNNER,
            "InvalidRequestException",
            400,
            "Service with the provided name already exists: web",
            Class::Exists,
        ),
        (
            APP_RUNNER,
            "InvalidRequestException",
            400,
            "Provided VPC connector arn is being used by other services. ARN: arn:x",
            Class::Conflict,
        ),
        (
            APP_RUNNER,
            "InvalidRequestException",
            400,
            "The security groups combination provided in the request already exists on existing vpc connector. Existing VPC connector arn: x",
            Class::Exists,
        ),
        (
            APP_RUNNER,
            "InvalidRequestException",
            400,
            "Can't start a deployment on the specified service, because it isn't in RUNNING state",
            Class::Conflict,
        ),
        // EC2
        (EC2, "InvalidGroup.NotFound", 400, "", Class::NotFound),
        (EC2, "InvalidPermission.NotFound", 400, "", Class::NotFound),
        (EC2, "InvalidPermission.Duplicate", 400, "", Class::Exists),
        (EC2, "InvalidGroup.InUse", 400, "", Class::Conflict),
        (EC2, "DependencyViolation", 400, "", Class::Conflict),
        (EC2, "RequestLimitExceeded", 503, "", Class::Throttled),
        (EC2, "RulesPerSecurityGroupLimitExceeded", 400, "", Class::Quota),
        (EC2, "UnauthorizedOperation", 403, "", Class::Denied),
        (EC2, "AuthFailure", 401, "", Class::Credentials),
        (EC2, "InvalidParameterValue", 400, "", Class::Rejected),
        (EC2, "InvalidGroupId.Malformed", 400, "", Class::Rejected),
        // ElastiCache
        (CACHE, "ReplicationGroupNotFoundFault", 404, "", Class::NotFound),
        (CACHE, "CacheSubnetGroupNotFoundFault", 400, "", Class::NotFound),
        (CACHE, "ReplicationGroupAlreadyExists", 400, "", Class::Exists),
        (CACHE, "InvalidReplicationGroupState", 400, "", Class::Conflict),
        (CACHE, "InvalidServerlessCacheStateFault", 400, "", Class::Conflict),
        (CACHE, "CacheSubnetGroupInUse", 400, "", Class::Conflict),
        (CACHE, "ClusterQuotaForCustomerExceeded", 400, "", Class::Quota),
        (CACHE, "InsufficientCacheClusterCapacity", 400, "", Class::Quota),
        (CACHE, "InvalidCredentialsException", 408, "", Class::Credentials),
        (CACHE, "InvalidParameterCombination", 400, "No modifications were requested", Class::Exists),
        (CACHE, "InvalidParameterCombination", 400, "anything else", Class::Rejected),
        (CACHE, "Throttling", 400, "", Class::Throttled),
        (CACHE, "InvalidVPCNetworkStateFault", 400, "", Class::Conflict),
        // Secrets Manager
        (
            SECRETS,
            "ResourceNotFoundException",
            400,
            "Secrets Manager can't find the specified secret.",
            Class::NotFound,
        ),
        (SECRETS, "ResourceExistsException", 400, "", Class::Exists),
        (SECRETS, "LimitExceededException", 400, "", Class::Quota),
        (SECRETS, "InternalServiceError", 500, "", Class::Transient),
        (SECRETS, "DecryptionFailure", 400, "", Class::Rejected),
        (
            SECRETS,
            "InvalidRequestException",
            400,
            "You can't create this secret because a secret with this name is already scheduled for deletion.",
            Class::Conflict,
        ),
        (
            SECRETS,
            "InvalidRequestException",
            400,
            "You can't perform this operation on the secret because it was marked for deletion.",
            Class::Conflict,
        ),
        // IAM
        (IAM, "NoSuchEntity", 404, "", Class::NotFound),
        (IAM, "AccessDenied", 403, "", Class::Denied),
        (IAM, "LimitExceeded", 409, "", Class::Quota),
        // No code: the status speaks.
        (APP_RUNNER, "", 502, "<html>", Class::Transient),
        (APP_RUNNER, "", 200, "not JSON", Class::Transient),
        (APP_RUNNER, "", 418, "", Class::Rejected),
        // Upstash
        (UPSTASH, "", 400, "region not supported", Class::Rejected),
        (UPSTASH, "", 400, "eviction already enabled", Class::Exists),
        (UPSTASH, "", 401, "Unauthorized", Class::Credentials),
        (UPSTASH, "", 403, "", Class::Denied),
        (UPSTASH, "", 404, "Database not found", Class::NotFound),
        (UPSTASH, "", 405, "", Class::Rejected),
        (UPSTASH, "", 429, "", Class::Throttled),
        (UPSTASH, "", 503, "", Class::Transient),
    ];
    for (service, code, status, message, expected) in rows {
        assert_eq!(class(service, code, Some(*status), message), *expected, "{service} {status} {code} {message}");
    }
}

#[test]
fn no_answer_says_nothing_about_the_resource() {
    assert_eq!(class(EC2, "", None, ""), Class::Transient);
    assert_eq!(class(UPSTASH, "", None, ""), Class::Transient);
}

#[test]
fn a_code_is_read_without_namespace_and_suffix() {
    assert_eq!(bare("com.amazonaws.apprunner#InvalidStateException"), "InvalidStateException");
    assert_eq!(bare("InvalidStateException:http://internal.amazon.com/"), "InvalidStateException");
}
