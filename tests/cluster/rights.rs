//! The operator's rights are those of `manifests/`: in one object's life it uses every one of them and asks for nothing else,
//! and without any one of them a person sees, in its own place, which one is missing.

use std::collections::BTreeSet;
use std::fmt;
use std::thread;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::ground::{Ground, NAME, ROLES, SERVICE, created, object, until};
use super::operator::{Operator, Start};

const ACCOUNT: &str = "sessionbackend";

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

/// A right and the role it is given by.
type Granted = (String, Right);

impl fmt::Display for Right {
    /// As the API server refuses it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, verb } = self;
        write!(f, "cannot {verb} resource \"{resource}\" in API group \"{group}\"")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().unwrap().iter().map(text)
}

/// Roles and bindings as they are written down.
fn documents() -> Vec<Value> {
    let of =
        |file: &str| serde_yaml::Deserializer::from_str(file).map(|one| Value::deserialize(one).unwrap()).collect();
    ROLES.iter().flat_map(|file| -> Vec<Value> { of(file) }).collect()
}

fn granted() -> BTreeSet<Granted> {
    let mut granted = BTreeSet::new();
    for role in documents().iter().filter(|document| document["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        let right = Right { group: group.clone(), resource: resource.clone(), verb };
                        assert!(granted.insert((text(&role["metadata"]["name"]), right)), "granted twice: {rule}");
                    }
                }
            }
        }
    }
    granted
}

/// What a request in the audit log needs.
fn needed(event: &Value) -> Right {
    let about = &event["objectRef"];
    let resource = match (about["resource"].as_str(), about["subresource"].as_str()) {
        (Some(resource), Some(part)) => format!("{resource}/{part}"),
        (Some(resource), None) => resource.to_owned(),
        // A path of the server itself, which no role of ours could grant.
        (None, _) => text(&event["requestURI"]),
    };
    Right { group: text(&about["apiGroup"]), resource, verb: text(&event["verb"]) }
}

fn is_refused(event: &Value) -> bool {
    event["annotations"]["authorization.k8s.io/decision"] == "forbid"
}

/// What it needed, and the role the API server let it have that by; where that was no role of a namespace, the server's words.
fn used(event: &Value) -> Granted {
    let why = text(&event["annotations"]["authorization.k8s.io/reason"]);
    let role = why.split_once(" of Role \"").and_then(|(_, rest)| rest.split_once('"'));
    (role.map_or(why.clone(), |(role, _)| role.to_owned()), needed(event))
}

#[test]
fn a_life_uses_every_right_that_is_granted_and_asks_for_no_other() {
    let Some(ground) = Ground::up("rights") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let mut operator = Operator::alone(&ground);
    let asks = json!({ "migration": { "approval": { "switch": "Manual" } } });
    ground.apply(&object(NAME, &created("new"), &asks));
    let waiting = ground.until_phase(NAME, "AwaitingApproval");
    let migration = waiting["status"]["migration"]["id"].as_str().unwrap();
    ground.annotate(NAME, "approve", &format!("{migration}/switch"));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    until("the lease is renewed", || {
        let asked = ground.asked(ACCOUNT);
        let renewals = asked.iter().filter(|event| event["verb"] == "update").count();
        if renewals > 0 { Ok(()) } else { Err(format!("{} requests", asked.len())) }
    });
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
    operator.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(operator.ended(), Some(0), "{:#?}", operator.warnings());

    let asked = ground.asked(ACCOUNT);
    let (refused, allowed): (Vec<_>, Vec<_>) = asked.iter().partition(|event| is_refused(event));
    let refused: BTreeSet<_> = refused.into_iter().map(needed).collect();
    assert_eq!(refused, BTreeSet::new(), "asked for and refused");
    let used: BTreeSet<_> = allowed.into_iter().map(used).collect();
    let granted = granted();
    assert_eq!(granted.difference(&used).collect::<Vec<_>>(), Vec::<&Granted>::new(), "granted and not used");
    assert_eq!(used.difference(&granted).collect::<Vec<_>>(), Vec::<&Granted>::new(), "used and not granted here");
    ground.keeps_its_secrets();
}

/// Where a person meets what the API server refuses.
enum Place {
    /// The probe says it, and the pod is not ready.
    Readiness,
    /// The object's conditions say it.
    Status,
    /// A warning says it, with these words.
    Log(&'static str),
    /// A warning says it, with these words, and the process ends with a failure.
    End(&'static str),
}

/// The place for each right. One that is granted in `manifests/` and not named here fails the test.
fn place(right: &Right) -> Place {
    match (&*right.resource, &*right.verb) {
        ("sessionbackends", "list" | "watch") | ("leases", "get" | "create") => Place::Readiness,
        ("sessionbackends", "patch") | ("secrets", "get") => Place::Status,
        ("sessionbackends/status", "patch") => Place::Log("the status could not be written"),
        ("events", "create") => Place::Log("an event could not be published"),
        ("leases", "update") => Place::End("the lease could not be renewed"),
        _ => panic!("nobody says how it shows that the operator {right}"),
    }
}

/// An operator without one of its rights, in a namespace of its own with an object that looks and changes nothing.
struct Lacking<'a> {
    ground: &'a Ground,
    without: &'a Granted,
    namespace: String,
}

impl<'a> Lacking<'a> {
    fn new(ground: &'a Ground, without: &'a Granted) -> Self {
        let Right { resource, verb, .. } = &without.1;
        let namespace = format!("{}-{verb}-{}", ground.namespace, resource.replace('/', "-"));
        Self { ground, without, namespace }
    }

    /// Everything it needs in the cluster but that right.
    fn objects(&self) -> Vec<Value> {
        let Self { ground, namespace, without: (role, right) } = self;
        let mut all = vec![
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT } }),
            ground.upstash_secret(),
            object(NAME, &created("new"), &json!({ "mode": "Plan" })),
        ];
        for mut document in documents() {
            if let Some(subject) = document.pointer_mut("/subjects/0/namespace") {
                *subject = json!(namespace);
            }
            if document["kind"] == "Role" && document["metadata"]["name"] == role.as_str() {
                for rule in document["rules"].as_array_mut().unwrap() {
                    let is_about = |member: &str, name: &str| texts(&rule[member]).any(|one| one == name);
                    if is_about("apiGroups", &right.group) && is_about("resources", &right.resource) {
                        rule["verbs"].as_array_mut().unwrap().retain(|verb| *verb != right.verb.as_str());
                    }
                }
                // A rule of no verbs is refused.
                document["rules"].as_array_mut().unwrap().retain(|rule| rule["verbs"] != json!([]));
            }
            all.push(document);
        }
        for one in all.iter_mut().filter(|one| one["kind"] != "Namespace") {
            one["metadata"]["namespace"] = json!(namespace);
        }
        all
    }

    /// The API server's refusal is seen where a person looks.
    fn is_seen(&self) {
        let Self { ground, without: (_, right), namespace } = self;
        let refusal = right.to_string();
        let mut operator = Operator::start(&Start {
            sandbox: &ground.sandbox,
            namespace,
            kubeconfig: &ground.plane.service_account_kubeconfig(namespace, ACCOUNT).unwrap(),
            identity: namespace,
            options: &[],
        });
        let warned = |operator: &Operator, words: &str| {
            until(&format!("a warning: {refusal}"), || {
                let warnings = operator.warnings();
                let is_it = |line: &Value| line["message"] == words && text(&line["error"]).contains(&refusal);
                if warnings.iter().any(is_it) { Ok(()) } else { Err(format!("{warnings:#?}")) }
            });
        };
        match place(right) {
            Place::Readiness => until(&format!("readiness: {refusal}"), || match operator.get("/readyz") {
                (503, why) if why.contains(&refusal) => Ok(()),
                (code, why) => Err(format!("{code} {why}")),
            }),
            Place::Status => until(&format!("status: {refusal}"), || {
                let object: Value =
                    serde_json::from_str(&ground.plane.must(&format!("-n {namespace} get sb {NAME} -o json")).unwrap())
                        .unwrap();
                let conditions = object["status"]["conditions"].as_array();
                let says = |condition: &Value| {
                    condition["reason"] == "AccessDenied" && text(&condition["message"]).contains(&refusal)
                };
                if conditions.into_iter().flatten().any(says) { Ok(()) } else { Err(format!("{object:#}")) }
            }),
            Place::Log(words) => warned(&operator, words),
            Place::End(words) => {
                warned(&operator, words);
                assert_eq!(operator.ended(), Some(1), "{}", operator.said());
            }
        }
    }
}

/// One operator for each right, all at once over one sandbox: they only look at it. That each is refused exactly what was
/// taken away shows that what is seen is seen for that reason, and that no other right stands in for it. Nobody has to wait
/// for something not to happen: whoever lacks a right is told so by the API server, and says it.
#[test]
fn without_any_one_of_its_rights_a_person_sees_which_it_is() {
    let Some(ground) = Ground::up("lacking") else { return };
    ground.service(SERVICE, None);
    let granted = granted();
    let lacking: Vec<_> = granted.iter().map(|without| Lacking::new(&ground, without)).collect();
    let all: Vec<_> = lacking.iter().flat_map(Lacking::objects).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": all }).to_string();
    ground.plane.must_with("create -f -", &list).unwrap();
    let changes = ground.changes();
    thread::scope(|scope| lacking.iter().for_each(|one| drop(scope.spawn(|| one.is_seen()))));

    let audit = ground.plane.audit().unwrap();
    for Lacking { namespace, without: (_, right), .. } in &lacking {
        let user = format!("system:serviceaccount:{namespace}:{ACCOUNT}");
        let asked = audit.iter().filter(|event| event["user"]["username"] == user.as_str());
        let refused: BTreeSet<_> = asked.filter(|event| is_refused(event)).map(needed).collect();
        assert_eq!(refused, BTreeSet::from([right.clone()]), "what was refused to {user}");
    }
    assert_eq!(ground.changes(), changes);
}
