//! A namespace goes with its RoleBinding before its objects: the controller may not let them go any more.

use super::ground::{Ground, NAME, SERVICE, adopted, object, until};
use super::operator::Operator;
use serde_json::{Value, json};

#[test]
fn an_object_whose_permissions_went_before_it_lets_its_claims_go_and_the_log_says_what_is_left_to_do() {
    let Some(ground) = Ground::up("stranded") else { return };
    let database = ground.database("by-hand");
    let arn = ground.service(SERVICE, Some(&database.url));
    let operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &adopted(&database), &json!({})));
    ground.kubectl(&format!("wait --for=condition=Ready --timeout=120s sb/{NAME}"));
    let before = ground.variables(&arn);

    // The binding is gone first, as when a namespace is deleted with all that is in it.
    let bindings: Value = serde_json::from_str(&ground.kubectl("get rolebindings -o json")).unwrap();
    let of_the_role = |binding: &&Value| binding["roleRef"]["name"] == "sessionbackend";
    let binding = bindings["items"].as_array().unwrap().iter().find(of_the_role).unwrap();
    ground.kubectl(&format!("delete rolebinding {}", binding["metadata"]["name"].as_str().unwrap()));
    until("the permission is gone", || {
        let who = format!("system:serviceaccount:{}:sessionbackend", ground.namespace);
        let asked = ground.plane.kubectl(&format!("-n {} auth can-i patch sb --as {who}", ground.namespace)).output();
        let said = String::from_utf8(asked.unwrap().stdout).unwrap();
        if said.trim() == "no" { Ok(()) } else { Err(said) }
    });
    ground.kubectl(&format!("delete sb {NAME} --wait=false"));
    let warned = until("the log says it", || {
        let warnings = operator.warnings();
        let found = warnings.iter().find(|line| line["message"] == "the finalizer could not be taken off").cloned();
        found.ok_or_else(|| format!("{warnings:#?}"))
    });
    let (error, remedy) = (warned["error"].as_str().unwrap(), warned["remedy"].as_str().unwrap());
    assert!(error.contains("forbidden") && error.matches("cannot patch").count() == 1, "{error}");
    assert!(remedy.contains("role-binding.yaml") && remedy.contains("docs/operating.md"), "{remedy}");
    assert!(operator.metric("sessionbackend_reconcile_total", &["result=\"unwritten\""]) > 0);
    assert_eq!(ground.variables(&arn), before);

    // What docs/operating.md says.
    ground.kubectl(&format!("patch sb {NAME} --type=merge -p {{\"metadata\":{{\"finalizers\":null}}}}"));
    ground.kubectl(&format!("wait --for=delete --timeout=60s sb/{NAME}"));
    // Its claims are let go: another may have the service.
    ground.permit("sessionbackend");
    ground.apply(&object("web-two", &adopted(&database), &json!({})));
    ground.kubectl("wait --for=condition=Ready --timeout=120s sb/web-two");
    ground.keeps_its_secrets();
}
