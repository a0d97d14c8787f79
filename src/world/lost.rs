//! What answers to the names of the things of ours whose id was lost with a reply. Looked up for every one of them,
//! whatever the spec is: while an object is being deleted nothing else would look there.

use std::collections::BTreeMap;

use aws_sdk_apprunner::types::VpcConnector;
use futures::future::join_all;

use crate::error::{Class, CloudError};
use crate::identity::{Arn, GroupId, Owner};
use crate::journal::{Journal, Resource};
use crate::observed::{Namesake, Reading};
use crate::step::Step;

use super::stores::Listings;
use super::{CloudWorld, network};

/// The vendors' lists that were read already.
pub(super) struct Listed<'a> {
    pub(super) stores: &'a Listings,
    pub(super) connectors: &'a Result<Vec<VpcConnector>, CloudError>,
}

type Found = Result<Vec<Namesake>, CloudError>;

impl CloudWorld {
    pub(super) async fn namesakes(
        &self,
        owner: &Owner,
        journal: &Journal,
        listed: &Listed<'_>,
    ) -> BTreeMap<Resource, Reading<Vec<Namesake>>> {
        let lost = journal.made.iter().filter(|(_, made)| made.id.is_none()).map(|(resource, _)| resource);
        let looked = lost.map(|resource| async move {
            let reading = match resource {
                Resource::UpstashDatabase(name) => Some(listed.stores.databases_called(name)),
                Resource::ReplicationGroup(id) => Some(self.group_called(owner, id, listed.stores).await.into()),
                Resource::SubnetGroup(name) => Some(self.subnet_group_called(owner, name).await.into()),
                Resource::Connector(name) => Some(self.connectors_called(owner, name, listed.connectors).await.into()),
                Resource::Rule(name) => Some(self.rules_called(owner, name).await.into()),
                // Read by its name, which is its id.
                Resource::Secret(_) => None,
            };
            Some((resource.clone(), reading?))
        });
        join_all(looked).await.into_iter().flatten().collect()
    }

    async fn group_called(&self, owner: &Owner, id: &str, stores: &Listings) -> Found {
        let Some(arn) = stores.group_called(id)? else { return Ok(Vec::new()) };
        let ours = Some(self.is_tagged(owner, &arn).await?);
        Ok(vec![Namesake { id: id.to_owned(), created: None, ours }])
    }

    async fn subnet_group_called(&self, owner: &Owner, name: &str) -> Found {
        let arn = match self.aws.elasticache.subnet_group(name).await {
            Ok(group) => group.arn.unwrap_or_default(),
            Err(error) if error.class == Class::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let ours = Some(self.is_tagged(owner, &arn).await?);
        Ok(vec![Namesake { id: name.to_owned(), created: None, ours }])
    }

    async fn is_tagged(&self, owner: &Owner, arn: &str) -> Result<bool, CloudError> {
        let [(key, path), _] = owner.tags();
        self.aws.elasticache.has_tag(arn, &key, &path).await
    }

    async fn connectors_called(
        &self,
        owner: &Owner,
        name: &str,
        listed: &Result<Vec<VpcConnector>, CloudError>,
    ) -> Found {
        let listed = listed.as_ref().map_err(Clone::clone)?;
        let same = listed.iter().filter(|connector| connector.vpc_connector_name.as_deref() == Some(name));
        let [(key, path), _] = owner.tags();
        let mut found = Vec::new();
        for arn in same.filter_map(|connector| connector.vpc_connector_arn.clone()) {
            let ours = self.aws.apprunner.tags(&Arn(arn.clone())).await?.get(&key) == Some(&path);
            found.push(Namesake { id: arn, created: None, ours: Some(ours) });
        }
        Ok(found)
    }

    /// By what a rule admits: it has no name of its own.
    async fn rules_called(&self, owner: &Owner, name: &str) -> Found {
        let group = GroupId(name.split(" <- ").next().unwrap_or_default().to_owned());
        let rules = self.aws.ec2.rules_of(std::slice::from_ref(&group.0)).await?;
        let ingress = rules.iter().filter(|rule| network::is_ingress(rule));
        let found = ingress.filter_map(|rule| network::rule(owner, rule)).filter(|(_, rule)| {
            let named = rule.source.as_ref().zip(rule.from_port);
            let named = named.map(|(source, port)| Step::rule_name(&rule.group, source, port));
            named == Some(Resource::Rule(name.to_owned())) && rule.from_port == rule.to_port
        });
        Ok(found.map(|(id, rule)| Namesake { id: id.0, created: None, ours: Some(rule.ours) }).collect())
    }
}
