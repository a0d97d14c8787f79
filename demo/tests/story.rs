//! The whole story with the real binaries, smaller than `make demo`: moved with `apply` killed on the way, and moved back.
//! Every run has its own sandbox; the conditions are those of the report.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One story at a time: lags are measured, and the machine may be small.
static STAGE: Mutex<()> = Mutex::new(());

/// The binaries of the workspace are beside this test's own.
fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `make test`, or `cargo build --workspace --bins` first", path.display());
    path
}

fn tell(scenario: &str, more: &[&str]) {
    let _stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(binary("demo"))
        .args(["run", "--scenario", scenario, "--sessions", "1000", "--visitors", "60", "--requests", "1500"])
        .args(more)
        .arg("--dir")
        .arg(dir.path())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("SANDBOX_BIN", binary("sandbox"))
        .env("SESSIONBACKEND_BIN", binary("sessionbackend"))
        .env("SESSIONS_APP_BIN", binary("sessions-app"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario} {more:?}: {}\n{said}\n{cried}", output.status);
}

#[test]
fn a_migration_whose_apply_is_killed_at_random_moments_ends_as_the_undisturbed_one() {
    // The seed is printed with the failure; another day, another moment.
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    tell("migrate", &["--kills", "3", "--seed", &seed.to_string()]);
}

#[test]
fn a_failing_check_moves_the_service_back() {
    tell("rollback", &["--seed", "7"]);
}

#[test]
fn a_silent_rollback_of_the_platform_is_noticed() {
    tell("platform-rollback", &["--seed", "8"]);
}
