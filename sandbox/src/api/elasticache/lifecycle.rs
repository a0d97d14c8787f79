//! What happens to caches after the call was answered, on the clock and on the data plane.

use std::time::Duration;

use super::{events, group, serverless};
use crate::cloud::Cloud;
use crate::dataplane::{StoreKind, StoreSpec};
use crate::network;

/// How long the vendor takes, at speed 1: samples, not promises.
mod takes {
    use std::time::Duration;
    pub(super) const CREATE_GROUP: Duration = Duration::from_mins(7);
    pub(super) const MODIFY_GROUP: Duration = Duration::from_mins(1);
    pub(super) const TAG_GROUP: Duration = Duration::from_secs(5);
    pub(super) const DELETE_GROUP: Duration = Duration::from_mins(2);
    pub(super) const CREATE_SERVERLESS: Duration = Duration::from_secs(90);
    pub(super) const MODIFY_SERVERLESS: Duration = Duration::from_secs(30);
    pub(super) const DELETE_SERVERLESS: Duration = Duration::from_mins(1);
}

/// Connections a serverless cache takes.
const SERVERLESS_CLIENTS: u32 = 65_000;

pub(super) async fn create_group(cloud: Cloud, id: String) {
    cloud.shared.clock.pass(takes::CREATE_GROUP).await;
    let now = cloud.shared.clock.now();
    let spec = cloud.shared.change(|state| {
        let found = state.elasticache.groups.get(&id)?.clone();
        let names = group::names(&state.region, &found);
        let subnets = state.elasticache.subnet_groups.get(&found.subnet_group)?.subnets.clone();
        for (n, member) in group::members(&found).iter().enumerate() {
            let subnet = subnets.get(n % subnets.len().max(1))?;
            let description = format!("ElastiCache {member}");
            state.ec2.add_interface(
                subnet,
                &found.security_groups,
                &found.arn,
                description,
                "amazon-elasticache",
                "interface",
            );
        }
        let mut hosts = names.nodes;
        if found.cluster_mode {
            hosts.push(names.configuration);
        } else {
            hosts.extend([names.primary, names.reader]);
        }
        Some(StoreSpec {
            id: network::replication_group(&found),
            kind: StoreKind::ElastiCache,
            hosts,
            port: found.port,
            tls: found.tls,
            passwords: if found.open { Vec::new() } else { found.tokens },
            databases: if found.cluster_mode { 1 } else { 16 },
            max_clients: None,
        })
    });
    let Some(spec) = spec else { return };
    let opened = cloud.plane.open_store(spec).await;
    if let Err(problem) = &opened {
        tracing::error!(%problem, group = %id, "the store of a replication group did not open");
    }
    cloud.shared.change(|state| {
        let Some(group) = state.elasticache.groups.get_mut(&id) else { return };
        group.status = if opened.is_ok() { "available" } else { "create-failed" };
        let text = if opened.is_ok() { "created" } else { "creation failed" };
        events::note(state, &id, "replication-group", format!("Replication group {id} {text}"), now);
    });
}

/// `tokens`: the passwords changed too.
pub(super) async fn modify_group(cloud: Cloud, id: String, tokens: bool) {
    cloud.shared.clock.pass(takes::MODIFY_GROUP).await;
    let now = cloud.shared.clock.now();
    let changed = cloud.shared.change(|state| {
        let group = state.elasticache.groups.get(&id)?.clone();
        for interface in state.ec2.interfaces.values_mut().filter(|i| i.holder == group.arn) {
            interface.groups.clone_from(&group.security_groups);
        }
        let passwords = if group.open { Vec::new() } else { group.tokens.clone() };
        Some((network::replication_group(&group), passwords))
    });
    if let (true, Some((store, passwords))) = (tokens, changed)
        && let Err(problem) = cloud.plane.set_passwords(&store, passwords).await
    {
        tracing::error!(%problem, group = %id, "the passwords of a replication group did not change");
    }
    cloud.shared.change(|state| {
        if let Some(group) = state.elasticache.groups.get_mut(&id) {
            (group.status, group.token_pending) = ("available", None);
        }
        events::note(state, &id, "replication-group", format!("Replication group {id} modified"), now);
    });
}

/// A change of tags leaves a group in `modifying` for a moment.
pub(super) async fn tag_group(cloud: Cloud, id: String) {
    cloud.shared.clock.pass(takes::TAG_GROUP).await;
    cloud.shared.change(|state| {
        if let Some(group) = state.elasticache.groups.get_mut(&id).filter(|g| g.status == "modifying") {
            group.status = "available";
        }
    });
}

pub(super) async fn delete_group(cloud: Cloud, id: String) {
    let half = takes::DELETE_GROUP / 2;
    cloud.shared.clock.pass(half).await;
    let found = cloud.shared.read(|state| state.elasticache.groups.get(&id).cloned());
    let Some(group) = found else { return };
    cloud.plane.close_store(&network::replication_group(&group)).await;
    cloud.shared.clock.pass(half).await;
    let now = cloud.shared.clock.now();
    cloud.shared.change(|state| {
        state.ec2.drop_interfaces(&group.arn);
        state.elasticache.groups.remove(&id);
        events::note(state, &id, "replication-group", format!("Replication group {id} deleted"), now);
    });
}

pub(super) async fn create_serverless(cloud: Cloud, name: String) {
    cloud.shared.clock.pass(takes::CREATE_SERVERLESS).await;
    let now = cloud.shared.clock.now();
    let spec = cloud.shared.change(|state| {
        let cache = state.elasticache.serverless.get(&name)?.clone();
        for subnet in &cache.subnets {
            let text = format!("ElastiCache serverless {name}");
            state.ec2.add_interface(
                subnet,
                &cache.security_groups,
                &cache.arn,
                text,
                "amazon-elasticache",
                "interface",
            );
        }
        Some(StoreSpec {
            id: network::serverless(&cache),
            kind: StoreKind::ElastiCacheServerless,
            hosts: vec![serverless::host(&state.region, &cache)],
            port: 6379,
            tls: true,
            passwords: Vec::new(),
            databases: 1,
            max_clients: Some(SERVERLESS_CLIENTS),
        })
    });
    let Some(spec) = spec else { return };
    let opened = cloud.plane.open_store(spec).await;
    if let Err(problem) = &opened {
        tracing::error!(%problem, cache = %name, "the store of a serverless cache did not open");
    }
    cloud.shared.change(|state| {
        let Some(cache) = state.elasticache.serverless.get_mut(&name) else { return };
        cache.status = if opened.is_ok() { "available" } else { "create-failed" };
        events::note(state, &name, "serverless-cache", format!("Serverless cache {name} created"), now);
    });
}

pub(super) async fn modify_serverless(cloud: Cloud, name: String) {
    cloud.shared.clock.pass(takes::MODIFY_SERVERLESS).await;
    cloud.shared.change(|state| {
        let Some(cache) = state.elasticache.serverless.get_mut(&name) else { return };
        cache.status = "available";
        let (arn, groups) = (cache.arn.clone(), cache.security_groups.clone());
        for interface in state.ec2.interfaces.values_mut().filter(|i| i.holder == arn) {
            interface.groups.clone_from(&groups);
        }
    });
}

pub(super) async fn delete_serverless(cloud: Cloud, name: String) {
    let half: Duration = takes::DELETE_SERVERLESS / 2;
    cloud.shared.clock.pass(half).await;
    let found = cloud.shared.read(|state| state.elasticache.serverless.get(&name).cloned());
    let Some(cache) = found else { return };
    cloud.plane.close_store(&network::serverless(&cache)).await;
    cloud.shared.clock.pass(half).await;
    let now = cloud.shared.clock.now();
    cloud.shared.change(|state| {
        state.ec2.drop_interfaces(&cache.arn);
        state.elasticache.serverless.remove(&name);
        events::note(state, &name, "serverless-cache", format!("Serverless cache {name} deleted"), now);
    });
}
