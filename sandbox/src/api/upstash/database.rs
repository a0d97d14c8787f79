//! Databases: made at once, with credentials shown on create, get and reset.

use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use super::{not_found, ok, refused};
use crate::api::{ApiError, Reply, strings, text};
use crate::cloud::Cloud;
use crate::dataplane::{StoreKind, StoreSpec};
use crate::network;
use crate::state::upstash::Database;
use crate::state::{State, random, uuid};

/// Primary regions on AWS and on GCP; AWS read regions lack the last.
const AWS: [&str; 14] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "sa-east-1",
    "eu-west-1",
    "eu-west-2",
    "eu-central-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "af-south-1",
];
const GCP: [&str; 4] = ["us-central1", "us-east4", "europe-west1", "asia-northeast1"];
const PLANS: [&str; 9] =
    ["free", "payg", "fixed_250mb", "fixed_1gb", "fixed_5gb", "fixed_10gb", "fixed_50gb", "fixed_100gb", "fixed_500gb"];
/// Databases an account can have.
const QUOTA: usize = 100;
/// How long a plan or the regions change.
const MODIFYING: Duration = Duration::from_secs(20);
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The created object carries credentials; every client uses it without waiting.
pub(super) async fn create(cloud: &Cloud, input: &Value) -> Reply {
    let database = cloud.shared.read(|state| new(state, cloud, input))?;
    let spec = StoreSpec {
        id: network::upstash(&database.id),
        kind: StoreKind::Upstash,
        hosts: vec![database.host()],
        port: 6379,
        tls: true,
        passwords: vec![database.password.clone()],
        databases: 1,
        max_clients: Some(database.max_clients),
    };
    cloud.plane.open_store(spec).await.map_err(|e| refused(500, e.to_string()))?;
    let answer = shown(cloud, &database, true);
    cloud.shared.change(|state| state.upstash.databases.insert(database.id.clone(), database));
    Ok(answer)
}

fn new(state: &State, cloud: &Cloud, input: &Value) -> Result<Database, ApiError> {
    let name = text(input, "database_name").or_else(|| text(input, "name"));
    let name = name.filter(|n| !n.is_empty()).ok_or_else(|| refused(400, "database_name is required"))?;
    if let Some(region) = text(input, "region").filter(|region| *region != "global") {
        return Err(refused(400, format!("region {region}: regional databases can no longer be created")));
    }
    let platform = text(input, "platform").unwrap_or("aws");
    let regions: &[&str] = match platform {
        "aws" => &AWS,
        "gcp" => &GCP,
        other => return Err(refused(400, format!("platform {other} is not supported"))),
    };
    let primary = text(input, "primary_region").ok_or_else(|| refused(400, "primary_region is required"))?;
    if !regions.contains(&primary) {
        return Err(refused(400, format!("primary_region {primary} is not supported")));
    }
    let read = strings(input, "read_regions");
    let plan = text(input, "plan").unwrap_or("payg");
    check_plan(plan)?;
    check_regions(primary, &read, plan)?;
    let databases = &state.upstash.databases;
    if plan == "free" && databases.values().any(|d| d.plan == "free") {
        return Err(refused(400, "free plan allows one database"));
    }
    if databases.len() >= QUOTA {
        return Err(refused(400, "database limit exceeded"));
    }
    let id = uuid();
    let password = random(LETTERS, 48);
    Ok(Database {
        slug: format!("{}-{}-{}", word(&ADJECTIVES), word(&ANIMALS), random("123456789", 5)),
        tokens: tokens(&id),
        id,
        name: name.to_owned(),
        password,
        platform: platform.to_owned(),
        primary: primary.to_owned(),
        read,
        plan: plan.to_owned(),
        budget: input["budget"].as_i64().unwrap_or(20),
        eviction: input["eviction"].as_bool().unwrap_or(false),
        auto_upgrade: input["auto_upgrade"].as_bool().unwrap_or(false),
        state: "active",
        modifying: String::new(),
        // Not a member of the published create body: lets a test have a database with few connections.
        max_clients: input["db_max_clients"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(10_000),
        prod_pack: input["prod_pack_enabled"].as_bool().unwrap_or(false),
        created: cloud.shared.clock.now(),
    })
}

fn check_plan(plan: &str) -> Result<(), ApiError> {
    if PLANS.contains(&plan) { Ok(()) } else { Err(refused(400, format!("plan {plan} is not known"))) }
}

fn check_regions(primary: &str, read: &[String], plan: &str) -> Result<(), ApiError> {
    if read.iter().any(|region| region == primary) {
        return Err(refused(400, "read_regions must not contain the primary region"));
    }
    if let Some(region) = read.iter().find(|r| !AWS[..13].contains(&r.as_str())) {
        return Err(refused(400, format!("read region {region} is not supported")));
    }
    if plan == "free" && !read.is_empty() {
        return Err(refused(400, "free plan does not support read regions"));
    }
    Ok(())
}

const ADJECTIVES: [&str; 8] = ["steady", "beloved", "smooth", "eager", "gusty", "mighty", "quiet", "precise"];
const ANIMALS: [&str; 8] = ["stud", "stallion", "heron", "marmot", "lynx", "sparrow", "otter", "gopher"];

fn word(words: &[&'static str]) -> &'static str {
    let at = random("01234567", 1).parse::<usize>().unwrap_or(0);
    words.get(at).copied().unwrap_or("steady")
}

/// REST tokens are opaque blobs of base64.
fn tokens(id: &str) -> (String, String) {
    let token = || base64::engine::general_purpose::STANDARD.encode(format!("{id}{}", random(LETTERS, 24)));
    (token(), token())
}

fn find<'a>(state: &'a State, input: &Value) -> Result<&'a Database, ApiError> {
    text(input, "id").and_then(|id| state.upstash.databases.get(id)).ok_or_else(not_found)
}

/// The Database object of the description; credentials on demand.
fn object(account: &str, database: &Database) -> Value {
    let mut all = vec![database.primary.clone()];
    all.extend(database.read.iter().cloned());
    let kind = match database.plan.as_str() {
        "free" => "free",
        "payg" => "payg",
        _ => "pro",
    };
    let mut object = json!({
        "database_id": database.id, "database_name": database.name, "region": "global", "port": 6379,
        "creation_time": database.created.as_second(), "state": database.state, "endpoint": database.host(), "tls": true,
        "type": kind, "database_type": kind, "budget": database.budget, "primary_region": database.primary,
        "primary_members": [database.primary], "all_members": all, "read_regions": database.read,
        "eviction": database.eviction, "db_eviction": database.eviction, "auto_upgrade": database.auto_upgrade,
        "modifying_state": database.modifying, "db_max_clients": database.max_clients, "customer_id": account,
        "user_email": account, "prod_pack_enabled": database.prod_pack,
    });
    if let (Some(object), Value::Object(limits)) = (object.as_object_mut(), limits()) {
        object.extend(limits);
    }
    object
}

/// Members that are the same for every database here.
fn limits() -> Value {
    json!({
        "consistent": true, "multizone": true, "db_resource_size": "L", "db_type": "pebble",
        "db_max_request_size": 10_485_760, "db_disk_threshold": 107_374_182_400_i64, "db_max_entry_size": 104_857_600,
        "db_memory_threshold": 3_221_225_472_i64, "db_daily_bandwidth_limit": 53_687_091_200_i64,
        "db_max_commands_per_second": 10_000, "db_request_limit": i64::MAX,
        "db_conn_idle_timeout": 21_600_000_000_000_i64, "db_lua_timeout": 250_000_000,
        "db_lua_credits_per_min": 10_000_000_000_i64, "db_store_max_idle": 900_000_000_000_i64,
        "db_max_loads_per_sec": 1_000_000, "db_acl_enabled": "false", "db_acl_default_user_status": "true",
        "last_plan_upgrade_time": 0, "replicas": 3, "daily_backup_enabled": false, "allowed_ip_ranges": [],
        "prometheus_enabled": "false", "securityAddons": {"ipWhitelisting": false, "vpcPeering": false,
            "privateLink": false, "tlsMutualAuth": false, "encryptionAtRest": false},
    })
}

fn with_credentials(mut object: Value, database: &Database) -> Value {
    object["password"] = json!(database.password);
    object["rest_token"] = json!(database.tokens.0);
    object["read_only_rest_token"] = json!(database.tokens.1);
    object
}

fn shown(cloud: &Cloud, database: &Database, credentials: bool) -> Value {
    let object = object(&cloud.shared.settings.upstash_email, database);
    if credentials { with_credentials(object, database) } else { object }
}

/// Whether the vendor's list shows credentials is not known; ours does not, so that nobody relies on it.
pub(super) fn list(state: &State) -> Value {
    state.upstash.databases.values().map(|database| object("sandbox", database)).collect()
}

pub(super) fn get(state: &State, input: &Value) -> Reply {
    let database = find(state, input)?;
    let object = object("sandbox", database);
    if text(input, "credentials") == Some("hide") {
        return Ok(object);
    }
    Ok(with_credentials(object, database))
}

pub(super) async fn delete(cloud: &Cloud, input: &Value) -> Reply {
    let id = cloud.shared.read(|state| find(state, input).map(|d| d.id.clone()))?;
    cloud.shared.change(|state| state.upstash.databases.remove(&id));
    cloud.plane.close_store(&network::upstash(&id)).await;
    Ok(ok())
}

/// Password and both tokens change at once, with no time in which the old ones still work.
pub(super) async fn reset_password(cloud: &Cloud, input: &Value) -> Reply {
    let id = cloud.shared.read(|state| find(state, input).map(|d| d.id.clone()))?;
    let password = random(LETTERS, 48);
    let changed = cloud.plane.set_passwords(&network::upstash(&id), vec![password.clone()]).await;
    changed.map_err(|e| refused(500, e.to_string()))?;
    cloud.shared.change(|state| {
        let database = state.upstash.databases.get_mut(&id).ok_or_else(not_found)?;
        (database.password, database.tokens) = (password, tokens(&id));
        Ok(shown(cloud, database, true))
    })
}

/// Changes that are done at once.
pub(super) fn change(state: &mut State, operation: &str, input: &Value) -> Reply {
    let id = find(state, input)?.id.clone();
    let database = state.upstash.databases.get_mut(&id).ok_or_else(not_found)?;
    let toggle = |flag: &mut bool, wanted: bool, word: &str| {
        if *flag == wanted {
            return Err(refused(400, format!("{word} is already {}", if wanted { "enabled" } else { "disabled" })));
        }
        *flag = wanted;
        Ok(ok())
    };
    match operation {
        "RenameDatabase" => {
            let name = text(input, "name").filter(|n| !n.is_empty()).ok_or_else(|| refused(400, "name is required"))?;
            name.clone_into(&mut database.name);
            Ok(object("sandbox", database))
        }
        "EnableEviction" => toggle(&mut database.eviction, true, "eviction"),
        "DisableEviction" => toggle(&mut database.eviction, false, "eviction"),
        "EnableAutoUpgrade" => toggle(&mut database.auto_upgrade, true, "auto upgrade"),
        "DisableAutoUpgrade" => toggle(&mut database.auto_upgrade, false, "auto upgrade"),
        "UpdateBudget" => {
            let budget = input["budget"].as_i64().filter(|b| *b >= 0);
            database.budget = budget.ok_or_else(|| refused(400, "budget must be a number of whole dollars"))?;
            Ok(ok())
        }
        // TLS is always on and cannot be turned off.
        _ => Ok(object("sandbox", database)),
    }
}

/// Changes that show in `modifying_state` until they are done.
pub(super) fn slow_change(cloud: &Cloud, operation: &str, input: &Value) -> Reply {
    let id = cloud.shared.change(|state| {
        let id = find(state, input)?.id.clone();
        let database = state.upstash.databases.get_mut(&id).ok_or_else(not_found)?;
        if !database.modifying.is_empty() {
            return Err(refused(400, format!("database is being modified: {}", database.modifying)));
        }
        if operation == "ChangePlan" {
            let plan = text(input, "plan_name").ok_or_else(|| refused(400, "plan_name is required"))?;
            check_plan(plan)?;
            if plan == database.plan {
                return Err(refused(400, format!("database is already on plan {plan}")));
            }
            plan.clone_into(&mut database.plan);
            if let Some(auto) = input["auto_upgrade"].as_bool() {
                database.auto_upgrade = auto;
            }
            database.modifying = "plan".into();
        } else {
            let read = strings(input, "read_regions");
            check_regions(&database.primary, &read, &database.plan)?;
            database.read = read;
            database.modifying = "regions".into();
        }
        Ok(id)
    })?;
    let task = cloud.clone();
    cloud.spawn(async move {
        task.shared.clock.pass(MODIFYING).await;
        task.shared.change(|state| {
            if let Some(database) = state.upstash.databases.get_mut(&id) {
                database.modifying.clear();
            }
        });
    });
    Ok(ok())
}
