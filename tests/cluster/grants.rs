//! The controller is limited to the services and roles a namespace may name.

use serde_json::{Value, json};

use super::ground::{Ground, SERVICE, adopted, object};
use super::operator::Operator;
use super::told::condition;

#[test]
fn what_a_namespace_may_not_name_is_refused_and_not_touched() {
    let Some(ground) = Ground::up("grants") else { return };
    let database = ground.database("by-hand");
    ground.service(SERVICE, Some(&database.url));
    ground.service("billing", Some(&database.url));
    let namespace = &ground.namespace;
    let flags = [
        format!("--allow-service={namespace}=web-*"),
        "--allow-service=elsewhere=billing".to_owned(),
        format!("--allow-role={namespace}=own"),
    ];
    let _operator = Operator::with(&ground, &flags);
    let changes = ground.changes();

    let of_others = json!({ "services": [{ "name": SERVICE }, { "name": "billing" }] });
    let role = "arn:aws:iam::123456789012:role/admin";
    let with_role = json!({ "aws": { "roleArn": role } });
    for (name, differs, words) in [
        (
            "services",
            &of_others,
            format!(
                "spec.services[1]: is billing, which namespace {namespace} may not name; correct it, or have the controller run with --allow-service={namespace}=billing"
            ),
        ),
        (
            "role",
            &with_role,
            format!(
                "spec.aws.roleArn: is {role}, which namespace {namespace} may not name; correct it, or have the controller run with --allow-role={namespace}={role}"
            ),
        ),
    ] {
        ground.apply(&object(name, &adopted(&database), differs));
        let refused = ground.until_phase(name, "Blocked");
        let stalled = condition(&refused, "Stalled");
        assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("NotGranted")), "{stalled:#}");
        assert_eq!(stalled["message"], words);
        assert_eq!(refused["metadata"]["finalizers"], Value::Null, "it is not held");
    }
    assert_eq!(ground.changes(), changes, "nothing is touched, no role is assumed");

    // What is granted goes on, and what was refused goes on when it is corrected.
    ground.apply(&object("services", &adopted(&database), &json!({})));
    ground.kubectl("wait --for=condition=Ready --timeout=120s sb/services");
    ground.kubectl("delete sb role --timeout=60s");
    ground.kubectl("delete sb services --timeout=60s");
    ground.keeps_its_secrets();
}
