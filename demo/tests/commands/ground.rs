//! A sandbox of its own for one test, with the demo's service wired to ElastiCache by hand, and the real binary driven from
//! inside the VPC as a person would. Nobody clicks; one person is logged in.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use demo::manifest::{EXAMPLE, Ids, concrete};
use demo::sandbox::{Sandbox, Settings};
use demo::world::{self, Configuration, IMAGE, VARIABLE, World, wire};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// For what must come; a small machine may be busy.
const PATIENCE: Duration = Duration::from_mins(2);
/// What does not answer for so long hangs.
const HANGS: Duration = Duration::from_secs(3);

/// The binaries of the workspace are beside this test's own.
fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `make test`, or `cargo build --workspace --bins` first", path.display());
    path
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// It must have ended with `code`.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// It must have said `words`.
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(format!("{}{}", self.out, self.err).contains(words), "{words:?} in:\n{}\n{}", self.out, self.err);
        self
    }
}

/// A running `apply`.
pub(crate) struct Apply {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: String,
}

impl Apply {
    /// Reads on until a line holds `words`.
    pub(crate) async fn until(&mut self, words: &str) {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said += &(line + "\n");
                if self.said.lines().next_back().is_some_and(|line| line.contains(words)) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, reading).await;
        assert_eq!(found, Ok(true), "{words:?} in:\n{}", self.said);
    }

    /// Sends a signal to the process, as a terminal or an orchestrator does.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().unwrap();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Reads to the end.
    pub(crate) async fn end(mut self) -> Ran {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said += &(line + "\n");
            }
        };
        let ended = tokio::time::timeout(PATIENCE, reading).await;
        assert!(ended.is_ok(), "apply must end:\n{}", self.said);
        let output = self.child.wait_with_output().await.unwrap();
        Ran { code: output.status.code(), out: self.said, err: String::from_utf8(output.stderr).unwrap() }
    }
}

/// The sandbox, the service, the manifest.
pub(crate) struct Ground {
    pub(crate) sandbox: Sandbox,
    pub(crate) world: World,
    pub(crate) token: String,
    dir: tempfile::TempDir,
    pub(crate) manifest: PathBuf,
}

impl Ground {
    /// Starts a sandbox on a fast clock, wires the service, and writes the example with short waits and `changes`.
    pub(crate) async fn up(changes: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            binary: binary("sandbox"),
            dir: dir.path().join("sandbox"),
            speed: 600,
            overlap: Duration::from_secs(1),
            request_limit: Duration::from_secs(2),
            image: (IMAGE.to_owned(), binary("sessions-app").display().to_string()),
        };
        let sandbox = Sandbox::up(&settings).await.unwrap();
        let token = format!("{:032x}", rand::random::<u128>());
        let world = wire(&sandbox, &token).await.unwrap();
        let manifest = dir.path().join("service.yaml");
        let ground = Self { sandbox, world, token, dir, manifest };
        ground.declare(changes);
        ground
    }

    /// Writes the manifest anew.
    pub(crate) fn declare(&self, changes: &[(&str, &str)]) {
        let (email, api_key) = self.sandbox.upstash_account().unwrap();
        let ids = Ids { connector: &self.world.connector, rule: &self.world.rule, email: &email, api_key: &api_key };
        let mut text = concrete(EXAMPLE, ids).unwrap();
        for (from, to) in [("longestRequest: 5s", "longestRequest: 2s")].iter().chain(changes) {
            assert_eq!(text.matches(from).count(), 1, "{from:?} once in the example");
            text = text.replace(from, to);
        }
        if !changes.iter().any(|(from, _)| from.starts_with("bakeTime")) {
            text = text.replace("bakeTime: 20s", "bakeTime: 1s");
        }
        std::fs::write(&self.manifest, text).unwrap();
    }

    fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = self.sandbox.exec(&format!("vpc:{}", self.world.vpc), binary("sessionbackend"));
        command.args(words).arg("-f").arg(&self.manifest).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `sessionbackend` with the manifest.
    pub(crate) async fn run(&self, words: &[&str]) -> Ran {
        let output = tokio::time::timeout(PATIENCE, self.command(words).output()).await;
        let output = output.unwrap_or_else(|_| panic!("{words:?} must end")).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What `sessionbackend status -o json` says.
    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "-o", "json"]).await.exits(0).out).unwrap()
    }

    /// Starts `apply`.
    pub(crate) fn apply(&self) -> Apply {
        let mut child = self.command(&["apply"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Apply { child, lines, said: String::new() }
    }

    /// What the service is told.
    pub(crate) async fn configuration(&self) -> Configuration {
        world::configuration(&self.sandbox, &self.world.service_arn).await.unwrap()
    }

    /// Runs a command somewhere inside; nothing when it hangs.
    pub(crate) async fn inside(&self, from: &str, words: &[&str]) -> Option<String> {
        let mut command = self.sandbox.exec(from, words[0]);
        command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::time::timeout(HANGS, command.output()).await.ok()?.unwrap();
        Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// Asks the app over HTTPS, with a session.
    async fn ask(&self, method: &str, path: &str, session: &str) -> String {
        let (url, bearer) = (format!("https://{}{path}", self.world.host), format!("Authorization: Bearer {session}"));
        let json = ["-H", "Content-Type: application/json", "-d", r#"{"user":"night-shift"}"#];
        let mut words = vec!["curl", "-sS", "-m", "20", "-X", method, "-H", &bearer, &url];
        words.extend(if method == "POST" { &json[..] } else { &[] });
        self.inside("internet", &words).await.unwrap_or_default()
    }

    /// Logs somebody in.
    pub(crate) async fn log_in(&self) -> String {
        let said = self.ask("POST", "/login", "").await;
        let answer: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        answer["session"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    /// Whether somebody is still logged in.
    pub(crate) async fn knows(&self, session: &str) -> bool {
        self.ask("GET", "/whoami", session).await.contains("night-shift")
    }

    /// Asks until it holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(Instant::now() < deadline, "{what}; {}", self.dir.path().display());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Ground {
    async fn call(&self, service: &str, operation: &str, input: Value) -> Value {
        self.sandbox.call(service, operation, input).await.unwrap()
    }

    async fn running(&self, arn: &str) {
        self.until("the service runs", async |ground| {
            let answer = ground.call("apprunner", "DescribeService", json!({ "ServiceArn": arn })).await;
            answer["Service"]["Status"] == "RUNNING"
        })
        .await;
    }

    /// Another hand gives the service another store, and leaves the rest as it is.
    pub(crate) async fn point_elsewhere(&self) {
        let arn = json!({ "ServiceArn": self.world.service_arn });
        let mut source =
            self.call("apprunner", "DescribeService", arn.clone()).await["Service"]["SourceConfiguration"].take();
        let image = &mut source["ImageRepository"]["ImageConfiguration"];
        image["RuntimeEnvironmentSecrets"][VARIABLE] = json!(self.world.before.store_variable());
        let update = json!({ "ServiceArn": self.world.service_arn, "SourceConfiguration": source });
        self.call("apprunner", "UpdateService", update).await;
        self.running(&self.world.service_arn).await;
    }

    /// A service without a connector.
    pub(crate) async fn second_service(&self, name: &str) {
        let image = json!({ "ImageIdentifier": IMAGE, "ImageRepositoryType": "ECR", "ImageConfiguration": {
            "Port": "8000", "RuntimeEnvironmentVariables": { VARIABLE: "redis://127.0.0.1:1/0" },
        } });
        let role = "arn:aws:iam::123456789012:role/apprunner-ecr";
        let input = json!({ "ServiceName": name, "SourceConfiguration": {
            "AutoDeploymentsEnabled": false, "AuthenticationConfiguration": { "AccessRoleArn": role },
            "ImageRepository": image,
        } });
        let created = self.call("apprunner", "CreateService", input).await;
        self.running(created["Service"]["ServiceArn"].as_str().unwrap()).await;
    }

    /// `redis-cli` for a new Upstash database.
    pub(crate) async fn database(&self) -> Vec<String> {
        let input = json!({ "database_name": "other", "platform": "aws", "primary_region": "us-east-1" });
        let made = self.call("upstash", "CreateDatabase", input).await;
        redis_cli(made["endpoint"].as_str().unwrap(), made["password"].as_str().unwrap())
    }

    /// What it says from there; nothing when it hangs.
    pub(crate) async fn ping(&self, from: &str, cli: &[String]) -> Option<String> {
        self.inside(from, &cli.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Takes the VPC's way out.
    pub(crate) async fn remove_nat(&self) {
        let tables = self.call("ec2", "DescribeRouteTables", json!({})).await;
        for table in tables["RouteTables"].as_array().unwrap() {
            let out = table["Routes"].as_array().unwrap().iter().any(|route| route["NatGatewayId"].is_string());
            if out {
                let route = json!({ "RouteTableId": table["RouteTableId"], "DestinationCidrBlock": "0.0.0.0/0" });
                self.call("ec2", "DeleteRoute", route).await;
            }
        }
    }

    /// Takes the rule that lets the service reach its store.
    pub(crate) async fn remove_rule(&self) {
        let filter = json!({ "SecurityGroupRuleIds": [self.world.rule] });
        let rules = self.call("ec2", "DescribeSecurityGroupRules", filter).await;
        let group = rules["SecurityGroupRules"][0]["GroupId"].clone();
        let revoke = json!({ "GroupId": group, "SecurityGroupRuleIds": [self.world.rule] });
        self.call("ec2", "RevokeSecurityGroupIngress", revoke).await;
    }
}

/// `redis-cli` for a store.
pub(crate) fn redis_cli(store: &str, password: &str) -> Vec<String> {
    let host = store.split(':').next().unwrap();
    ["redis-cli", "-h", host, "--tls", "-a", password, "--no-auth-warning", "PING"].map(str::to_owned).into()
}
