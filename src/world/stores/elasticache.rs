//! Stores at ElastiCache: replication groups and serverless caches, their names, and where in the network they are.

use std::collections::BTreeSet;

use aws_sdk_elasticache::types::{ConnectionType, Endpoint as SdkEndpoint, ReplicationGroup, ServerlessCache};

use crate::env;
use crate::error::CloudError;
use crate::identity::{Address, GroupId, StoreId};
use crate::journal::Resource;
use crate::observed::{Placement, Reading, Store, StoreStatus};

use super::super::{CloudWorld, StoreInputs, cache};
use super::{Found, Listings};

/// Clients a node or a serverless cache takes (`maxclients`, which no parameter group changes).
const MOST_CLIENTS: u32 = 65_000;

fn user(inputs: &StoreInputs) -> Option<String> {
    inputs.username.clone().filter(|user| user != "default")
}

fn endpoint_host(endpoint: Option<&SdkEndpoint>) -> Option<String> {
    endpoint?.address.as_ref().map(|host| host.to_ascii_lowercase())
}

pub(super) fn group_hosts(group: &ReplicationGroup) -> Vec<String> {
    let nodes = group.node_groups.iter().flatten();
    let shards = nodes.clone().flat_map(|node| [node.primary_endpoint.as_ref(), node.reader_endpoint.as_ref()]);
    let members =
        nodes.flat_map(|node| node.node_group_members.iter().flatten()).map(|member| member.read_endpoint.as_ref());
    let all = [group.configuration_endpoint.as_ref()].into_iter().chain(shards).chain(members);
    all.filter_map(endpoint_host).collect::<BTreeSet<_>>().into_iter().collect()
}

pub(super) fn serverless_hosts(cache: &ServerlessCache) -> Vec<String> {
    let all = [cache.endpoint.as_ref(), cache.reader_endpoint.as_ref()];
    all.into_iter().filter_map(endpoint_host).collect::<BTreeSet<_>>().into_iter().collect()
}

fn port(endpoint: &SdkEndpoint) -> u16 {
    endpoint.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(env::DEFAULT_PORT)
}

/// ElastiCache's status word; `snapshotting` serves.
fn elasticache_status(word: Option<&str>) -> StoreStatus {
    match word.unwrap_or_default() {
        "creating" => StoreStatus::Creating,
        "available" => StoreStatus::Available,
        "modifying" | "snapshotting" => StoreStatus::Modifying,
        "deleting" => StoreStatus::Deleting,
        other => StoreStatus::Failed(crate::error::presentable(other, 64)),
    }
}

/// Ids are stored in lower case whatever was asked for.
fn is_called(group: &ReplicationGroup, id: &str) -> bool {
    group.replication_group_id.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(id))
}

/// A group is ready when it says so and each of its shards does.
fn group_status(group: &ReplicationGroup) -> StoreStatus {
    let shards_ready =
        group.node_groups.iter().flatten().all(|shard| shard.status.as_deref().is_none_or(|word| word == "available"));
    match elasticache_status(group.status.as_deref()) {
        StoreStatus::Available if !shards_ready => StoreStatus::Modifying,
        status => status,
    }
}

fn group_address(group: &ReplicationGroup) -> Option<Address> {
    let primary = || group.node_groups.as_ref()?.first()?.primary_endpoint.as_ref();
    let endpoint = group.configuration_endpoint.as_ref().or_else(primary)?;
    let host = endpoint.address.as_ref()?.to_ascii_lowercase();
    let tls = group.transit_encryption_enabled.unwrap_or(false);
    Some(Address { host, port: port(endpoint), db: 0, user: None, tls })
}

impl Listings {
    /// The replication groups that cannot be deleted now. One that is being deleted stays listed for minutes.
    pub(in crate::world) fn busy(&self) -> impl Iterator<Item = (StoreId, StoreStatus)> {
        self.groups.iter().flatten().filter_map(|group| {
            let id = StoreId::ReplicationGroup(group.replication_group_id.as_ref()?.to_ascii_lowercase());
            match group_status(group) {
                busy @ (StoreStatus::Creating | StoreStatus::Modifying | StoreStatus::Deleting) => Some((id, busy)),
                StoreStatus::Available | StoreStatus::Failed(_) => None,
            }
        })
    }

    /// The ARN of the replication group `id`, if there is one.
    pub(in crate::world) fn group_called(&self, id: &str) -> Result<Option<String>, CloudError> {
        let groups = self.groups.as_ref().map_err(Clone::clone)?;
        let group = groups.iter().find(|group| is_called(group, id));
        Ok(group.map(|group| group.arn.clone().unwrap_or_default()))
    }
}

impl CloudWorld {
    pub(super) async fn group(&self, id: &str, inputs: &StoreInputs, listings: &Listings) -> Reading<Found> {
        let groups = match &listings.groups {
            Ok(groups) => groups,
            Err(error) => return Reading::Unknown(error.clone()),
        };
        let Some(group) = groups.iter().find(|group| is_called(group, id)) else { return Reading::Absent };
        let placement = match self.group_placement(group).await {
            Ok(placement) => placement,
            Err(error) => return Reading::Unknown(error),
        };
        let vaulted = self.memory().kept(&Resource::ReplicationGroup(id.to_owned()), id);
        let open = group.auth_token_enabled == Some(false) && group.user_group_ids.iter().flatten().next().is_none();
        let password = inputs.password.clone().or(vaulted).filter(|_| !open);
        let address = group_address(group);
        Reading::Present(Found {
            store: Store {
                id: StoreId::ReplicationGroup(id.to_owned()),
                name: id.to_owned(),
                status: group_status(group),
                address: address.map(|address| Address { user: user(inputs), ..address }),
                credential: None,
                placement,
                cluster: group.cluster_enabled.unwrap_or(false),
                max_connections: Some(MOST_CLIENTS),
                plan: group.cache_node_type.clone(),
                quota: None,
                server: Reading::Absent,
            },
            password,
            hosts: group_hosts(group),
        })
    }

    /// Security groups and VPC of a group: only a member cluster tells.
    async fn group_placement(&self, group: &ReplicationGroup) -> Result<Placement, CloudError> {
        // While a group is being created it may have no members yet.
        let Some(member) = group.member_clusters.iter().flatten().next() else {
            return Ok(Placement::Vpc { vpc: String::new(), groups: Vec::new() });
        };
        if let Some(placement) = self.cache.placements.get(member, cache::PLACEMENT) {
            return Ok(placement);
        }
        let cluster = self.aws.elasticache.cluster(member).await?;
        let groups = cluster.security_groups.iter().flatten().filter_map(|group| group.security_group_id.clone());
        let groups = groups.map(GroupId).collect();
        let vpc = match &cluster.cache_subnet_group_name {
            Some(name) => self.aws.elasticache.subnet_group(name).await?.vpc_id,
            None => None,
        };
        let placement = Placement::Vpc { vpc: vpc.unwrap_or_default(), groups };
        self.cache.placements.put(member, placement.clone());
        Ok(placement)
    }

    pub(super) async fn serverless(&self, name: &str, inputs: &StoreInputs, listings: &Listings) -> Reading<Found> {
        let caches = match &listings.serverless {
            Ok(caches) => caches,
            Err(error) => return Reading::Unknown(error.clone()),
        };
        let cache = caches
            .iter()
            .find(|cache| cache.serverless_cache_name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        let Some(cache) = cache else { return Reading::Absent };
        let placement = if cache.connection_type == Some(ConnectionType::Public) {
            Placement::Public
        } else {
            match self.serverless_vpc(cache).await {
                Ok(vpc) => {
                    let groups = cache.security_group_ids.iter().flatten().cloned().map(GroupId).collect();
                    Placement::Vpc { vpc, groups }
                }
                Err(error) => return Reading::Unknown(error),
            }
        };
        let address = cache.endpoint.as_ref().and_then(|endpoint| {
            let host = endpoint.address.as_ref()?.to_ascii_lowercase();
            Some(Address { host, port: port(endpoint), db: 0, user: user(inputs), tls: true })
        });
        Reading::Present(Found {
            store: Store {
                id: StoreId::ServerlessCache(name.to_ascii_lowercase()),
                name: name.to_owned(),
                status: elasticache_status(cache.status.as_deref()),
                address,
                credential: None,
                placement,
                cluster: true,
                max_connections: Some(MOST_CLIENTS),
                plan: Some("serverless".to_owned()),
                quota: None,
                server: Reading::Absent,
            },
            password: inputs.password.clone(),
            hosts: serverless_hosts(cache),
        })
    }

    async fn serverless_vpc(&self, cache: &ServerlessCache) -> Result<String, CloudError> {
        let subnets = cache.subnet_ids.clone().unwrap_or_default();
        let subnets = self.aws.ec2.subnets(&subnets).await?;
        Ok(subnets.into_iter().find_map(|subnet| subnet.vpc_id).unwrap_or_default())
    }
}
