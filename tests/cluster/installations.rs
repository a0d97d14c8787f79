//! Two installations watch one namespace, which they should not: an object is worked on by the one that holds it.

use serde_json::json;

use super::ground::{Ground, NAME, SERVICE, created, object, until};
use super::operator::{Operator, Start};
use super::told::ready_on;

/// The operator of another installation, at home in a namespace of its own, which watches this one and acts.
fn of_installation(ground: &Ground, installation: &str) -> Operator {
    let home = ground.plane.namespace(installation).unwrap();
    for namespace in [&home, &ground.namespace] {
        ground.permit_in(namespace, installation, &home);
    }
    let operator = Operator::start(&Start {
        sandbox: &ground.sandbox,
        namespace: &home,
        kubeconfig: &ground.plane.service_account_kubeconfig(&home, installation).unwrap(),
        identity: installation,
        options: &[format!("--installation={installation}"), format!("--watch-namespace={}", ground.namespace)],
    });
    operator.until_ready();
    operator
}

/// What an account has written about objects of ours.
fn writes(ground: &Ground, account: &str) -> Vec<String> {
    let asked = ground.asked(account).into_iter().filter(|event| event["objectRef"]["resource"] == "sessionbackends");
    let verbs = asked.map(|event| event["verb"].as_str().unwrap().to_owned());
    verbs.filter(|verb| !["get", "list", "watch"].contains(&&**verb)).collect()
}

#[test]
fn an_object_is_worked_on_by_the_installation_that_holds_it_and_the_other_one_touches_nothing() {
    let Some(ground) = Ground::up("two-installations") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let first = of_installation(&ground, "blue");
    ground.apply(&object(NAME, &created("new"), &json!({})));
    ready_on(&ground, NAME, "Upstash new");
    let finalizers = json!(["blue.sessionbackend.dev/release"]);
    assert_eq!(ground.object(NAME)["metadata"]["finalizers"], finalizers);

    let second = Operator::alone(&ground);
    let told = || ground.events(NAME).into_iter().filter(|(reason, _)| reason == "HeldElsewhere").collect::<Vec<_>>();
    let visited = || second.metric("sessionbackend_reconcile_total", &["foreign"]);
    for visit in 1..=3 {
        ground.annotate(NAME, "reconcile-at", &visit.to_string());
        until("it is looked at", || if visited() >= visit { Ok(()) } else { Err(format!("{:#?}", second.warnings())) });
    }
    let said = told();
    let [(_, note)] = &said[..] else { panic!("once: {said:?}") };
    for words in [
        "installation blue holds this object by its finalizer blue.sessionbackend.dev/release",
        "installation default touches nothing of it",
        &format!("let only one of them watch namespace {}, by --watch-namespace", ground.namespace),
        "take that finalizer off",
    ] {
        assert!(note.contains(words), "{words}: {note}");
    }
    assert!(second.said().contains("installation blue holds this object"));

    // Its deletion is not the other one's either.
    ground.kubectl(&format!("delete sb {NAME} --timeout=60s"));
    let released = ground.events(NAME).into_iter().filter(|(reason, _)| reason == "Released").count();
    assert_eq!((released, told().len()), (1, 1));
    assert_eq!(writes(&ground, "sessionbackend"), Vec::<String>::new());
    assert_eq!(second.metric("sessionbackend_cloud_requests_total", &[]), 0, "no cloud was asked anything");
    assert_eq!(second.metric("sessionbackend_phase", &[]), 0);
    assert_eq!(ground.calls("UpdateService"), 1);
    drop(first);

    // What nobody holds is anybody's: the one that is left takes it.
    ground.apply(&object("web-two", &super::ground::adopted(&old), &json!({ "mode": "Plan" })));
    ground.until_phase("web-two", "Planning");
    assert_eq!(ground.object("web-two")["metadata"]["finalizers"], json!(["sessionbackend.dev/release"]));
    ground.keeps_its_secrets();
}
