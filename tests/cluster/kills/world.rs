//! The ground of one run: a namespace, a sandbox with what a person has made by hand in it, the two proxies, and an operator
//! that is started again whenever it was ended.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use control_plane::{ControlPlane, Process};
use kube::Client;
use serde_json::{Value, json};

use super::super::ground::{Ground, NAME, SERVICE};
use super::super::plane::{OBJECTS, ask, client};
use super::super::starter::{Network, admit, cache, connector, network, running, string};
use super::boundary::{Kill, Mask};
use super::proxy::{Count, Proxy, RUNTIME, To};

/// The store made by hand, as its vendor knows it.
pub(super) const OLD: &str = "sessions";
const TOKEN: &str = "word-of-the-old-store-0123456789";
/// Logged-in people.
const KEYS: usize = 20;
/// Somebody who logs in while no operator runs.
const LATE: &str = "sess:late";

/// What is in the VPC by hand.
pub(super) struct ByHand {
    pub(super) rule: String,
    pub(super) connector: String,
    /// What the service is told of its store.
    pub(super) url: String,
    host: String,
}

pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) network: Network,
    pub(super) by_hand: Option<ByHand>,
    pub(super) arn: String,
    pub(super) count: Arc<Count>,
    pub(super) has_late: bool,
    mask: Mask,
    client: Client,
    http: reqwest::Client,
    kubeconfig: PathBuf,
    clouds: Proxy,
    _api: Proxy,
    operator: Option<Process>,
}

impl World {
    /// With a service that has no store, or one on a store made by hand.
    pub(super) fn make(plane: &'static ControlPlane, with_store: bool) -> Self {
        let ground = Ground::on(plane, "kills");
        let network = network(&ground.sandbox);
        way_out(&ground, &network);
        let by_hand = with_store.then(|| ByHand::make(&ground, &network));
        let arn = ground.service(SERVICE, by_hand.as_ref().map(|made| made.url.as_str()));
        if let Some(made) = &by_hand {
            let input = json!({ "ServiceArn": arn, "NetworkConfiguration": { "EgressConfiguration": {
                "EgressType": "VPC", "VpcConnectorArn": made.connector,
            }}});
            ground.sandbox.call("apprunner", "UpdateService", &input);
            running(&ground.sandbox, &arn);
        }
        let mut words = vec![(ground.namespace.clone(), "NS")];
        words.extend(by_hand.iter().map(|made| (made.host.clone(), "HOST")));
        let mask = Mask::of(words);
        let count = Arc::new(Count::default());
        let clouds = Proxy::start(To::Clouds { url: ground.field("aws_endpoint_url") }, &count, &mask);
        let api = To::ApiServer { url: plane.url(), authority: plane.authority().to_owned() };
        let api = Proxy::start(api, &count, &mask);
        let direct = plane.service_account_kubeconfig(&ground.namespace, "sessionbackend").unwrap();
        let text = std::fs::read_to_string(&direct).unwrap();
        assert!(text.contains(&plane.url()), "{text}");
        let kubeconfig = ground.sandbox.dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, text.replace(&plane.url(), &format!("http://{}", api.at))).unwrap();
        let client = RUNTIME.block_on(client(plane));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let world = Self {
            ground,
            network,
            by_hand,
            arn,
            count,
            has_late: false,
            mask,
            client,
            http,
            kubeconfig,
            clouds,
            _api: api,
            operator: None,
        };
        if world.by_hand.is_some() {
            for key in 0..KEYS {
                world.asked(OLD, &["SET", &format!("sess:{key}"), &format!("person-{key}"), "EX", "7200"]);
            }
        }
        world
    }

    /// Starts the operator; one that was there has ended.
    pub(super) fn start(&mut self) {
        if let Some(mut former) = self.operator.take() {
            former.wait().unwrap();
        }
        let at = self.clouds.at;
        let vantage = format!("vpc:{}", self.network.vpc);
        let mut command = self.ground.sandbox.command(&["exec", "--from", &vantage, "--", "env"]);
        command.args([format!("AWS_ENDPOINT_URL=http://{at}"), format!("UPSTASH_API_URL=http://{at}/v2")]);
        command.args([env!("CARGO_BIN_EXE_sessionbackend"), "run", "--namespace", &self.ground.namespace]);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--identity", "operator-0"]);
        command.env("KUBECONFIG", &self.kubeconfig).env("SESSIONBACKEND_LOG", "sessionbackend=debug");
        let log = self.ground.sandbox.dir.path().join("operator-0.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let operator = Process::start(&command, &log).unwrap();
        self.count.victim(operator.pid());
        self.operator = Some(operator);
    }

    /// Whether it has ended, by itself or not.
    pub(super) fn has_ended(&mut self) -> bool {
        self.operator.as_mut().is_some_and(Process::has_ended)
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        self.operator = None;
    }

    /// Counts from here on with a new operator, which is ended at `aim`.
    pub(super) fn begin(&mut self, aim: Option<&Kill>) {
        self.count.begin(aim);
        self.start();
    }

    /// Somebody logs in on the old store, where nothing says yet that another one serves.
    pub(super) fn somebody_logs_in(&mut self) {
        let is_told = |seen: &super::boundary::Boundary| seen.call.verb == "UpdateService";
        if self.by_hand.is_some() && !self.count.seen().iter().any(is_told) {
            self.asked(OLD, &["SET", LATE, "late", "EX", "7200"]);
            self.has_late = true;
        }
    }

    /// The end of what the operator has said.
    pub(super) fn log(&self) -> String {
        let said = std::fs::read_to_string(self.ground.sandbox.dir.path().join("operator-0.log")).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The object as the API server has it; nothing where it is gone.
    pub(super) fn object(&self) -> Option<Value> {
        let path = format!("namespaces/{}/{OBJECTS}/{NAME}", self.ground.namespace);
        match RUNTIME.block_on(ask(&self.client, "GET", &path, &Value::Null)) {
            Ok(object) => Some(object),
            Err(status) if status.code == 404 => None,
            Err(status) => panic!("{status:?}"),
        }
    }

    /// One call of a cloud past the proxy.
    pub(super) fn call(&self, service: &str, operation: &str, input: &Value) -> Value {
        self.told("call", &json!({ "service": service, "operation": operation, "input": input }))
    }

    /// What a store answers its operator.
    pub(super) fn asked(&self, store: &str, command: &[&str]) -> String {
        string(&self.told("ask", &json!({ "store": store, "command": command })), "/reply")
    }

    fn told(&self, route: &str, body: &Value) -> Value {
        let url = format!("{}/_sandbox/{route}", self.ground.field("aws_endpoint_url"));
        RUNTIME.block_on(async {
            let answer = self.http.post(url).json(body).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert!(status.is_success(), "{body}: {text}");
            serde_json::from_str(&text).unwrap()
        })
    }

    pub(super) fn mask(&self, value: &Value) -> Value {
        self.mask.value(value)
    }

    /// The keys of a store with what they hold, the late one apart.
    pub(super) fn keys(&self, store: &str) -> Value {
        let listed = self.asked(store, &["KEYS", "*"]);
        let mut names: Vec<_> = listed.lines().map(|line| line.trim_matches('"').to_owned()).collect();
        names.retain(|name| !name.is_empty() && name != LATE);
        names.sort();
        let value = |name: &String| (name.clone(), json!(self.asked(store, &["GET", name])));
        Value::Object(names.iter().map(value).collect())
    }

    /// Whether who logged in while no operator ran is in the store.
    pub(super) fn has_who_came_late(&self, store: &str) -> bool {
        !self.has_late || self.asked(store, &["GET", LATE]).contains("late")
    }
}

impl ByHand {
    fn make(ground: &Ground, network: &Network) -> Self {
        let sandbox = &ground.sandbox;
        let rule = admit(sandbox, network);
        let host = cache(sandbox, network, TOKEN);
        let connector = connector(sandbox, network);
        Self { rule, connector, url: format!("rediss://:{TOKEN}@{host}:6379/0"), host }
    }
}

/// A NAT gateway, and the private subnets behind it.
fn way_out(ground: &Ground, network: &Network) {
    let ec2 = |operation: &str, input: Value| ground.sandbox.call("ec2", operation, &input);
    let subnet = json!({ "VpcId": network.vpc, "CidrBlock": "10.0.9.0/24", "AvailabilityZone": "us-east-1a" });
    let public = string(&ec2("CreateSubnet", subnet), "/Subnet/SubnetId");
    let address = string(&ec2("AllocateAddress", json!({ "Domain": "vpc" })), "/AllocationId");
    let nat = ec2("CreateNatGateway", json!({ "SubnetId": public, "AllocationId": address }));
    let nat = string(&nat, "/NatGateway/NatGatewayId");
    let table = string(&ec2("CreateRouteTable", json!({ "VpcId": network.vpc })), "/RouteTable/RouteTableId");
    ec2("CreateRoute", json!({ "RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": nat }));
    for subnet in &network.subnets {
        ec2("AssociateRouteTable", json!({ "RouteTableId": table, "SubnetId": subnet }));
    }
    let which = json!({ "NatGatewayIds": [nat] });
    ground.sandbox.call_until("ec2", "DescribeNatGateways", &which, |answer| {
        answer.pointer("/NatGateways/0/State").is_some_and(|state| state == "available")
    });
}
