//! What `manifests/` grants is what the code calls, no more and no less; what it deploys keeps to the restricted standard.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::{Value, json};
use sessionbackend::identity::{Epoch, Fingerprint, Owner};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The same, with those of the rooms inside.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let inside = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    files(&directory.to_string_lossy()).into_iter().flat_map(inside).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Code without its tests and without spaces: how it is laid out does not matter.
fn code(path: &Path) -> String {
    let text = read_to_string(path).unwrap();
    let code: Vec<_> = text.split("#[cfg(test)]").next().unwrap().lines().map(str::trim).collect();
    code.iter().filter(|line| !line.starts_with("//")).flat_map(|line| line.split(' ')).collect()
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())]
}

/// What follows each `mark` in `code`, as a word.
fn after<'a>(code: &'a str, mark: &str) -> BTreeSet<&'a str> {
    code.split(mark).skip(1).map(word).filter(|word| !word.is_empty()).collect()
}

fn documents(path: &str) -> Vec<Value> {
    let text = text(path);
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// The one document of a file.
fn document(path: &str) -> Value {
    let mut documents = documents(path);
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

fn strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(one) => BTreeSet::from([one.clone()]),
        Value::Array(many) => many.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        Value::Null => BTreeSet::new(),
        other => panic!("{other}"),
    }
}

fn owner() -> Owner {
    Owner {
        installation: "i".into(),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        namespace: "n".into(),
        name: "o".into(),
    }
}

// What AWS is asked for.

/// The prefix of a service's actions, by the file that calls it.
const PREFIXES: [(&str, &str); 7] = [
    ("apprunner.rs", "apprunner"),
    ("ec2.rs", "ec2"),
    ("elasticache.rs", "elasticache"),
    ("iam.rs", "iam"),
    ("logs.rs", "logs"),
    ("secretsmanager.rs", "secretsmanager"),
    ("sts.rs", "sts"),
];

/// Actions that no call names, and the call that needs them.
const IMPLIED: [(&str, &str); 9] = [
    // A source in ECR names the role that pulls it.
    ("iam:PassRole", "apprunner:UpdateService"),
    ("iam:CreateServiceLinkedRole", "apprunner:CreateVpcConnector"),
    // Tags that are given at creation need the right to tag.
    ("ec2:CreateTags", "ec2:AuthorizeSecurityGroupIngress"),
    ("elasticache:AddTagsToResource", "elasticache:CreateReplicationGroup"),
    ("secretsmanager:TagResource", "secretsmanager:CreateSecret"),
    // Dependent actions of the service authorization reference.
    ("ec2:CreateNetworkInterface", "elasticache:CreateReplicationGroup"),
    ("ec2:DeleteNetworkInterface", "elasticache:DeleteReplicationGroup"),
    ("ec2:DescribeNetworkInterfaces", "elasticache:CreateReplicationGroup"),
    ("ec2:DescribeVpcs", "elasticache:CreateReplicationGroup"),
];

/// Actions that AWS does not narrow to resources.
const WIDE: [&str; 12] = [
    "apprunner:ListServices",
    "apprunner:ListVpcConnectors",
    "ec2:DescribeNatGateways",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",
    "secretsmanager:ListSecrets",
    "sts:GetCallerIdentity",
];

/// Operations by the name that is given to errors and metrics, and by the SDK's method.
fn operations(code: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let marks = ["read(SERVICE,\"", "write(SERVICE,\"", "letoperation=\"", "pages!(self,\""];
    let named: BTreeSet<String> = marks.iter().flat_map(|mark| after(code, mark)).map(str::to_owned).collect();
    let paged = code.split("pages!(self,\"").skip(1).filter_map(|call| Some(word(call.split_once("\",")?.1)));
    let called =
        code.split("self.0.").skip(1).map(word).filter(|method| !method.is_empty() && *method != "config").chain(paged);
    (named, called.map(camel).collect())
}

fn camel(snake: &str) -> String {
    let capital = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
    snake.split('_').map(capital).collect()
}

fn called() -> BTreeSet<String> {
    let prefixes = BTreeMap::from(PREFIXES);
    let mut all = BTreeSet::new();
    for path in files("src/aws").into_iter().filter(|path| path.is_file()) {
        let (named, methods) = operations(&code(&path));
        assert_eq!(named, methods, "{}: a call goes by another name than its own", path.display());
        let prefix = prefixes.get(&*name(&path));
        assert!(named.is_empty() || prefix.is_some(), "{} calls a new service", path.display());
        all.extend(named.iter().filter_map(|operation| Some(format!("{}:{operation}", prefix?))));
    }
    all
}

struct Statement {
    sid: String,
    actions: BTreeSet<String>,
    resources: BTreeSet<String>,
    condition: Value,
}

fn policy() -> Vec<Statement> {
    let policy: Value = serde_json::from_str(&text("manifests/iam-policy.json")).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    let statements = policy["Statement"].as_array().unwrap().iter().map(|statement| {
        assert_eq!(statement["Effect"], "Allow");
        Statement {
            sid: statement["Sid"].as_str().unwrap().to_owned(),
            actions: strings(&statement["Action"]),
            resources: strings(&statement["Resource"]),
            condition: statement["Condition"].clone(),
        }
    });
    statements.collect()
}

/// The statements that allow `action`.
fn allowing(action: &str) -> Vec<Statement> {
    policy().into_iter().filter(|statement| statement.actions.contains(action)).collect()
}

#[test]
fn the_iam_policy_allows_exactly_what_is_called() {
    let called = called();
    assert!(called.len() > 30, "{called:?}");
    for (action, call) in IMPLIED {
        assert!(called.contains(call), "{action} is there for {call}, which nobody calls");
        assert!(!called.contains(action), "{action} is called by its name");
    }
    let needed: BTreeSet<_> = called.into_iter().chain(IMPLIED.map(|(action, _)| action.to_owned())).collect();
    let allowed: BTreeSet<_> = policy().into_iter().flat_map(|statement| statement.actions).collect();
    let missing: Vec<_> = needed.difference(&allowed).collect();
    let unused: Vec<_> = allowed.difference(&needed).collect();
    assert!(missing.is_empty() && unused.is_empty(), "missing {missing:?}, not called {unused:?}");
}

#[test]
fn the_iam_policy_is_as_narrow_as_aws_lets_it_be() {
    for Statement { sid, actions, resources, .. } in policy() {
        assert!(actions.iter().all(|action| !action.contains('*')), "{sid}");
        if resources.contains("*") {
            let narrowable: Vec<_> = actions.iter().filter(|action| !WIDE.contains(&action.as_str())).collect();
            assert!(narrowable.is_empty(), "{sid}: {narrowable:?}");
        } else {
            // Each action meets a resource of a service it can be about.
            for resource in &resources {
                let service = resource.split(':').nth(2).unwrap();
                assert!(actions.iter().any(|action| action.starts_with(service)), "{sid}: {resource}");
            }
        }
    }
    for action in WIDE {
        assert!(
            allowing(action).iter().all(|statement| statement.resources.contains("*")),
            "{action} cannot be narrowed"
        );
    }
}

#[test]
fn secrets_are_written_only_under_our_own_names() {
    let owner = owner();
    let prefix = "arn:aws:secretsmanager:*:*:secret:";
    let epoch = owner.epoch_secret(Epoch(1), &Fingerprint("f".into()), "V");
    for name in [owner.journal_secret(), epoch, Owner::claims_secret("s")] {
        assert!(name.0.starts_with("sessionbackend/"), "{name}");
    }
    for statement in policy() {
        let writes = |action: &&String| {
            action.starts_with("secretsmanager:") && !action.contains(":Get") && !action.contains(":List")
        };
        if statement.actions.iter().any(|action| writes(&action)) {
            assert_eq!(statement.resources, BTreeSet::from([format!("{prefix}sessionbackend/*")]), "{}", statement.sid);
        }
    }
    // A secret of somebody else is read when its tag says that it may be.
    for statement in allowing("secretsmanager:GetSecretValue") {
        let readable = statement.condition["StringEquals"]["aws:ResourceTag/sessionbackend.dev/readable"] == "true";
        assert!(readable || statement.resources.iter().all(|resource| resource.contains("secret:sessionbackend/")));
    }
}

#[test]
fn what_is_made_in_the_clouds_has_a_name_or_a_tag_of_ours() {
    let owner = owner();
    assert!(owner.short_name("cache").starts_with("sb-"));
    for (action, kind) in [
        ("apprunner:CreateVpcConnector", "vpcconnector/"),
        ("elasticache:CreateCacheSubnetGroup", "subnetgroup:"),
        ("elasticache:CreateReplicationGroup", "replicationgroup:"),
    ] {
        for Statement { sid, resources, .. } in allowing(action) {
            assert!(resources.iter().any(|resource| resource.contains(&format!("{kind}sb-*"))), "{sid}");
            assert!(resources.iter().all(|resource| !resource.contains(&format!("{kind}*"))), "{sid}");
        }
    }
    let [(owner_tag, _), _] = owner.tags();
    let rules = allowing("ec2:AuthorizeSecurityGroupIngress")
        .into_iter()
        .filter(|statement| statement.resources.iter().any(|resource| resource.contains("security-group-rule/")));
    for rule in rules {
        assert_eq!(rule.condition["Null"][format!("aws:RequestTag/{owner_tag}")], "false");
    }
    for action in ["apprunner:TagResource", "apprunner:UntagResource"] {
        for Statement { sid, resources, condition, .. } in allowing(action) {
            let ours = resources.iter().all(|resource| resource.contains("/sb-*/"));
            let shown = condition["ForAllValues:StringLike"]["aws:TagKeys"] == "sessionbackend.dev/*";
            assert!(ours || shown, "{sid} tags services freely");
        }
    }
}

#[test]
fn the_iam_policy_fits_into_a_managed_policy() {
    let size = text("manifests/iam-policy.json").chars().filter(|c| !c.is_whitespace()).count();
    assert!(size <= 6144, "{size} characters");
}

// What the API server is asked for.

/// What the controller may do: verb, API group, resource, and the call as the code names it, where it is not kube's own.
const CALLS: [(&str, &str, &str, &str); 9] = [
    // The watcher of kube.
    ("list", "sessionbackend.dev", "sessionbackends", ""),
    ("watch", "sessionbackend.dev", "sessionbackends", ""),
    ("patch", "sessionbackend.dev", "sessionbackends", "patch sessionbackend"),
    ("patch", "sessionbackend.dev", "sessionbackends/status", "patch sessionbackend status"),
    ("get", "", "secrets", "get secret"),
    ("create", "events.k8s.io", "events", "create event"),
    ("get", "coordination.k8s.io", "leases", "get lease"),
    ("create", "coordination.k8s.io", "leases", "create lease"),
    ("update", "coordination.k8s.io", "leases", "replace lease"),
];

fn manifests() -> Vec<Value> {
    let all = files("manifests").into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    all.flat_map(|path| documents(&format!("manifests/{}", name(&path)))).collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    manifests().into_iter().filter(|document| document["kind"] == kind).collect()
}

fn rules() -> Vec<Value> {
    of_kind("Role").into_iter().flat_map(|role| role["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn the_roles_allow_exactly_what_the_controller_calls() {
    assert!(of_kind("ClusterRole").is_empty() && of_kind("ClusterRoleBinding").is_empty());
    assert!((1..=8).contains(&rules().len()), "{} rules", rules().len());
    let mut allowed = BTreeSet::new();
    for rule in rules() {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    assert!(allowed.insert((verb, group.clone(), resource.clone())), "granted twice: {rule}");
                }
            }
        }
    }
    let called = CALLS.map(|(verb, group, resource, _)| (verb.to_owned(), group.to_owned(), resource.to_owned()));
    assert_eq!(allowed, BTreeSet::from(called));
}

#[test]
fn the_table_of_calls_is_what_the_controller_calls() {
    let mut found = BTreeSet::new();
    for path in sources(Path::new("src/controller")) {
        let code = code(&path);
        let constant = code.split("constRESOURCE:&str=\"").nth(1).map_or("", word);
        for call in code.split("call(\"").skip(1) {
            let (verb, rest) = call.split_once("\",").unwrap();
            found.insert(format!("{verb}{}", rest.strip_prefix('"').map_or(constant, word)));
        }
    }
    let table = CALLS.iter().map(|(_, _, _, call)| call.replace(' ', "")).filter(|call| !call.is_empty());
    assert_eq!(found, table.collect());
}

#[test]
fn no_lease_of_another_name_can_be_touched() {
    assert!(code(&root().join("src/cli/args.rs")).contains("default_value=\"sessionbackend\")]publease:"));
    for rule in rules().iter().filter(|rule| rule["resources"] == json!(["leases"])) {
        // Before it is there it has no name to be asked for.
        let named = rule["resourceNames"] == json!(["sessionbackend"]);
        assert!(named || rule["verbs"] == json!(["create"]), "{rule}");
    }
}

#[test]
fn every_role_is_bound_to_our_service_account_and_to_nobody_else() {
    let account = document("manifests/service-account.yaml")["metadata"]["name"].clone();
    let names = |kind| of_kind(kind).iter().map(|document| document["metadata"]["name"].clone()).collect::<Vec<_>>();
    let bound: Vec<_> = of_kind("RoleBinding").iter().map(|binding| binding["roleRef"]["name"].clone()).collect();
    assert_eq!(names("Role"), bound);
    for binding in of_kind("RoleBinding") {
        let ours = json!([{ "kind": "ServiceAccount", "name": account, "namespace": "sessionbackend" }]);
        assert_eq!(binding["subjects"], ours);
    }
}

// What is deployed.

fn pod() -> Value {
    document("manifests/deployment.yaml")["spec"]["template"]["spec"].clone()
}

#[test]
fn the_pod_keeps_to_the_restricted_standard() {
    let pod = pod();
    for field in ["hostNetwork", "hostPID", "hostIPC", "hostUsers", "volumes", "initContainers", "ephemeralContainers"]
    {
        assert_eq!(pod[field], Value::Null, "{field}");
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert!(pod["securityContext"]["runAsUser"].as_u64().is_some_and(|user| user > 0));
    for container in pod["containers"].as_array().unwrap() {
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(container["securityContext"], expected);
        assert!(container["resources"]["limits"]["memory"].is_string());
        for resource in ["cpu", "memory"] {
            assert!(container["resources"]["requests"][resource].is_string(), "{resource}");
        }
        assert!(container["ports"].as_array().unwrap().iter().all(|port| port["hostPort"].is_null()));
    }
    let labels = &document("manifests/namespace.yaml")["metadata"]["labels"];
    for mode in ["enforce", "audit", "warn"] {
        assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], "restricted");
    }
}

#[test]
fn the_pod_is_asked_where_the_program_answers() {
    let container = &pod()["containers"][0];
    let (arguments, probes) = (text("src/cli/args.rs"), text("src/probes.rs"));
    let port = container["ports"][0]["containerPort"].as_u64().unwrap();
    assert!(arguments.contains(&format!("default_value = \"0.0.0.0:{port}\"")));
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": container["ports"][0]["name"] }));
        assert!(probes.contains(&format!("route(\"{path}\"")), "{path}");
    }
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(arguments.contains(&format!("env = \"{name}\"")), "{name} is read by nobody");
    }
    assert_eq!(document("manifests/network-policy.yaml")["spec"]["ingress"][0]["ports"][0]["port"], "metrics");
}

#[test]
fn what_selects_the_pods_finds_them() {
    let deployment = document("manifests/deployment.yaml");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(document("manifests/pdb.yaml")["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(document("manifests/network-policy.yaml")["spec"]["podSelector"]["matchLabels"], *labels);
    let class = document("manifests/priority-class.yaml")["metadata"]["name"].clone();
    assert_eq!(
        (pod()["priorityClassName"].clone(), pod()["serviceAccountName"].clone()),
        (class, json!("sessionbackend"))
    );
    for spread in pod()["topologySpreadConstraints"].as_array().unwrap() {
        assert_eq!(spread["labelSelector"]["matchLabels"], *labels);
    }
}

#[test]
fn stores_of_the_examples_can_be_reached_through_the_network_policy() {
    let policy = document("manifests/network-policy.yaml");
    let ports = policy["spec"]["egress"].as_array().unwrap().iter().filter(|rule| rule["to"].is_null());
    let ports: Vec<_> = ports.flat_map(|rule| rule["ports"].as_array().unwrap().clone()).collect();
    let open = |port: u64| {
        ports.iter().any(|rule| {
            let first = rule["port"].as_u64().unwrap();
            rule["protocol"] == "TCP" && (first..=rule["endPort"].as_u64().unwrap_or(first)).contains(&port)
        })
    };
    let mut urls = 0;
    for example in files("examples").into_iter().filter(|path| path.is_file()) {
        let text = read_to_string(&example).unwrap();
        for url in text.lines().filter_map(|line| line.trim().strip_prefix("url: rediss://")) {
            let port = url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
            assert!(open(port), "{}: {port}", example.display());
            urls += 1;
        }
    }
    assert!(urls > 0 && open(443) && open(6379) && !open(22) && !open(80));
}

#[test]
fn every_file_is_applied_and_carries_this_version() {
    let kustomization = document("manifests/kustomization.yaml");
    let listed: BTreeSet<_> = strings(&kustomization["resources"]);
    let is_resource = |name: &String| name.ends_with(".yaml") && name != "kustomization.yaml";
    let here = files("manifests").into_iter().map(|path| name(&path)).filter(is_resource);
    assert_eq!(listed, here.chain(["../crds".to_owned()]).collect());
    let definitions = strings(&document("crds/kustomization.yaml")["resources"]);
    assert_eq!(definitions, files("crds").iter().map(|path| name(path)).filter(is_resource).collect());
    let image = &kustomization["images"][0];
    assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"));
    assert_eq!(pod()["containers"][0]["image"], image["name"]);
}

#[test]
fn nothing_is_local_to_one_machine_or_account() {
    for path in files("manifests").iter().chain([&root().join("Dockerfile")]) {
        let text = read_to_string(path).unwrap();
        for local in ["localhost", "127.0.0.1", "/home/", "/root", "/tmp", ":latest", "123456789012"] {
            assert!(!text.contains(local), "{}: {local}", path.display());
        }
    }
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_repository_and_runs_as_the_pod_does() {
    let (dockerfile, toolchain) = (text("Dockerfile"), text("rust-toolchain.toml"));
    let channel = toolchain.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(dockerfile.contains(&format!("rust:{channel}-")), "{channel}");
    let user = pod()["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(dockerfile.contains(&format!("USER {user}")), "{user}");
}

/// The words of each line of a file of Docker's that begins with `instruction`.
fn instructions(file: &str, instruction: &str) -> Vec<Vec<String>> {
    let lines = file.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_image_is_built_from_the_whole_workspace_and_runs_the_program() {
    let (dockerfile, ignore, workspace) = (text("Dockerfile"), text(".dockerignore"), text("Cargo.toml"));
    let ignored: Vec<_> = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(ignored.iter().all(|line| !line.contains(['*', '!', '/'])), "read below as names: {ignored:?}");
    // Cargo reads the manifest of every member, whichever it builds; the program holds the runbooks.
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members = members.split('"').skip(1).step_by(2).map(|member| format!("{member}/Cargo.toml"));
    for needed in members.chain(["Cargo.lock", "src/main.rs", "runbooks"].map(str::to_owned)) {
        assert!(root().join(&needed).exists(), "{needed}");
        assert!(needed.split('/').all(|part| !ignored.contains(&part)), "{needed} is left out by .dockerignore");
    }

    let program = env!("CARGO_PKG_NAME");
    assert!(workspace.contains(&format!("[[bin]]\nname = \"{program}\"\n")));
    let build = format!("cargo build --release --locked -p {program}");
    assert_eq!(instructions(&dockerfile, "RUN"), [build.split(' ').collect::<Vec<_>>()]);
    let place = instructions(&dockerfile, "WORKDIR")[0][0].clone();
    let copied = instructions(&dockerfile, "COPY");
    assert_eq!(copied[0], [".", "."]);
    let [from, built, there] = &copied[1][..] else { panic!("{copied:?}") };
    assert_eq!((&**from, built), ("--from=build", &format!("{place}/target/release/{program}")));
    assert_eq!(instructions(&dockerfile, "ENTRYPOINT"), [[format!("[\"{there}\"]")]]);
}
