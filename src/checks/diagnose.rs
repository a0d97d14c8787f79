//! Known ways in which a session store goes wrong, by the words clients and vendors use for them.
//! Pure. A diagnosis consists of our own texts only, so it may be shown whatever the evidence held.

/// A known fault, recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Its name, one word for a machine.
    pub signature: &'static str,
    /// The words that gave it away.
    pub evidence: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

struct Signature {
    name: &'static str,
    /// Any of these, lower case; `…` in one stands for anything between two parts.
    words: &'static [&'static str],
    remedy: &'static str,
}

/// The first signature whose words occur in `evidence`, case ignored. Vendors' own words come before what a client makes
/// of them: a quota that is used up also looks like a failed login.
#[must_use]
pub fn diagnose(evidence: &str) -> Option<Diagnosis> {
    let evidence = evidence.to_ascii_lowercase();
    SIGNATURES.iter().find_map(|signature| {
        let words = signature.words.iter().find(|words| occur(&evidence, words))?;
        Some(Diagnosis { signature: signature.name, evidence: words, remedy: signature.remedy })
    })
}

/// Whether the parts of `words` occur in `text` in this order.
fn occur(text: &str, words: &str) -> bool {
    words.split('…').try_fold(text, |rest, part| rest.find(part).map(|at| &rest[at + part.len()..])).is_some()
}

const SIGNATURES: &[Signature] = &[
    // Upstash: from then on every command fails, AUTH included.
    Signature {
        name: "CommandQuotaExceeded",
        words: &["max requests limit exceeded", "max daily request limit exceeded"],
        remedy: "the database's command quota is used up and every command is refused, AUTH too: raise its plan, or wait for the next period",
    },
    Signature {
        name: "ConnectionLimitExceeded",
        words: &["max concurrent connections exceeded", "max number of clients reached"],
        remedy: "every connection of the store is taken; a deployment doubles an app's: lower the pool or the instances, or raise the store's plan",
    },
    Signature {
        name: "ConnectionPoolExhausted",
        words: &["connection pool exhausted", "too many connections"],
        remedy: "the app's own pool is empty: close connections after use, or raise the pool within the store's limit",
    },
    Signature {
        name: "StorageFull",
        words: &["db capacity quota exceeded"],
        remedy: "the database is full, only reads and deletes work: raise its plan, turn eviction on, or delete keys",
    },
    Signature {
        name: "OutOfMemory",
        words: &["oom command not allowed"],
        remedy: "the store has reached maxmemory: enlarge it, or set an eviction policy that suits sessions (volatile-ttl)",
    },
    Signature {
        name: "RequestTooLarge",
        words: &["max request size exceeded", "max single record size exceeded", "max key size exceeded"],
        remedy: "one value is larger than the store's plan allows: store less in a session, or raise the plan",
    },
    Signature {
        name: "RateLimited",
        words: &["429 too many requests", "429 error", "status 429", "too many requests", "rate limit"],
        remedy: "more is asked than the plan allows: send fewer commands, or raise the plan",
    },
    Signature {
        name: "SslCertReqsMissing",
        words: &["ssl_cert_reqs"],
        remedy: "Celery wants ssl_cert_reqs in a rediss:// URL: set env.celery.sslCertReqs: Required (None only if the certificate cannot be verified)",
    },
    Signature {
        name: "CertificateRejected",
        words: &[
            "certificate_verify_failed",
            "certificate verify failed",
            "invalid peer certificate",
            "unknownissuer",
            "self-signed certificate",
            "self signed certificate",
            "unable to verify the first certificate",
            "certificate has expired",
        ],
        remedy: "the store's certificate is not trusted: connect by the vendor's host name and keep the CA bundle up to date",
    },
    Signature {
        name: "TlsNotOffered",
        words: &["wrong version number", "invalidcontenttype", "corrupt message of type", "packet length too long"],
        remedy: "the port does not speak TLS: use redis://, or turn on encryption in transit",
    },
    Signature {
        name: "PasswordNotExpected",
        words: &["without any password configured"],
        remedy: "a password is sent and the store has none: remove it from the URL, or turn on AUTH",
    },
    Signature {
        name: "WrongPassword",
        words: &["wrongpass", "err invalid password", "invalid username-password pair"],
        remedy: "user or password is wrong: compare with the store's console; in a URL encode @ as %40, : as %3A, # as %23",
    },
    Signature {
        name: "PasswordMissing",
        words: &["noauth"],
        remedy: "the store wants a password and none was sent: put it into the URL or into REDIS_PASSWORD",
    },
    Signature {
        name: "CommandNotPermitted",
        words: &["noperm", "no permissions to run", "no permissions to access"],
        remedy: "the store's ACL forbids the command or the key to this user: allow it, or connect as another user",
    },
    Signature {
        name: "CommandUnknown",
        words: &["unknown command", "command is not available"],
        remedy: "the store does not offer the command: use a client or a store that does without it",
    },
    Signature {
        name: "ClusterClientNeeded",
        words: &["crossslot", "moved …:", "ask …:", "clusterdown"],
        remedy: "the store runs in cluster mode: set app.clusterClient if the app's client speaks it, else use a store without cluster mode",
    },
    Signature {
        name: "ReadOnly",
        words: &["readonly you can't write", "readonly"],
        remedy: "this is a replica or a read-only user: use the primary endpoint and a user that may write",
    },
    Signature {
        name: "Loading",
        words: &["loading redis is loading", "masterdown", "misconf", "tryagain"],
        remedy: "the store is starting, failing over or cannot persist: wait, then look at its events",
    },
    Signature {
        name: "DatabaseMissing",
        words: &["db index is out of range", "invalid db index", "select is not allowed"],
        remedy: "the store has only database 0: use /0 in the URL and map the keys with migration.databases",
    },
    Signature {
        name: "NotConfigured",
        words: &[
            "redis_url environment variable is not set",
            "no redis_endpoint configured",
            "no redis configuration found",
        ],
        remedy: "the app does not see its variables: compare env.format and its names with what the app reads",
    },
    Signature {
        name: "FallbackInUse",
        words: &["using in-memory fallback", "will use dynamodb fallback", "cache type: memory"],
        remedy: "the app does without Redis: find the connection error before this line; a green fallback is not success",
    },
    Signature {
        name: "PlatformRollback",
        words: &[
            "deployment with id … failed",
            "service update failed",
            "update_service … rollback_succeeded",
            "rollback_succeeded",
        ],
        remedy: "App Runner could not start the new configuration and went back to the old one: read the service's events and application logs",
    },
    Signature {
        name: "HealthCheckFailed",
        words: &["health check failed on protocol", "failure reason : health check failed"],
        remedy: "the new instances did not become healthy: compare the health check's port and path with the app, and see whether it waits for Redis",
    },
    Signature {
        name: "AppDoesNotStart",
        words: &["your application stopped or failed to start", "container exit code", "exec format error"],
        remedy: "the container ends at once: read the application log; an image must be built for linux/amd64",
    },
    Signature {
        name: "WebSocketRefused",
        words: &["unexpected server response: 403", "error during websocket handshake", "websocket is not supported"],
        remedy: "App Runner's proxy does not pass WebSockets: use polling, or another place to run the WebSocket endpoint",
    },
    Signature {
        name: "NameNotFound",
        words: &[
            "enotfound",
            "eai_again",
            "failed to lookup address",
            "name or service not known",
            "nodename nor servname",
            "temporary failure in name resolution",
            "dns error",
        ],
        remedy: "the host name does not resolve: compare it with the store's console, and see whether the VPC resolves public names",
    },
    Signature {
        name: "NoRoute",
        words: &["enetunreach", "ehostunreach", "network is unreachable", "no route to host"],
        remedy: "there is no route to the store: VPC egress needs a NAT gateway for a public store, Default egress reaches no VPC",
    },
    Signature {
        name: "ConnectionRefused",
        words: &["econnrefused", "connection refused", "error 111 connecting"],
        remedy: "nothing listens at that host and port: compare both with the store's console; localhost means a variable is not set",
    },
    // Upstash resets a plain connection to its TLS port without a word.
    Signature {
        name: "TlsRequired",
        words: &["econnreset", "connection reset by peer", "socket closed unexpectedly", "connection closed by server"],
        remedy: "the store may accept TLS only: use rediss://, or REDIS_TLS=true",
    },
    Signature {
        name: "NoNetworkPath",
        words: &[
            "etimedout",
            "connection timeout",
            "connect timeout",
            "timeout connecting",
            "connection timed out",
            "timed out",
            "deadline has elapsed",
            "operation timed out",
        ],
        remedy: "packets are lost on the way: for ElastiCache see to VPC egress and a rule from the connector's group to the store's port; for a public store see that the VPC has a NAT gateway",
    },
    Signature {
        name: "SessionNotShared",
        words: &["invalid session", "session not found"],
        remedy: "another instance does not know the session: see that every instance uses the same store and key prefix",
    },
];

#[cfg(test)]
mod tests;
