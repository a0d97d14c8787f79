//! One test's namespace on the shared control plane and its own sandbox of the clouds, with what a user has made by hand.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use serde_json::{Value, json};

use super::plane::plane;
use super::starter::{Network, Sandbox, running, string};

/// For what must come; a small machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// The service of every test, and the object about it.
pub(crate) const SERVICE: &str = "web-app";
pub(crate) const NAME: &str = "web";
/// What the role of the manifests is bound to there.
const ITS_NAMESPACE: &str = "namespace: sessionbackend }";
pub(crate) const ROLES: [&str; 3] = [
    include_str!("../../manifests/role.yaml"),
    include_str!("../../manifests/role-binding.yaml"),
    include_str!("../../manifests/leader-election.yaml"),
];

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same for what takes its time.
pub(crate) fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "not in time: {what}; {instead}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where the sandbox's binary is: a setting, or beside this test as `cargo test --workspace` leaves it.
fn binary() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("sandbox"));
    let binary = std::env::var_os("SANDBOX_BIN").map(PathBuf::from).or_else(beside).unwrap();
    assert!(binary.exists(), "{} is missing: cargo build -p sandbox, or set SANDBOX_BIN", binary.display());
    binary
}

pub(crate) struct Ground {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) namespace: String,
    pub(crate) sandbox: Sandbox,
}

/// A database of Upstash, as its maker knows it.
pub(crate) struct Database {
    pub(crate) id: String,
    pub(crate) url: String,
}

impl Ground {
    /// A namespace with the permissions of `manifests/` in it, and a sandbox; nothing where there is no control plane.
    pub(crate) fn up(of: &str) -> Option<Self> {
        Some(Self::on(plane()?, of))
    }

    /// The same on another control plane.
    pub(crate) fn on(plane: &'static ControlPlane, of: &str) -> Self {
        let namespace = plane.namespace(of).unwrap();
        let app = format!("web=python3 {}/sandbox/tests/plane/app.py", env!("CARGO_MANIFEST_DIR"));
        let program = vec![binary().display().to_string()];
        let sandbox = Sandbox::start(tempfile::tempdir().unwrap(), program, &["--image", &app]);
        let ground = Self { plane, namespace, sandbox };
        ground.permit("sessionbackend");
        ground.apply(&ground.upstash_secret());
        ground
    }

    /// The key of the account, where the objects of these tests look for it.
    pub(crate) fn upstash_secret(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "upstash-api" },
            "stringData": { "email": self.field("upstash_email"), "apiKey": self.field("upstash_api_key") },
        })
    }

    /// What a store answers its operator.
    pub(crate) fn ask(&self, store: &str, command: &[&str]) -> String {
        self.sandbox.must(&[&["ask", store, "--"], command].concat())
    }

    /// Gives a service account what `manifests/` gives the controller.
    pub(crate) fn permit(&self, account: &str) {
        self.permit_in(&self.namespace, account, &self.namespace);
    }

    /// Gives it in one namespace to an account of another.
    pub(crate) fn permit_in(&self, namespace: &str, account: &str, of: &str) {
        let roles = ROLES.join("\n---\n");
        assert_eq!(roles.matches(ITS_NAMESPACE).count(), 2, "{roles}");
        let subject = format!("kind: ServiceAccount, name: {account}");
        let roles = roles.replace(ITS_NAMESPACE, &format!("namespace: {of} }}"));
        let roles = roles.replace("kind: ServiceAccount, name: sessionbackend", &subject);
        let binding = "kind: RoleBinding\nmetadata:\n  name: ";
        let roles = roles.replace(binding, &format!("{binding}{account}-"));
        self.plane.must_with(&format!("-n {namespace} apply -f -"), &roles).unwrap();
    }

    pub(crate) fn field(&self, name: &str) -> String {
        string(&self.sandbox.ground(), &format!("/{name}"))
    }

    /// `kubectl` in this namespace; it must succeed.
    pub(crate) fn kubectl(&self, line: &str) -> String {
        self.plane.must(&format!("-n {} {line}", self.namespace)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Applies what a person has written.
    pub(crate) fn apply(&self, object: &Value) {
        self.plane.must_with(&format!("-n {} apply -f -", self.namespace), &object.to_string()).unwrap();
    }

    pub(crate) fn annotate(&self, name: &str, annotation: &str, value: &str) {
        self.kubectl(&format!("annotate --overwrite sb {name} sessionbackend.dev/{annotation}={value}"));
    }

    /// The object as it is.
    pub(crate) fn object(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get sb {name} -o json"))).unwrap()
    }

    /// The object once it is so.
    pub(crate) fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            let object = self.object(name);
            if is(&object) { Ok(object) } else { Err(format!("{:#}", object["status"])) }
        })
    }

    /// The object once it is in a phase.
    pub(crate) fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |object| object["status"]["phase"] == phase)
    }

    /// The reasons and notes of the events about an object.
    pub(crate) fn events(&self, name: &str) -> Vec<(String, String)> {
        let all: Value = serde_json::from_str(&self.kubectl("get events.events.k8s.io -o json")).unwrap();
        let about =
            |event: &&Value| event["regarding"]["name"] == name && event["regarding"]["kind"] == "SessionBackend";
        let text = |event: &Value, member: &str| event[member].as_str().unwrap_or_default().to_owned();
        let all = all["items"].as_array().unwrap().iter().filter(about);
        all.map(|event| (text(event, "reason"), text(event, "note"))).collect()
    }

    /// The cloud calls so far that may have changed something, each as service and operation.
    pub(crate) fn changes(&self) -> Vec<String> {
        let log = self.sandbox.json(&["log", "-o", "json", "--mutating"]);
        let name = |call: &Value| format!("{} {}", string(call, "/service"), string(call, "/operation"));
        log.as_array().unwrap().iter().map(name).collect()
    }

    /// How often an operation that may change something was called.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.changes().iter().filter(|call| call.ends_with(&format!(" {operation}"))).count()
    }

    /// What was asked of the API server by a service account of this namespace, as verb and resource.
    pub(crate) fn asked(&self, account: &str) -> Vec<Value> {
        let user = format!("system:serviceaccount:{}:{account}", self.namespace);
        let events = self.plane.audit().unwrap().into_iter();
        events.filter(|event| event["user"]["username"] == user.as_str()).collect()
    }

    /// None of these words is in an object, an event, a log, a metric that was written down, or anything the API server was
    /// told but Secrets.
    pub(crate) fn keeps(&self, secrets: &[String]) {
        let mut places = vec![
            ("objects and events", self.kubectl("get sb,events,leases,configmaps -o yaml")),
            ("requests", self.plane.audit().unwrap().iter().map(Value::to_string).collect()),
        ];
        for file in std::fs::read_dir(self.sandbox.dir.path()).unwrap().flatten().map(|entry| entry.path()) {
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("operator-")) {
                places.push(("a log", std::fs::read_to_string(file).unwrap()));
            }
        }
        assert!(places.len() > 2, "an operator has run here");
        for (place, text) in places {
            let found = secrets.iter().find_map(|secret| text.find(secret.as_str()));
            let before = found.map(|at| text[..at].chars().rev().take(300).collect::<Vec<_>>());
            let before = before.map(|reversed| reversed.into_iter().rev().collect::<String>());
            assert_eq!(before, None, "{place} has a secret after this");
        }
    }

    /// The same of the passwords of all databases, and of the key of the account.
    pub(crate) fn keeps_its_secrets(&self) {
        let databases = self.sandbox.call("upstash", "ListDatabases", &json!({}));
        let password = |database: &Value| {
            let which = json!({ "id": database["database_id"] });
            string(&self.sandbox.call("upstash", "GetDatabase", &which), "/password")
        };
        let mut secrets: Vec<_> = databases.as_array().unwrap().iter().map(password).collect();
        assert!(secrets.iter().all(|secret| secret.len() >= 16));
        secrets.push(self.field("upstash_api_key"));
        self.keeps(&secrets);
    }

    /// A database somebody made in the console.
    pub(crate) fn database(&self, name: &str) -> Database {
        let input = json!({ "database_name": name, "platform": "aws", "primary_region": "us-east-1" });
        let made = self.sandbox.call("upstash", "CreateDatabase", &input);
        let of = |member: &str| string(&made, &format!("/{member}"));
        Database {
            id: of("database_id"),
            url: format!("rediss://default:{}@{}:{}/0", of("password"), of("endpoint"), made["port"]),
        }
    }

    /// A service that is told of a store, or of none; its ARN once it runs.
    pub(crate) fn service(&self, name: &str, url: Option<&str>) -> String {
        let variables = url.map_or_else(|| json!({ "OWN": "kept" }), |url| json!({ "OWN": "kept", "REDIS_URL": url }));
        self.service_with(name, &variables)
    }

    /// A service with these variables; its ARN once it runs.
    pub(crate) fn service_with(&self, name: &str, variables: &Value) -> String {
        let role = self.role();
        let input = json!({
            "ServiceName": name,
            "SourceConfiguration": {
                "AutoDeploymentsEnabled": false,
                "ImageRepository": {
                    "ImageIdentifier": "public.ecr.aws/example/web:latest", "ImageRepositoryType": "ECR_PUBLIC",
                    "ImageConfiguration": { "Port": "8080", "RuntimeEnvironmentVariables": variables },
                },
            },
            "InstanceConfiguration": { "InstanceRoleArn": role },
            "HealthCheckConfiguration": { "Protocol": "HTTP", "Path": "/", "Interval": 3, "Timeout": 2 },
        });
        let arn = string(&self.sandbox.call("apprunner", "CreateService", &input), "/Service/ServiceArn");
        running(&self.sandbox, &arn);
        arn
    }

    /// The instance role of the services, which may read our secrets.
    fn role(&self) -> String {
        let which = json!({ "RoleName": "web-instance" });
        let known = self.sandbox.run(&["call", "iam", "GetRole", &which.to_string()]);
        if known.status.success() {
            return string(&serde_json::from_slice(&known.stdout).unwrap(), "/Role/Arn");
        }
        let statement = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let trust = statement(json!({
            "Effect": "Allow", "Principal": { "Service": "tasks.apprunner.amazonaws.com" }, "Action": "sts:AssumeRole",
        }));
        let input = json!({ "RoleName": "web-instance", "AssumeRolePolicyDocument": trust });
        let role = string(&self.sandbox.call("iam", "CreateRole", &input), "/Role/Arn");
        let read = statement(json!({
            "Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
            "Resource": "arn:aws:secretsmanager:*:*:secret:sessionbackend/*",
        }));
        let input = json!({ "RoleName": "web-instance", "PolicyName": "read", "PolicyDocument": read });
        self.sandbox.call("iam", "PutRolePolicy", &input);
        role
    }

    /// Somebody else changes what the service is told; over when it runs again.
    pub(crate) fn tell(&self, arn: &str, change: impl FnOnce(&mut Value)) {
        let mut source = running(&self.sandbox, arn)["Service"]["SourceConfiguration"].clone();
        change(&mut source["ImageRepository"]["ImageConfiguration"]);
        self.update(arn, &json!({ "SourceConfiguration": source }));
    }

    /// Somebody else changes the service; over when it runs again.
    pub(crate) fn update(&self, arn: &str, differs: &Value) {
        let mut input = json!({ "ServiceArn": arn });
        super::merge(&mut input, differs);
        self.sandbox.call("apprunner", "UpdateService", &input);
        running(&self.sandbox, arn);
    }

    /// The names of the secrets in Secrets Manager that are not on their way out.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let listed = self.sandbox.call("secretsmanager", "ListSecrets", &json!({}));
        let names = listed["SecretList"].as_array().into_iter().flatten();
        names.map(|secret| string(secret, "/Name")).collect()
    }

    /// The variables the service is told, plain and by reference.
    pub(crate) fn variables(&self, arn: &str) -> Value {
        let service = running(&self.sandbox, arn);
        service["Service"]["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"].clone()
    }
}

/// Our object, with a store and what differs.
pub(crate) fn object(name: &str, store: &Value, differs: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "sessionbackend.dev/v1alpha1",
        "kind": "SessionBackend",
        "metadata": { "name": name },
        "spec": {
            "aws": { "region": "us-east-1" },
            "services": [{ "name": SERVICE }],
            "store": store,
            "env": { "format": "Url" },
            "app": { "longestRequest": "1s" },
            "checks": { "extra": [{ "name": "alive", "http": { "path": "/" } }] },
            "migration": { "bakeTime": "1s", "consent": { "dataLoss": true } },
        },
    });
    super::merge(&mut object["spec"], differs);
    object
}

/// A database of Upstash, made if absent.
pub(crate) fn created(name: &str) -> Value {
    json!({ "upstash": { "database": { "name": name, "primaryRegion": "us-east-1" }, "plan": "payg", "apiKeySecretRef": { "name": "upstash-api" } } })
}

/// A database of Upstash that is there.
pub(crate) fn adopted(database: &Database) -> Value {
    json!({ "upstash": { "database": { "id": database.id }, "apiKeySecretRef": { "name": "upstash-api" } } })
}

/// A replication group inside a VPC, made if absent.
pub(crate) fn in_vpc(network: &Network) -> Value {
    json!({ "elastiCache": {
        "create": {
            "nodeType": "cache.t4g.micro", "replicas": 0,
            "subnetIds": network.subnets, "securityGroupIds": [network.cache_group],
        },
        "securityGroupRules": "Managed",
    }})
}

/// The service through a connector of ours into that VPC.
pub(crate) fn through_vpc(network: &Network) -> Value {
    let create = json!({ "subnetIds": network.subnets, "securityGroupIds": [network.app_group] });
    json!({ "services": [{ "name": SERVICE, "egress": { "type": "VPC", "vpcConnector": { "create": create } } }] })
}
