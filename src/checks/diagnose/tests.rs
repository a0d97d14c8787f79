use super::*;

/// The literal strings of the runbooks, the vendors' documentation and the usual clients.
const LITERALS: &[(&str, &str)] = &[
    // Upstash
    (
        "ERR max requests limit exceeded. Limit: 500000, Usage: 500000. See https://upstash.com/docs/redis/troubleshooting/max_requests_limit for details",
        "CommandQuotaExceeded",
    ),
    (
        "ERR max daily request limit exceeded. Limit: 10000, Usage: 10001. See https://upstash.com/docs/redis/troubleshooting/max_daily_request_limit for details",
        "CommandQuotaExceeded",
    ),
    ("ERR max request size exceeded. Limit: 10485760 bytes, Actual: 20000000 bytes", "RequestTooLarge"),
    ("ERR max single record size exceeded", "RequestTooLarge"),
    ("ERR max key size exceeded. Limit: 32768 bytes, Actual: 40000 bytes", "RequestTooLarge"),
    ("ERR DB capacity quota exceeded", "StorageFull"),
    ("ERR max concurrent connections exceeded", "ConnectionLimitExceeded"),
    ("NOAUTH Authentication required", "PasswordMissing"),
    ("WRONGPASS invalid password", "WrongPassword"),
    ("WRONGPASS invalid username-password pair or user is disabled", "WrongPassword"),
    ("WRONGPASS invalid or missing auth token", "WrongPassword"),
    // Redis and ElastiCache
    ("ERR max number of clients reached", "ConnectionLimitExceeded"),
    ("OOM command not allowed when used memory > 'maxmemory'.", "OutOfMemory"),
    ("NOPERM User app has no permissions to run the 'setex' command", "CommandNotPermitted"),
    ("NOPERM this user has no permissions to run the 'setex' command or its subcommand", "CommandNotPermitted"),
    ("ERR unknown command 'SETEX', with args beginning with: 'k' '60' 'v'", "CommandUnknown"),
    ("CROSSSLOT Keys in request don't hash to the same slot", "ClusterClientNeeded"),
    ("MOVED 3999 10.0.1.17:6379", "ClusterClientNeeded"),
    ("CLUSTERDOWN The cluster is down", "ClusterClientNeeded"),
    ("READONLY You can't write against a read only replica.", "ReadOnly"),
    ("LOADING Redis is loading the dataset in memory", "Loading"),
    ("ERR DB index is out of range", "DatabaseMissing"),
    (
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        "PasswordNotExpected",
    ),
    // clients
    ("Error: connect ECONNREFUSED 127.0.0.1:6379", "ConnectionRefused"),
    ("Connection refused (os error 111)", "ConnectionRefused"),
    ("read ECONNRESET", "TlsRequired"),
    ("Connection reset by peer (os error 104)", "TlsRequired"),
    ("getaddrinfo ENOTFOUND default-xxx.upstash.io", "NameNotFound"),
    ("failed to lookup address information: Name or service not known", "NameNotFound"),
    ("connect ETIMEDOUT 10.0.0.1:6379", "NoNetworkPath"),
    ("redis.exceptions.TimeoutError: Timeout connecting to server", "NoNetworkPath"),
    (
        "A rediss:// URL must have parameter ssl_cert_reqs and this must be set to CERT_REQUIRED, CERT_OPTIONAL, or CERT_NONE",
        "SslCertReqsMissing",
    ),
    (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)",
        "CertificateRejected",
    ),
    ("invalid peer certificate: UnknownIssuer", "CertificateRejected"),
    ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "TlsNotOffered"),
    ("received corrupt message of type InvalidContentType", "TlsNotOffered"),
    // the runbooks
    ("[Redis] CRITICAL: REDIS_URL environment variable is not set", "NotConfigured"),
    ("[Redis] No REDIS_ENDPOINT configured for App Runner, skipping Redis initialization", "NotConfigured"),
    ("[Redis] No Redis configuration found, using in-memory fallback", "NotConfigured"),
    ("[ProgressService] Redis not available, will use DynamoDB fallback", "FallbackInUse"),
    ("Redis not available, will use DynamoDB fallback for progress tracking", "FallbackInUse"),
    ("Redis initialization error, will use DynamoDB fallback: Error: ...", "FallbackInUse"),
    ("Using in-memory fallback", "FallbackInUse"),
    ("Redis client error: Error: Connection timeout", "NoNetworkPath"),
    ("Redis initialization error: Error: Connection timeout", "NoNetworkPath"),
    ("Error: Redis connection timeout", "NoNetworkPath"),
    ("Error: connect ECONNREFUSED 127.0.0.1:6379", "ConnectionRefused"),
    ("Error: NOAUTH Authentication required", "PasswordMissing"),
    ("Error: OOM command not allowed when used memory > 'maxmemory'", "OutOfMemory"),
    ("Celery worker failing with \"ssl_cert_reqs parameter missing\" error", "SslCertReqsMissing"),
    ("\"Connection pool exhausted\" errors", "ConnectionPoolExhausted"),
    ("429 errors in logs", "RateLimited"),
    ("HTTP status 429", "RateLimited"),
    ("\"Invalid session\" WebSocket errors", "SessionNotShared"),
    // App Runner
    (
        "[AppRunner] Deployment with ID : 0123456789abcdef failed. Failure reason : Health check failed.",
        "PlatformRollback",
    ),
    ("Service update failed. For details, see service logs.", "PlatformRollback"),
    ("Health check failed on protocol `TCP` [Port: '8080']. Check your configured port number.", "HealthCheckFailed"),
    (
        "Your application stopped or failed to start. See logs for more information. Container exit code: 1",
        "AppDoesNotStart",
    ),
    ("Unexpected server response: 403", "WebSocketRefused"),
];

#[test]
fn every_literal_of_the_runbooks_and_vendors_is_recognised() {
    for (literal, signature) in LITERALS {
        let found = diagnose(literal).map(|diagnosis| diagnosis.signature);
        assert_eq!(found, Some(*signature), "{literal}");
    }
}

#[test]
fn every_signature_has_a_literal_that_shows_it() {
    for signature in SIGNATURES {
        // A route that is missing has no literal in the documents; its words are the kernel's.
        let shown = signature.name == "NoRoute" || LITERALS.iter().any(|(_, name)| *name == signature.name);
        assert!(shown, "{} is never shown", signature.name);
    }
    assert_eq!(diagnose("No route to host (os error 113)").unwrap().signature, "NoRoute");
}

#[test]
fn what_is_healthy_has_no_diagnosis() {
    for healthy in [
        "[Redis] Connected successfully to Upstash",
        "[Redis] Client ready",
        "Redis connection test successful",
        "[LabSession] Session created",
        "[Redis] Redis client connected",
        "Health check is successful. Routing traffic to application.",
        r#"{"redis_connected":true,"redis_test_result":"ok"}"#,
        "",
    ] {
        assert_eq!(diagnose(healthy), None, "{healthy}");
    }
}

#[test]
fn words_are_lower_case_because_the_evidence_is_lowered() {
    for words in SIGNATURES.iter().flat_map(|signature| signature.words) {
        assert_eq!(*words, words.to_ascii_lowercase());
    }
}

#[test]
fn a_diagnosis_repeats_nothing_of_the_evidence() {
    let diagnosis = diagnose("WRONGPASS canary-password 10.1.2.3").unwrap();
    assert_eq!(diagnosis.evidence, "wrongpass");
    assert!(!diagnosis.remedy.contains("canary"));
}
