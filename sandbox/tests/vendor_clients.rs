//! The vendors' own clients against a sandbox: botocore drives every operation, the AWS CLI one command a service.
//! They come pinned from PyPI; where they are not installed they go into a virtual environment in the cache.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const SANDBOX: &str = env!("CARGO_BIN_EXE_sandbox");
/// The release brings the botocore release the service descriptions were cut from.
const AWS_CLI: &str = "1.45.11";
const BOTOCORE: &str = "1.43.11";

/// A sandbox of its own; ended when dropped.
struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    fn up() -> Self {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        let app = format!("python3 {tests}/plane/app.py");
        let sandbox = Self { dir: tempfile::tempdir().unwrap() };
        let images = [
            format!("web={app}"),
            format!("https://github.com/example/web={app}"),
            "broken=sh -c 'exit 3'".to_owned(),
            "deaf=sleep 600".to_owned(),
        ];
        let mut command = sandbox.command();
        command.args(["up", "--speed", "300", "--overlap", "500ms", "--grace", "2s"]);
        for image in &images {
            command.args(["--image", image]);
        }
        must(&command.output().unwrap(), "sandbox up");
        sandbox
    }

    fn command(&self) -> Command {
        let mut command = Command::new(SANDBOX);
        command.env("SANDBOX_DIR", self.dir.path()).env("SANDBOX_BIN", SANDBOX).stdin(Stdio::null());
        command
    }

    fn exec(&self, words: &[&str]) -> Output {
        self.command().args(["exec", "--"]).args(words).output().unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.command().arg("down").output();
    }
}

fn must(output: &Output, what: &str) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{said}{complained}", output.status);
    said
}

/// Python and `aws` of the pinned releases.
struct Clients {
    python: PathBuf,
    aws: PathBuf,
}

impl Clients {
    /// What is installed, else a virtual environment made once.
    fn find() -> Self {
        let installed = Self { python: "python3".into(), aws: "aws".into() };
        if installed.fit() {
            return installed;
        }
        let home = cache().join(format!("aws-cli-{AWS_CLI}"));
        let pinned = Self { python: home.join("bin/python3"), aws: home.join("bin/aws") };
        if !pinned.fit() {
            eprintln!("installing awscli {AWS_CLI} from PyPI into {}", home.display());
            install(&home).unwrap_or_else(|problem| {
                panic!(
                    "the tests need Python 3 with awscli=={AWS_CLI} (botocore {BOTOCORE}): {problem}\n\
                     Install it by hand: python3 -m venv {0} && {0}/bin/pip install awscli=={AWS_CLI}",
                    home.display()
                )
            });
            assert!(pinned.fit(), "{} does not hold awscli {AWS_CLI}", home.display());
        }
        pinned
    }

    fn fit(&self) -> bool {
        let says = |program: &Path, arguments: &[&str], wanted: &str| {
            let output = Command::new(program).args(arguments).output();
            output.is_ok_and(|o| o.status.success() && String::from_utf8_lossy(&o.stdout).contains(wanted))
        };
        says(&self.python, &["-c", "import botocore; print(botocore.__version__)"], BOTOCORE)
            && says(&self.aws, &["--version"], &format!("aws-cli/{AWS_CLI} "))
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the cache is")]
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/tmp".to_owned())).join(".cache");
    std::env::var("XDG_CACHE_HOME").map_or_else(|_| home(), PathBuf::from).join("sessionbackend")
}

fn install(home: &Path) -> Result<(), String> {
    let run = |program: &Path, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).output().map_err(|e| format!("{}: {e}", program.display()))?;
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(complained) }
    };
    std::fs::create_dir_all(home).map_err(|e| format!("{}: {e}", home.display()))?;
    run(Path::new("python3"), &["-m", "venv", "--clear", &home.display().to_string()])?;
    run(&home.join("bin/pip"), &["install", "--quiet", &format!("awscli=={AWS_CLI}")])
}

#[test]
fn botocore_drives_every_operation() {
    let rooms = ["wire", "identity", "secrets", "network", "caches", "logs", "services", "databases", "faults"];
    drive(&[&["--every-operation"], &rooms[..]].concat());
}

#[test]
fn botocore_sees_failing_deployments() {
    drive(&["rollbacks"]);
}

fn drive(rooms: &[&str]) {
    let (clients, sandbox) = (Clients::find(), Sandbox::up());
    let drive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/drive.py");
    let python = clients.python.display().to_string();
    let output = sandbox.exec(&[&["env", "PYTHONDONTWRITEBYTECODE=1", &python, drive], rooms].concat());
    println!("{}", must(&output, "drive.py"));
    let log = std::fs::read_to_string(sandbox.dir.path().join("daemon.log")).unwrap();
    let mistakes: Vec<&str> = log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}

#[test]
fn the_aws_command_speaks_to_every_service() {
    let (clients, sandbox) = (Clients::find(), Sandbox::up());
    let aws = clients.aws.display().to_string();
    let run = |line: &str| -> Value {
        let words: Vec<&str> = std::iter::once(aws.as_str()).chain(line.split_whitespace()).collect();
        let said = must(&sandbox.exec(&words), line);
        serde_json::from_str(if said.trim().is_empty() { "null" } else { &said }).unwrap()
    };
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();

    assert_eq!(text(&run("sts get-caller-identity"), "/Account"), "123456789012");
    let vpc = text(&run("ec2 describe-vpcs --filters Name=is-default,Values=true"), "/Vpcs/0/VpcId");
    let group = run(&format!("ec2 create-security-group --group-name cli --description cli --vpc-id {vpc}"));
    let group = text(&group, "/GroupId");
    let rule = run(&format!(
        "ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 6379 --source-group {group}"
    ));
    assert_eq!(text(&rule, "/SecurityGroupRules/0/ReferencedGroupInfo/GroupId"), group);

    run("secretsmanager create-secret --name cli --secret-string one");
    assert_eq!(text(&run("secretsmanager get-secret-value --secret-id cli"), "/SecretString"), "one");

    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"tasks.apprunner.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    run(&format!("iam create-role --role-name cli --assume-role-policy-document {trust}"));
    let made = run("iam get-role --role-name cli");
    assert_eq!(text(&made, "/Role/AssumeRolePolicyDocument/Statement/0/Action"), "sts:AssumeRole");

    run("logs create-log-group --log-group-name /cli");
    assert_eq!(text(&run("logs describe-log-groups"), "/logGroups/0/logGroupName"), "/cli");

    run("elasticache create-serverless-cache --serverless-cache-name Cli --engine valkey");
    run("elasticache create-replication-group --replication-group-id cli --replication-group-description cli \
         --cache-node-type cache.t4g.micro");
    run("elasticache wait replication-group-available --replication-group-id cli");
    let groups = run("elasticache describe-replication-groups --replication-group-id cli");
    let host = text(&groups, "/ReplicationGroups/0/NodeGroups/0/PrimaryEndpoint/Address");
    assert!(host.ends_with(".cache.amazonaws.com"), "{host}");

    let source = r#"{"ImageRepository":{"ImageIdentifier":"public.ecr.aws/example/web:latest","ImageRepositoryType":"ECR_PUBLIC"}}"#;
    let made = run(&format!("apprunner create-service --service-name cli-service --source-configuration {source}"));
    let arn = text(&made, "/Service/ServiceArn");
    let listed = run(&format!("apprunner list-operations --service-arn {arn}"));
    assert_eq!(text(&listed, "/OperationSummaryList/0/Type"), "CREATE_SERVICE");

    let unknown = sandbox.exec(&[&aws, "apprunner", "list-connections"]);
    let complained = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success() && complained.contains("UnknownOperationException"), "{complained}");
}
