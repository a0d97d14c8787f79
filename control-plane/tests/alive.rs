//! A control plane does what a cluster does for its users, survives a restart, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]
#![allow(clippy::disallowed_methods, reason = "a test reads the clock")]

use std::process::Command;
use std::time::{Duration, Instant};

use control_plane::{ControlPlane, Error, Process, fed};

/// What a role of a namespace allows, given to its service account `worker`.
const ROLE: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: worker }
rules: [{ apiGroups: [''], resources: [configmaps], verbs: [get, list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: worker }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: worker }
subjects: [{ kind: ServiceAccount, name: worker }]
";

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_service_account_may_what_its_role_says_and_the_audit_log_tells() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let namespace = plane.namespace("roles").unwrap();
    let role = ROLE.replace("kind: ServiceAccount,", &format!("kind: ServiceAccount, namespace: {namespace},"));
    plane.must_with(&format!("-n {namespace} apply -f -"), &role).unwrap();
    let worker = plane.service_account_kubeconfig(&namespace, "worker").unwrap();
    let as_worker = |words: &[&str]| plane.kubectl_as(&worker).args(words).output().unwrap();

    until("the role is known", || as_worker(&["get", "configmaps"]).status.success());
    let refused = as_worker(&["get", "secrets"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Forbidden"), "{refused:?}");

    let user = format!("system:serviceaccount:{namespace}:worker");
    let events = plane.audit().unwrap();
    let of_worker = |resource: &str| {
        let mut asked = events.iter().filter(|event| event["user"]["username"] == user.as_str());
        let last = asked.rfind(|event| event["objectRef"]["resource"] == resource).unwrap();
        last["annotations"]["authorization.k8s.io/decision"].as_str().unwrap().to_owned()
    };
    assert_eq!((of_worker("configmaps"), of_worker("secrets")), ("allow".to_owned(), "forbid".to_owned()));
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    // Its own: others would notice the restart.
    let plane = match ControlPlane::start() {
        Err(Error::Unavailable(_)) => return,
        plane => plane.unwrap(),
    };
    let namespace = plane.namespace("kept").unwrap();
    plane.must(&format!("-n {namespace} create configmap a --from-literal=b=c")).unwrap();
    let before = plane.url();
    plane.restart_api_server().unwrap();
    assert_eq!(plane.url(), before);
    let read = plane.must(&format!("-n {namespace} get configmap a -o jsonpath={{.data.b}}")).unwrap();
    assert_eq!(read, "c");

    let folder = plane.kubeconfig().parent().unwrap().to_owned();
    drop(plane);
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn a_kept_process_ends_with_its_starter_even_if_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut kept = Process::start(Command::new("sleep").arg("1000"), &output).unwrap();
    let pid = kept.pid();
    assert!(lives(pid) && !kept.has_ended());
    drop(kept);
    assert!(!lives(pid));

    let mut short = Process::start(Command::new("sh").args(["-c", "echo said; exit 7"]), &output).unwrap();
    assert_eq!(short.wait().unwrap(), Some(7));
    assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), "said\n");

    // This very test in another process, which is killed while it keeps one.
    if let Some(file) = std::env::var_os("KEEP_UNTIL_KILLED") {
        let kept = Process::start(Command::new("sleep").arg("1000"), &output).unwrap();
        std::fs::write(file, kept.pid().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(1000));
    }
    let file = folder.path().join("pid");
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "a_kept_process_ends_with_its_starter_even_if_that_is_killed"]);
    let mut other = other.env("KEEP_UNTIL_KILLED", &file).spawn().unwrap();
    let said = || std::fs::read_to_string(&file).unwrap_or_default().parse::<i32>();
    until("the other keeps one", || said().is_ok());
    let pid = said().unwrap();
    assert!(lives(pid));
    other.kill().unwrap();
    other.wait().unwrap();
    until("it ends with its starter", || !lives(pid));
}

#[test]
fn a_command_is_fed() {
    let output = fed(&mut Command::new("cat"), "words").unwrap();
    assert_eq!(output.stdout, b"words");
}

#[test]
fn where_none_can_be_had_one_loud_line_says_how_to_get_it() {
    const NONE: &str = "NO_CONTROL_PLANE_CAN_BE_HAD";
    if std::env::var_os(NONE).is_some() {
        assert!(ControlPlane::shared().unwrap().is_none());
        return;
    }
    // A machine with a shell and little else.
    let bare = tempfile::tempdir().unwrap();
    for tool in ["bash", "env", "dirname", "mkdir", "sed", "cat", "uname", "cksum", "flock", "rm"] {
        let paths = std::env::var_os("PATH").unwrap();
        let there = std::env::split_paths(&paths).map(|folder| folder.join(tool)).find(|path| path.exists());
        if let Some(there) = there {
            std::os::unix::fs::symlink(there, bare.path().join(tool)).unwrap();
        }
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "where_none_can_be_had_one_loud_line_says_how_to_get_it"]);
    test.env_clear().env("PATH", bare.path()).env("HOME", bare.path()).env(NONE, "1");
    let output = test.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "it passes: {said}{}", String::from_utf8_lossy(&output.stdout));
    let [line] = said.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert!(line.starts_with("TESTS ON A CONTROL PLANE ARE SKIPPED: NO kube-apiserver AND etcd"), "{line}");
    assert!(line.contains("KUBEBUILDER_ASSETS") && line.contains("install Go"), "{line}");
    // With CI=true it is a failure, with the same words.
    let output = test.env("CI", "true").output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("let KUBEBUILDER_ASSETS name a folder"), "{said}");
}
