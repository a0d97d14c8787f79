//! App Runner: services, their operations, connectors. Answers are the SDK's own types; `world` reads them.
//! No operation takes a client token and there is no etag, so writes are made once and never tried again here.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_apprunner::types::{
    HealthCheckConfiguration, NetworkConfiguration, OperationSummary, Service, ServiceSummary, SourceConfiguration,
    Tag, VpcConnector,
};

use super::Deadlines;
use crate::error::CloudError;
use crate::identity::{Arn, OperationId};

/// The service's name in errors.
pub const SERVICE: &str = "App Runner";

/// The client.
#[derive(Clone, Debug)]
pub struct AppRunner(aws_sdk_apprunner::Client, Deadlines);

/// What UpdateService is told. Members left out stay as they are; what is inside a member is replaced whole.
pub struct Update {
    /// The whole source configuration, every variable included.
    pub source: SourceConfiguration,
    /// Every field of the health check: a partial one resets the rest.
    pub health_check: Option<HealthCheckConfiguration>,
    /// The whole network configuration, if it changes.
    pub network: Option<NetworkConfiguration>,
}

impl AppRunner {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_apprunner::Client::new(config), deadlines)
    }

    /// ListServices: every service of the account and region, without its configuration.
    pub async fn services(&self) -> Result<Vec<ServiceSummary>, CloudError> {
        let (mut all, mut token): (Vec<ServiceSummary>, Option<String>) = (Vec::new(), None);
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "ListServices", || {
                    self.0.list_services().max_results(20).set_next_token(token.clone()).send()
                })
                .await?;
            all.extend(answer.service_summary_list);
            token = answer.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// DescribeService.
    pub async fn service(&self, arn: &Arn) -> Result<Service, CloudError> {
        let operation = "DescribeService";
        let answer = self.1.read(SERVICE, operation, || self.0.describe_service().service_arn(&arn.0).send()).await?;
        answer.service.ok_or_else(|| super::missing(SERVICE, operation, "Service"))
    }

    /// ListOperations, newest first, until `enough` says so of what was read so far (at most five pages of twenty).
    pub async fn operations(
        &self,
        arn: &Arn,
        enough: impl Fn(&[OperationSummary]) -> bool + Send,
    ) -> Result<Vec<OperationSummary>, CloudError> {
        let (mut all, mut token): (Vec<OperationSummary>, Option<String>) = (Vec::new(), None);
        for _ in 0..5 {
            let answer = self
                .1
                .read(SERVICE, "ListOperations", || {
                    self.0.list_operations().service_arn(&arn.0).max_results(20).set_next_token(token.clone()).send()
                })
                .await?;
            all.extend(answer.operation_summary_list.unwrap_or_default());
            token = answer.next_token;
            if token.is_none() || enough(&all) {
                break;
            }
        }
        Ok(all)
    }

    /// UpdateService, once. A lost reply is `Transient`: the call may have been executed.
    pub async fn update(&self, arn: &Arn, update: Update) -> Result<Option<OperationId>, CloudError> {
        let call = self
            .0
            .update_service()
            .service_arn(&arn.0)
            .source_configuration(update.source)
            .set_health_check_configuration(update.health_check)
            .set_network_configuration(update.network);
        let answer = self.1.write(SERVICE, "UpdateService", Box::pin(call.send())).await?;
        Ok(Some(answer.operation_id).filter(|id| !id.is_empty()).map(OperationId))
    }

    /// DescribeAutoScalingConfiguration: the most instances it allows.
    pub async fn max_instances(&self, arn: &str) -> Result<Option<u32>, CloudError> {
        let answer = self
            .1
            .read(SERVICE, "DescribeAutoScalingConfiguration", || {
                self.0.describe_auto_scaling_configuration().auto_scaling_configuration_arn(arn).send()
            })
            .await?;
        Ok(answer.auto_scaling_configuration.and_then(|scaling| u32::try_from(scaling.max_size?).ok()))
    }

    /// ListVpcConnectors: the active ones, whole.
    pub async fn connectors(&self) -> Result<Vec<VpcConnector>, CloudError> {
        let (mut all, mut token): (Vec<VpcConnector>, Option<String>) = (Vec::new(), None);
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "ListVpcConnectors", || {
                    self.0.list_vpc_connectors().max_results(100).set_next_token(token.clone()).send()
                })
                .await?;
            all.extend(answer.vpc_connectors);
            token = answer.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// ListTagsForResource.
    pub async fn tags(&self, arn: &Arn) -> Result<BTreeMap<String, String>, CloudError> {
        let answer = self
            .1
            .read(SERVICE, "ListTagsForResource", || self.0.list_tags_for_resource().resource_arn(&arn.0).send())
            .await?;
        let tags = answer.tags.unwrap_or_default();
        Ok(tags.into_iter().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect())
    }

    /// TagResource: sets these, leaves the others.
    pub async fn tag(&self, arn: &Arn, tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let call = self.0.tag_resource().resource_arn(&arn.0).set_tags(Some(tags));
        self.1.write(SERVICE, "TagResource", call.send()).await.map(|_| ())
    }

    /// UntagResource.
    pub async fn untag(&self, arn: &Arn, keys: Vec<String>) -> Result<(), CloudError> {
        let call = self.0.untag_resource().resource_arn(&arn.0).set_tag_keys(Some(keys));
        self.1.write(SERVICE, "UntagResource", call.send()).await.map(|_| ())
    }

    /// CreateVpcConnector. Immutable once made; answers ACTIVE at once.
    pub async fn create_connector(
        &self,
        name: &str,
        subnets: &[String],
        security_groups: &[String],
        tags: &[(String, String)],
    ) -> Result<Arn, CloudError> {
        let operation = "CreateVpcConnector";
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let groups = Some(security_groups.to_vec()).filter(|groups| !groups.is_empty());
        let call = self
            .0
            .create_vpc_connector()
            .vpc_connector_name(name)
            .set_subnets(Some(subnets.to_vec()))
            .set_security_groups(groups)
            .set_tags(Some(tags));
        let answer = self.1.write(SERVICE, operation, call.send()).await?;
        let connector = answer.vpc_connector.and_then(|connector| connector.vpc_connector_arn);
        connector.map(Arn).ok_or_else(|| super::missing(SERVICE, operation, "VpcConnectorArn"))
    }

    /// DeleteVpcConnector. `Conflict` while a service uses it, a paused one and one deleted minutes ago included.
    pub async fn delete_connector(&self, arn: &Arn) -> Result<(), CloudError> {
        let call = self.0.delete_vpc_connector().vpc_connector_arn(&arn.0);
        self.1.write(SERVICE, "DeleteVpcConnector", call.send()).await.map(|_| ())
    }
}
