//! The world before the move, wired by hand as a user would have it: a VPC with NAT, ElastiCache with TLS and a token,
//! a rule and a connector made in the console, and a busy App Runner service with variables of its own.
//! Everything goes through the clouds' own operations.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{GROUP, IMAGE, INSTANCES, SERVICE, VARIABLE, World, configuration, left, text};
use crate::canary::{self, Canary};
use crate::sandbox::{Sandbox, SandboxError};

const PATIENCE: Duration = Duration::from_mins(3);

/// Plain variables of the user; with the references to two secrets, forty in all.
const OWN: usize = 38;

const DJANGO: &str = "jf#9!k2x7Q$w8e%r5t^y6u&i";
const STRIPE: &str = "sk_live_51N0tAReal=Key/+";

/// What may be shown and written nowhere: the stores' passwords, the key of the Upstash account, and what the user had set,
/// in plain or as a secret.
///
/// # Errors
/// The vendor's error.
pub async fn canaries(sandbox: &Sandbox, token: &str) -> Result<Vec<Canary>, SandboxError> {
    let (new, key) = (super::new_password(sandbox).await?, sandbox.upstash_account()?.1);
    let ours = [("the old store's token", token), ("the new store's password", &new), ("the API key", &key)];
    let own = own_variables();
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Ok(canary::canaries(ours.into_iter().chain([("DJANGO_SECRET_KEY", DJANGO), ("STRIPE_API_KEY", STRIPE)]).chain(own)))
}

/// What the user had already set, with what tends to break on the way: quotes, line ends, spaces, other scripts, length.
pub fn own_variables() -> BTreeMap<String, String> {
    let long = "0123456789abcdef".repeat(256);
    let own = [
        ("DJANGO_SETTINGS_MODULE", "liberty_social.settings"),
        ("ALLOWED_HOSTS", "*"),
        (
            "DATABASE_URL",
            "postgres://liberty:p%40ss@ep-cool-forest-123456.us-east-2.aws.neon.tech/liberty?sslmode=require",
        ),
        ("CORS_ALLOWED_ORIGINS", r#"["https://liberty.example","https://www.liberty.example"]"#),
        ("GREETING", "  Grüße, 世界 \u{1f54a}  "),
        (
            "JWT_PUBLIC_KEY",
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n",
        ),
        ("FEATURE_FLAGS", "a=1;b=$HOME;c=`date`;d=%7B%7D;e='x'\\n"),
        ("EMPTY_ON_PURPOSE", ""),
        ("SENTRY_DSN", "https://abc@o1.ingest.sentry.io/2"),
        ("redis_note", "the cache moved here in 2024"),
        ("SESSION_TTL", "7200"),
    ];
    let mut variables: BTreeMap<_, _> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    variables.insert("BLOCKLIST".to_owned(), long);
    // The rest is what a grown service has: many, each of its own.
    let more = (variables.len()..OWN).map(|number| (format!("FEATURE_{number}"), format!("on;share={number}%")));
    variables.extend(more.collect::<Vec<_>>());
    variables
}

/// Makes all of it and waits until the service runs.
///
/// # Errors
/// The first thing the clouds refuse.
pub async fn wire(sandbox: &Sandbox, token: &str) -> Result<World, SandboxError> {
    let network = network(sandbox).await?;
    let (store, role) = tokio::try_join!(store(sandbox, &network, token), role(sandbox))?;
    let connector = json!({
        "VpcConnectorName": "liberty-vpc", "Subnets": network.subnets, "SecurityGroups": [network.connector_group],
    });
    let connector = sandbox.call("apprunner", "CreateVpcConnector", connector).await?;
    let connector = text(&connector["VpcConnector"]["VpcConnectorArn"]);

    let url = format!("rediss://:{token}@{store}/0");
    let url = secret(sandbox, "liberty/redis-url", &url);
    let django = secret(sandbox, "liberty/django-secret-key", DJANGO);
    let stripe = secret(sandbox, "liberty/stripe-api-key", STRIPE);
    let (url, django, stripe) = tokio::try_join!(url, django, stripe)?;
    let secrets = json!({ VARIABLE: url, "DJANGO_SECRET_KEY": django, "STRIPE_API_KEY": stripe });
    let (service_arn, host) = service(sandbox, &secrets, &role, &connector).await?;
    let before = configuration(sandbox, &service_arn).await?;
    let (things, notify) = (left::things(sandbox).await?, left::notify(sandbox, GROUP).await);
    Ok(World { vpc: network.vpc, rule: network.rule, connector, service_arn, host, store, before, things, notify })
}

struct Network {
    vpc: String,
    subnets: Vec<String>,
    connector_group: String,
    store_group: String,
    rule: String,
}

async fn network(sandbox: &Sandbox) -> Result<Network, SandboxError> {
    let ec2 = async |operation: &str, input: Value| sandbox.call("ec2", operation, input).await;
    let vpc = text(&ec2("CreateVpc", json!({ "CidrBlock": "10.20.0.0/16" })).await?["Vpc"]["VpcId"]);
    let subnet = async |cidr: &str, zone: &str| {
        let input = json!({ "VpcId": vpc, "CidrBlock": cidr, "AvailabilityZone": zone });
        Ok::<_, SandboxError>(text(&ec2("CreateSubnet", input).await?["Subnet"]["SubnetId"]))
    };
    let public = subnet("10.20.0.0/24", "us-east-1a").await?;
    let subnets = vec![subnet("10.20.1.0/24", "us-east-1a").await?, subnet("10.20.2.0/24", "us-east-1b").await?];
    let address = text(&ec2("AllocateAddress", json!({ "Domain": "vpc" })).await?["AllocationId"]);
    let nat = ec2("CreateNatGateway", json!({ "SubnetId": public, "AllocationId": address })).await?;
    let nat = text(&nat["NatGateway"]["NatGatewayId"]);
    let table = text(&ec2("CreateRouteTable", json!({ "VpcId": vpc })).await?["RouteTable"]["RouteTableId"]);
    let route = json!({ "RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": nat });
    ec2("CreateRoute", route).await?;
    for subnet in &subnets {
        ec2("AssociateRouteTable", json!({ "RouteTableId": table, "SubnetId": subnet })).await?;
    }
    let group = async |name: &str, what: &str| {
        let input = json!({ "GroupName": name, "Description": what, "VpcId": vpc });
        Ok::<_, SandboxError>(text(&ec2("CreateSecurityGroup", input).await?["GroupId"]))
    };
    let connector_group = group("liberty-web-egress", "liberty-web on its way into the VPC").await?;
    let store_group = group("liberty-redis", "the session store").await?;
    let permission = json!({
        "GroupId": store_group,
        "IpPermissions": [{
            "IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379,
            "UserIdGroupPairs": [{ "GroupId": connector_group, "Description": "sessions of liberty-web" }],
        }],
    });
    let rules = ec2("AuthorizeSecurityGroupIngress", permission).await?;
    let rule = text(&rules["SecurityGroupRules"][0]["SecurityGroupRuleId"]);
    Ok(Network { vpc, subnets, connector_group, store_group, rule })
}

async fn store(sandbox: &Sandbox, network: &Network, token: &str) -> Result<String, SandboxError> {
    let subnets = json!({
        "CacheSubnetGroupName": GROUP, "CacheSubnetGroupDescription": "private", "SubnetIds": network.subnets,
    });
    sandbox.call("elasticache", "CreateCacheSubnetGroup", subnets).await?;
    let group = json!({
        "ReplicationGroupId": GROUP,
        "ReplicationGroupDescription": "sessions of liberty-web",
        "Engine": "redis",
        "EngineVersion": "7.0",
        "CacheNodeType": "cache.t4g.small",
        "NumCacheClusters": 2,
        "AutomaticFailoverEnabled": true,
        "CacheSubnetGroupName": GROUP,
        "SecurityGroupIds": [network.store_group],
        "TransitEncryptionEnabled": true,
        "AtRestEncryptionEnabled": true,
        "AuthToken": token,
    });
    sandbox.call("elasticache", "CreateReplicationGroup", group).await?;
    sandbox
        .wait("the replication group is not available", PATIENCE, async |sandbox| {
            let look = json!({ "ReplicationGroupId": GROUP });
            let groups = sandbox.call("elasticache", "DescribeReplicationGroups", look).await?;
            let group = &groups["ReplicationGroups"][0];
            let endpoint = &group["NodeGroups"][0]["PrimaryEndpoint"];
            let ready = group["Status"] == "available";
            Ok(ready.then(|| format!("{}:{}", text(&endpoint["Address"]), endpoint["Port"])))
        })
        .await
}

async fn role(sandbox: &Sandbox) -> Result<String, SandboxError> {
    let trust = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": "tasks.apprunner.amazonaws.com" },
        }],
    });
    let input = json!({ "RoleName": "liberty-web", "AssumeRolePolicyDocument": trust.to_string() });
    let role = sandbox.call("iam", "CreateRole", input).await?;
    let secrets = |names: &str| format!("arn:aws:secretsmanager:us-east-1:*:secret:{names}");
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": [secrets("liberty/*"), secrets("sessionbackend/*")],
        }],
    });
    let input = json!({ "RoleName": "liberty-web", "PolicyName": "secrets", "PolicyDocument": policy.to_string() });
    sandbox.call("iam", "PutRolePolicy", input).await?;
    Ok(text(&role["Role"]["Arn"]))
}

async fn secret(sandbox: &Sandbox, name: &str, value: &str) -> Result<String, SandboxError> {
    let answer = sandbox.call("secretsmanager", "CreateSecret", json!({ "Name": name, "SecretString": value })).await?;
    Ok(text(&answer["ARN"]))
}

async fn service(
    sandbox: &Sandbox,
    secrets: &Value,
    role: &str,
    connector: &str,
) -> Result<(String, String), SandboxError> {
    let scaling = json!({ "AutoScalingConfigurationName": "three", "MinSize": INSTANCES, "MaxSize": INSTANCES });
    let scaling = sandbox.call("apprunner", "CreateAutoScalingConfiguration", scaling).await?;
    let input = json!({
        "ServiceName": SERVICE,
        "SourceConfiguration": {
            "AutoDeploymentsEnabled": true,
            "AuthenticationConfiguration": { "AccessRoleArn": "arn:aws:iam::123456789012:role/apprunner-ecr" },
            "ImageRepository": {
                "ImageIdentifier": IMAGE,
                "ImageRepositoryType": "ECR",
                "ImageConfiguration": {
                    "Port": "8000",
                    "RuntimeEnvironmentVariables": own_variables(),
                    "RuntimeEnvironmentSecrets": secrets,
                },
            },
        },
        "InstanceConfiguration": { "Cpu": "1024", "Memory": "2048", "InstanceRoleArn": role },
        "AutoScalingConfigurationArn": scaling["AutoScalingConfiguration"]["AutoScalingConfigurationArn"],
        "HealthCheckConfiguration": { "Protocol": "HTTP", "Path": "/health", "Interval": 1, "Timeout": 2 },
        "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "VPC", "VpcConnectorArn": connector } },
    });
    let created = sandbox.call("apprunner", "CreateService", input).await?;
    let arn = text(&created["Service"]["ServiceArn"]);
    let host = sandbox
        .wait("the service does not run", PATIENCE, async |sandbox| {
            let answer = sandbox.call("apprunner", "DescribeService", json!({ "ServiceArn": arn })).await?;
            let service = &answer["Service"];
            if service["Status"] == "CREATE_FAILED" {
                let message = "CREATE_FAILED: look at the service's log groups".to_owned();
                return Err(SandboxError::Command { command: "call apprunner CreateService".to_owned(), message });
            }
            Ok((service["Status"] == "RUNNING").then(|| text(&service["ServiceUrl"])))
        })
        .await?;
    Ok((arn, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_the_user_are_many_and_awkward() {
        let own = own_variables();
        assert!(own.len() == OWN && own.values().any(|value| value.len() > 4000));
        assert!(own.values().any(|value| value.contains('\n')) && own.values().any(String::is_empty));
    }
}
