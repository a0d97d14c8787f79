//! Statistics of a database, counted by the real server behind it.

use serde_json::{Value, json};

use super::{not_found, refused};
use crate::api::{Reply, text};
use crate::cloud::Cloud;
use crate::network;

const PERIODS: [&str; 6] = ["1h", "3h", "12h", "1d", "3d", "7d"];

/// Series nothing here measures.
const NOT_MEASURED: [&str; 13] = [
    "throughput",
    "latencymean",
    "latency_99",
    "read_latency_mean",
    "read_latency_99",
    "write_latency_mean",
    "write_latency_99",
    "hits",
    "misses",
    "read",
    "write",
    "dailybilling",
    "bandwidths",
];

/// Series have Go's way of writing a time; here each has the one point of now.
pub(super) async fn get(cloud: &Cloud, input: &Value) -> Reply {
    if let Some(period) = text(input, "period").filter(|p| !PERIODS.contains(p)) {
        return Err(refused(400, format!("period {period} is not known")));
    }
    let id = text(input, "id").unwrap_or_default();
    if !cloud.shared.read(|state| state.upstash.databases.contains_key(id)) {
        return Err(not_found());
    }
    let usage = cloud.plane.usage(&network::upstash(id)).await.map_err(|e| refused(500, e.to_string()))?;
    let now = cloud.shared.clock.now();
    let x = format!("{} +0000 UTC", now.strftime("%Y-%m-%d %H:%M:%S%.f"));
    let point = |y: u64| json!([{"x": x, "y": y}]);
    let mut stats = json!({
        "monitor_count": point(0)[0], "connection_count": point(usage.connections), "keyspace": point(usage.keys),
        "diskusage": point(usage.used_memory), "dailyrequests": point(usage.commands), "command_counts": [],
        "days": [now.strftime("%A").to_string()], "queue_optimized": false, "dailybandwidth": 0,
        "current_storage": usage.used_memory, "daily_net_commands": usage.commands, "daily_read_requests": 0,
        "daily_write_requests": usage.commands, "total_monthly_requests": usage.commands,
        "total_monthly_read_requests": 0, "total_monthly_write_requests": usage.commands,
        "total_monthly_script_requests": 0, "total_monthly_storage": usage.used_memory,
        "total_monthly_bandwidth": 0, "total_monthly_billing": 0.0,
    });
    for series in NOT_MEASURED {
        stats[series] = point(0);
    }
    Ok(stats)
}
