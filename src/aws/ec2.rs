//! EC2: the networks connectors and stores are in, and the rules between them. Answers are the SDK's own types.
//! Rules are written one at a time: a batch with one duplicate fails as a whole.

use aws_config::SdkConfig;
use aws_sdk_ec2::types::{
    Filter, IpPermission, NatGateway, ResourceType, RouteTable, SecurityGroup, SecurityGroupRule, Subnet, Tag,
    TagSpecification, UserIdGroupPair, VpcEndpoint,
};

use super::Deadlines;
use crate::error::CloudError;
use crate::identity::{GroupId, RuleId};

/// The service's name in errors.
pub const SERVICE: &str = "EC2";
/// Values a filter takes.
const FILTER_VALUES: usize = 200;

/// The client.
#[derive(Clone, Debug)]
pub struct Ec2(aws_sdk_ec2::Client, Deadlines);

fn filter(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

/// Reads every page of one list, filtered by up to [`FILTER_VALUES`] values at a time.
macro_rules! pages {
    ($self:ident, $operation:literal, $call:ident, $field:ident, $filters:expr, $values:expr) => {{
        let mut all = Vec::new();
        for values in $values.chunks(FILTER_VALUES) {
            let mut token: Option<String> = None;
            for _ in 0..super::PAGES {
                let answer = $self
                    .1
                    .read(SERVICE, $operation, || {
                        $self.0.$call().set_filters(Some($filters(values))).set_next_token(token.clone()).send()
                    })
                    .await?;
                all.extend(answer.$field.unwrap_or_default());
                token = answer.next_token.filter(|token| !token.is_empty());
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(all)
    }};
}

impl Ec2 {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_ec2::Client::new(config), deadlines)
    }

    /// DescribeSubnets by id. By filter: one unknown id must not hide the others.
    pub async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, CloudError> {
        pages!(self, "DescribeSubnets", describe_subnets, subnets, |ids| vec![filter("subnet-id", ids)], ids)
    }

    /// DescribeRouteTables of VPCs.
    pub async fn route_tables(&self, vpcs: &[String]) -> Result<Vec<RouteTable>, CloudError> {
        pages!(
            self,
            "DescribeRouteTables",
            describe_route_tables,
            route_tables,
            |vpcs| vec![filter("vpc-id", vpcs)],
            vpcs
        )
    }

    /// DescribeVpcEndpoints of VPCs.
    pub async fn endpoints(&self, vpcs: &[String]) -> Result<Vec<VpcEndpoint>, CloudError> {
        pages!(
            self,
            "DescribeVpcEndpoints",
            describe_vpc_endpoints,
            vpc_endpoints,
            |vpcs| vec![filter("vpc-id", vpcs)],
            vpcs
        )
    }

    /// DescribeNatGateways of VPCs.
    pub async fn nat_gateways(&self, vpcs: &[String]) -> Result<Vec<NatGateway>, CloudError> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "DescribeNatGateways", || {
                    self.0.describe_nat_gateways().filter(filter("vpc-id", vpcs)).set_next_token(token.clone()).send()
                })
                .await?;
            all.extend(answer.nat_gateways.unwrap_or_default());
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// DescribeSecurityGroups whose ingress names one of `groups` as a source.
    pub async fn admitting(&self, groups: &[String]) -> Result<Vec<SecurityGroup>, CloudError> {
        pages!(
            self,
            "DescribeSecurityGroups",
            describe_security_groups,
            security_groups,
            |groups| vec![filter("ip-permission.group-id", groups)],
            groups
        )
    }

    /// DescribeSecurityGroupRules of groups, both directions.
    pub async fn rules_of(&self, groups: &[String]) -> Result<Vec<SecurityGroupRule>, CloudError> {
        pages!(
            self,
            "DescribeSecurityGroupRules",
            describe_security_group_rules,
            security_group_rules,
            |groups| vec![filter("group-id", groups)],
            groups
        )
    }

    /// DescribeSecurityGroupRules by id. By filter: one unknown id must not hide the others.
    pub async fn rules(&self, ids: &[String]) -> Result<Vec<SecurityGroupRule>, CloudError> {
        pages!(
            self,
            "DescribeSecurityGroupRules",
            describe_security_group_rules,
            security_group_rules,
            |ids| vec![filter("security-group-rule-id", ids)],
            ids
        )
    }

    /// AuthorizeSecurityGroupIngress: TCP `port` of `group` from `source`. The new rule's id, where it is told.
    pub async fn authorize(
        &self,
        group: &GroupId,
        source: &GroupId,
        port: u16,
        description: &str,
        tags: &[(String, String)],
    ) -> Result<Option<RuleId>, CloudError> {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tags =
            TagSpecification::builder().resource_type(ResourceType::SecurityGroupRule).set_tags(Some(tags)).build();
        let pair = UserIdGroupPair::builder().group_id(&source.0).description(description).build();
        let permission = IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(i32::from(port))
            .to_port(i32::from(port))
            .user_id_group_pairs(pair)
            .build();
        let call = self
            .0
            .authorize_security_group_ingress()
            .group_id(&group.0)
            .ip_permissions(permission)
            .tag_specifications(tags);
        let answer = self.1.write(SERVICE, "AuthorizeSecurityGroupIngress", call.send()).await?;
        let rule = answer.security_group_rules.unwrap_or_default().into_iter().next();
        Ok(rule.and_then(|rule| rule.security_group_rule_id).map(RuleId))
    }

    /// RevokeSecurityGroupIngress by rule id.
    pub async fn revoke(&self, group: &GroupId, rule: &RuleId) -> Result<(), CloudError> {
        let call = self.0.revoke_security_group_ingress().group_id(&group.0).security_group_rule_ids(&rule.0);
        self.1.write(SERVICE, "RevokeSecurityGroupIngress", call.send()).await.map(|_| ())
    }
}
