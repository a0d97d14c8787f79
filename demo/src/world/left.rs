//! What the world holds and what is left in it: looked for once before the move and once after it. The stores are asked
//! behind their vendors' doors, because a copier that cleared up badly could hardly be asked whether it did.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{GROUP, World, new_store, text};
use crate::sandbox::{Sandbox, SandboxError};

/// Every key of the copier's own begins with this.
const TRACES: &str = "__sessionbackend:*";
/// Names of such keys in all databases of a store, but for what a check that was killed has written and what goes by itself
/// within a minute.
const FIND: &str = "local found = {}
for database = 0, 15 do
  local said = redis.pcall('SELECT', database)
  if said.err then break end
  for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    local left = redis.call('TTL', key)
    local goes = string.find(key, '__sessionbackend:probe:', 1, true) == 1 and left >= 0 and left <= 60
    if not goes then table.insert(found, key) end
  end
end
return found";
/// How every new server has it.
const UNSET: &str = "";

/// What `sessionbackend` made, or left, and is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Databases of the Upstash account.
    pub databases: usize,
    /// Secrets of an epoch that are not on their way out, by ARN.
    pub epochs: Vec<String>,
    /// Rules, groups, connectors, caches and foreign secrets that were not there before the move.
    pub others: Vec<String>,
    /// Keys of the copier in either store.
    pub traces: Vec<String>,
    /// Stores whose keyspace notifications are not set as they were before the move.
    pub notifying: Vec<String>,
}

/// What `sessionbackend` made, or left, and is still there.
///
/// # Errors
/// The vendor's error.
pub async fn made(sandbox: &Sandbox, world: &World) -> Result<Made, SandboxError> {
    let databases = sandbox.call("upstash", "ListDatabases", json!({})).await?;
    let databases = databases.as_array().map_or(0, Vec::len);
    let secrets = secrets(sandbox).await?;
    let epochs = secrets.iter().filter(|secret| is_of_an_epoch(secret)).map(|secret| text(&secret["ARN"])).collect();
    let others = things(sandbox).await?.difference(&world.things).cloned().collect();
    let mut made = Made { databases, epochs, others, ..Made::default() };
    let new = if databases == 0 { None } else { Some(new_store(sandbox).await?) };
    let stores = [(Some(GROUP.to_owned()), world.notify.as_deref()), (new, Some(UNSET))];
    for (store, before) in stores.into_iter().filter_map(|(store, before)| Some((store?, before))) {
        let found = sandbox.ask(&store, &["EVAL", FIND, "0", TRACES]).await?;
        made.traces.extend(found.lines().map(|key| format!("{key} in {store}")));
        if notify(sandbox, &store).await.as_deref() != before {
            made.notifying.push(store);
        }
    }
    Ok(made)
}

/// How keyspace notifications are set; nothing where the vendor has no such command, so that nobody can have set them.
pub(super) async fn notify(sandbox: &Sandbox, store: &str) -> Option<String> {
    let said = sandbox.ask(store, &["CONFIG", "GET", "notify-keyspace-events"]).await.ok()?;
    Some(said.lines().nth(1).unwrap_or_default().to_owned())
}

/// Everything of the network, the caches and the secrets, our own secrets apart, by id.
///
/// # Errors
/// The vendor's error.
pub(super) async fn things(sandbox: &Sandbox) -> Result<BTreeSet<String>, SandboxError> {
    let lists = [
        ("ec2", "DescribeSecurityGroups", "SecurityGroups", "GroupId"),
        ("ec2", "DescribeSecurityGroupRules", "SecurityGroupRules", "SecurityGroupRuleId"),
        ("elasticache", "DescribeReplicationGroups", "ReplicationGroups", "ReplicationGroupId"),
        ("elasticache", "DescribeServerlessCaches", "ServerlessCaches", "ServerlessCacheName"),
        ("elasticache", "DescribeCacheSubnetGroups", "CacheSubnetGroups", "CacheSubnetGroupName"),
        ("apprunner", "ListVpcConnectors", "VpcConnectors", "VpcConnectorArn"),
    ];
    let mut found = BTreeSet::new();
    for (service, operation, list, id) in lists {
        let answer = sandbox.call(service, operation, json!({})).await?;
        let there = answer[list].as_array().into_iter().flatten().filter(|thing| thing["Status"] != "INACTIVE");
        found.extend(there.map(|thing| text(&thing[id])));
    }
    let secrets = secrets(sandbox).await?;
    found
        .extend(secrets.iter().map(|secret| text(&secret["Name"])).filter(|name| !name.starts_with("sessionbackend/")));
    Ok(found)
}

async fn secrets(sandbox: &Sandbox) -> Result<Vec<Value>, SandboxError> {
    let listed = sandbox.call("secretsmanager", "ListSecrets", json!({ "MaxResults": 100 })).await?;
    Ok(listed["SecretList"].as_array().cloned().unwrap_or_default())
}

fn is_of_an_epoch(secret: &Value) -> bool {
    let name = secret["Name"].as_str().unwrap_or_default();
    name.starts_with("sessionbackend/") && name.contains("/epochs/") && secret["DeletedDate"].is_null()
}
