//! Which commands a vendor's Redis refuses. Whole commands are unknown to the server, as the vendors answer;
//! subcommands are taken from the user by ACL.

use crate::dataplane::StoreKind;

/// Not counted by a vendor that bills commands.
pub(super) const UNBILLED: &[&str] = &["auth", "hello", "select", "command", "config", "info", "ping", "reset", "quit"];

/// The node-based service, which never lets anybody at replication, persistence and configuration.
const ELASTICACHE: &[&str] = &[
    "bgrewriteaof",
    "bgsave",
    "save",
    "config",
    "debug",
    "migrate",
    "psync",
    "sync",
    "replicaof",
    "slaveof",
    "shutdown",
];
const SERVERLESS: &[&str] = &[
    "bgrewriteaof",
    "bgsave",
    "save",
    "config",
    "debug",
    "migrate",
    "psync",
    "sync",
    "replicaof",
    "slaveof",
    "shutdown",
    "keys",
    "object",
    "memory",
    "function",
    "fcall",
    "fcall_ro",
    "latency",
    "slowlog",
    "monitor",
    "move",
    "psubscribe",
    "wait",
    "swapdb",
];
const UPSTASH: &[&str] = &[
    "object",
    "sort",
    "sort_ro",
    "move",
    "swapdb",
    "migrate",
    "cluster",
    "debug",
    "latency",
    "slowlog",
    "save",
    "bgsave",
    "bgrewriteaof",
    "lastsave",
    "psync",
    "sync",
    "replicaof",
    "slaveof",
    "lcs",
    "ssubscribe",
    "sunsubscribe",
    "spublish",
    "module",
    "shutdown",
    "failover",
];

const ELASTICACHE_ACL: &[&str] = &[
    "acl|setuser",
    "acl|load",
    "acl|save",
    "acl|deluser",
    "cluster|addslots",
    "cluster|addslotsrange",
    "cluster|delslots",
    "cluster|delslotsrange",
    "cluster|setslot",
    "cluster|meet",
    "cluster|forget",
    "cluster|failover",
    "cluster|replicate",
    "cluster|reset",
    "cluster|saveconfig",
    "cluster|bumpepoch",
    "cluster|set-config-epoch",
    "cluster|flushslots",
];
const SERVERLESS_ACL: &[&str] = &[
    "acl|setuser",
    "acl|load",
    "acl|save",
    "acl|deluser",
    "client|list",
    "client|kill",
    "client|id",
    "client|info",
    "client|pause",
    "client|tracking",
    "script|kill",
];
const UPSTASH_ACL: &[&str] = &[
    "acl|setuser",
    "acl|deluser",
    "acl|load",
    "acl|save",
    "client|kill",
    "client|tracking",
    "client|caching",
    "client|no-evict",
    "client|reply",
    "client|pause",
    "client|unpause",
    "client|unblock",
    "config|resetstat",
    "config|rewrite",
];

/// Answered with `ERR unknown command`.
pub(super) fn unknown(kind: StoreKind) -> &'static [&'static str] {
    match kind {
        StoreKind::ElastiCache => ELASTICACHE,
        StoreKind::ElastiCacheServerless => SERVERLESS,
        StoreKind::Upstash => UPSTASH,
        StoreKind::External => &[],
    }
}

/// Answered with `NOPERM`.
pub(super) fn refused_by_acl(kind: StoreKind) -> &'static [&'static str] {
    match kind {
        StoreKind::ElastiCache => ELASTICACHE_ACL,
        StoreKind::ElastiCacheServerless => SERVERLESS_ACL,
        StoreKind::Upstash => UPSTASH_ACL,
        StoreKind::External => &[],
    }
}
