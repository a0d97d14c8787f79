//! ElastiCache: replication groups, serverless caches, subnet groups. Answers are the SDK's own types; `world` reads them.
//! A token is sent once, at creation, and AWS never returns it: it is in the journal before the call.

use aws_config::SdkConfig;
use aws_sdk_elasticache::types::{CacheCluster, CacheSubnetGroup, ReplicationGroup, ServerlessCache, Tag};
use secrecy::{ExposeSecret, SecretString};

use super::Deadlines;
use crate::desired::ReplicationGroupSettings;
use crate::error::CloudError;

/// The service's name in errors.
pub const SERVICE: &str = "ElastiCache";

/// The client.
#[derive(Clone, Debug)]
pub struct ElastiCache(aws_sdk_elasticache::Client, Deadlines);

fn tagged(tags: &[(String, String)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

impl ElastiCache {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_elasticache::Client::new(config), deadlines)
    }

    /// DescribeReplicationGroups: all of the account and region.
    pub async fn replication_groups(&self) -> Result<Vec<ReplicationGroup>, CloudError> {
        let (mut all, mut marker): (Vec<ReplicationGroup>, Option<String>) = (Vec::new(), None);
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "DescribeReplicationGroups", || {
                    self.0.describe_replication_groups().set_marker(marker.clone()).send()
                })
                .await?;
            all.extend(answer.replication_groups.unwrap_or_default());
            marker = answer.marker;
            if marker.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// DescribeCacheClusters of one member: the only place that tells security groups and subnet group.
    pub async fn cluster(&self, id: &str) -> Result<CacheCluster, CloudError> {
        let operation = "DescribeCacheClusters";
        let answer =
            self.1.read(SERVICE, operation, || self.0.describe_cache_clusters().cache_cluster_id(id).send()).await?;
        let cluster = answer.cache_clusters.unwrap_or_default().into_iter().next();
        cluster.ok_or_else(|| super::missing(SERVICE, operation, "CacheCluster"))
    }

    /// DescribeCacheSubnetGroups of one group.
    pub async fn subnet_group(&self, name: &str) -> Result<CacheSubnetGroup, CloudError> {
        let operation = "DescribeCacheSubnetGroups";
        let answer = self
            .1
            .read(SERVICE, operation, || self.0.describe_cache_subnet_groups().cache_subnet_group_name(name).send())
            .await?;
        let group = answer.cache_subnet_groups.unwrap_or_default().into_iter().next();
        group.ok_or_else(|| super::missing(SERVICE, operation, "CacheSubnetGroup"))
    }

    /// DescribeServerlessCaches: all of the account and region.
    pub async fn serverless_caches(&self) -> Result<Vec<ServerlessCache>, CloudError> {
        let (mut all, mut token): (Vec<ServerlessCache>, Option<String>) = (Vec::new(), None);
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "DescribeServerlessCaches", || {
                    self.0.describe_serverless_caches().set_next_token(token.clone()).send()
                })
                .await?;
            all.extend(answer.serverless_caches.unwrap_or_default());
            token = answer.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// ListTagsForResource: whether a tag of ours with this value is on it.
    pub async fn has_tag(&self, arn: &str, key: &str, value: &str) -> Result<bool, CloudError> {
        let answer = self
            .1
            .read(SERVICE, "ListTagsForResource", || self.0.list_tags_for_resource().resource_name(arn).send())
            .await?;
        let tags = answer.tag_list.unwrap_or_default();
        Ok(tags.iter().any(|tag| tag.key() == Some(key) && tag.value() == Some(value)))
    }

    /// CreateCacheSubnetGroup.
    pub async fn create_subnet_group(
        &self,
        name: &str,
        description: &str,
        subnets: &[String],
        tags: &[(String, String)],
    ) -> Result<(), CloudError> {
        let call = self
            .0
            .create_cache_subnet_group()
            .cache_subnet_group_name(name)
            .cache_subnet_group_description(description)
            .set_subnet_ids(Some(subnets.to_vec()))
            .set_tags(Some(tagged(tags)));
        self.1.write(SERVICE, "CreateCacheSubnetGroup", call.send()).await.map(|_| ())
    }

    /// DeleteCacheSubnetGroup. `Conflict` while a cache uses it, one being deleted included.
    pub async fn delete_subnet_group(&self, name: &str) -> Result<(), CloudError> {
        let call = self.0.delete_cache_subnet_group().cache_subnet_group_name(name);
        self.1.write(SERVICE, "DeleteCacheSubnetGroup", call.send()).await.map(|_| ())
    }

    /// CreateReplicationGroup: one shard, TLS required, `token` for the user `default`, encrypted at rest.
    pub async fn create_replication_group(
        &self,
        id: &str,
        description: &str,
        subnet_group: &str,
        settings: &ReplicationGroupSettings,
        token: &SecretString,
        tags: &[(String, String)],
    ) -> Result<(), CloudError> {
        let replicated = settings.replicas > 0;
        let groups = Some(settings.security_groups.clone()).filter(|groups| !groups.is_empty());
        let call = self
            .0
            .create_replication_group()
            .replication_group_id(id)
            .replication_group_description(description)
            .engine("redis")
            .cache_node_type(&settings.node_type)
            .num_cache_clusters(i32::from(settings.replicas) + 1)
            // Failover needs a replica to fail over to.
            .automatic_failover_enabled(replicated)
            .multi_az_enabled(replicated)
            .cache_subnet_group_name(subnet_group)
            .set_security_group_ids(groups)
            .transit_encryption_enabled(true)
            .at_rest_encryption_enabled(true)
            .auth_token(token.expose_secret())
            .set_tags(Some(tagged(tags)));
        self.1.write(SERVICE, "CreateReplicationGroup", call.send()).await.map(|_| ())
    }

    /// DeleteReplicationGroup with all its nodes and without a last snapshot.
    pub async fn delete_replication_group(&self, id: &str) -> Result<(), CloudError> {
        let call = self.0.delete_replication_group().replication_group_id(id).retain_primary_cluster(false);
        self.1.write(SERVICE, "DeleteReplicationGroup", call.send()).await.map(|_| ())
    }
}
