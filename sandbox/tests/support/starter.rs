//! A sandbox of its own for one test, used as a person would: by its command line. Shared by the sandbox's own tests and by
//! those that meet the clouds through it; what only one of them asks is beside that one.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);

/// Ended when dropped.
pub(crate) struct Sandbox {
    pub(crate) dir: tempfile::TempDir,
    /// The command line before its arguments.
    pub(crate) program: Vec<String>,
}

impl Sandbox {
    /// Starts one on a fast clock.
    pub(crate) fn start(dir: tempfile::TempDir, program: Vec<String>, options: &[&str]) -> Self {
        let sandbox = Self { dir, program };
        sandbox.must(&[&["up", "--speed", "500", "--overlap", "300ms", "--grace", "2s"], options].concat());
        sandbox
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(words).env("SANDBOX_DIR", self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command prints; it must succeed.
    pub(crate) fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{words:?}: {said}{complained}\n{}", self.daemon_log());
        said
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.must(words)).unwrap()
    }

    /// One call as the vendor names it.
    pub(crate) fn call(&self, service: &str, operation: &str, input: &Value) -> Value {
        self.json(&["call", service, operation, &input.to_string()])
    }

    /// Asks again until the answer satisfies.
    pub(crate) fn call_until(
        &self,
        service: &str,
        operation: &str,
        input: &Value,
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(service, operation, input);
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{operation} stays at {answer:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it is and how it is met, as it writes it down.
    pub(crate) fn ground(&self) -> Value {
        let ground = std::fs::read(self.dir.path().join("sandbox.json")).unwrap();
        serde_json::from_slice(&ground).unwrap()
    }

    fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn string(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value:#}")).to_owned()
}

/// A VPC with two subnets and two groups, without a rule between them.
pub(crate) struct Network {
    pub(crate) vpc: String,
    pub(crate) subnets: Vec<String>,
    pub(crate) app_group: String,
    pub(crate) cache_group: String,
}

pub(crate) fn network(sandbox: &Sandbox) -> Network {
    let vpc = string(&sandbox.call("ec2", "CreateVpc", &json!({ "CidrBlock": "10.0.0.0/16" })), "/Vpc/VpcId");
    let subnet = |block: &str, zone: &str| {
        let input = json!({ "VpcId": vpc, "CidrBlock": block, "AvailabilityZone": zone });
        string(&sandbox.call("ec2", "CreateSubnet", &input), "/Subnet/SubnetId")
    };
    let subnets = vec![subnet("10.0.1.0/24", "us-east-1a"), subnet("10.0.2.0/24", "us-east-1b")];
    let group = |name: &str| {
        let input = json!({ "GroupName": name, "Description": name, "VpcId": vpc });
        string(&sandbox.call("ec2", "CreateSecurityGroup", &input), "/GroupId")
    };
    let (app_group, cache_group) = (group("app"), group("cache"));
    Network { vpc, subnets, app_group, cache_group }
}

/// The id of a rule that admits the app's group to the cache's.
pub(crate) fn admit(sandbox: &Sandbox, network: &Network) -> String {
    let rule = json!({ "GroupId": network.cache_group, "IpPermissions": [{
        "IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379, "UserIdGroupPairs": [{ "GroupId": network.app_group }],
    }]});
    let rule = sandbox.call("ec2", "AuthorizeSecurityGroupIngress", &rule);
    string(&rule, "/SecurityGroupRules/0/SecurityGroupRuleId")
}

/// The host of a replication group with TLS and a token, once it is available.
pub(crate) fn cache(sandbox: &Sandbox, network: &Network, token: &str) -> String {
    let subnets = json!({
        "CacheSubnetGroupName": "cache", "CacheSubnetGroupDescription": "cache", "SubnetIds": network.subnets,
    });
    sandbox.call("elasticache", "CreateCacheSubnetGroup", &subnets);
    let group = json!({
        "ReplicationGroupId": "sessions", "ReplicationGroupDescription": "sessions", "Engine": "redis",
        "CacheNodeType": "cache.t4g.micro", "NumCacheClusters": 1, "CacheSubnetGroupName": "cache",
        "SecurityGroupIds": [network.cache_group], "TransitEncryptionEnabled": true, "AuthToken": token,
    });
    sandbox.call("elasticache", "CreateReplicationGroup", &group);
    let which = json!({ "ReplicationGroupId": "sessions" });
    let described = sandbox.call_until("elasticache", "DescribeReplicationGroups", &which, |answer| {
        answer.pointer("/ReplicationGroups/0/Status").is_some_and(|status| status == "available")
    });
    string(&described, "/ReplicationGroups/0/NodeGroups/0/PrimaryEndpoint/Address")
}

/// The ARN of a connector of the app's group.
pub(crate) fn connector(sandbox: &Sandbox, network: &Network) -> String {
    let input = json!({
        "VpcConnectorName": "sessions", "Subnets": network.subnets, "SecurityGroups": [network.app_group],
    });
    string(&sandbox.call("apprunner", "CreateVpcConnector", &input), "/VpcConnector/VpcConnectorArn")
}

/// The answer about a service once it runs.
pub(crate) fn running(sandbox: &Sandbox, arn: &str) -> Value {
    sandbox.call_until("apprunner", "DescribeService", &json!({ "ServiceArn": arn }), |answer| {
        answer.pointer("/Service/Status").is_some_and(|status| status == "RUNNING")
    })
}
