//! What the README tells people to type exists, and what it links to is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::pedantic, reason = "in a test a panic is the message")]
use std::path::Path;

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_make_command_of_the_readme_is_a_target() {
    let (readme, makefile) = (text("README.md"), text("Makefile"));
    let mut found = 0;
    for command in readme.split("make ").skip(1) {
        let target: String = command.chars().take_while(char::is_ascii_lowercase).collect();
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
        found += 1;
    }
    assert!(found >= 5, "{found}");
}

#[test]
fn every_link_of_the_readme_leads_somewhere() {
    for link in text("README.md").split("](").skip(1) {
        let target = link.split([')', '#']).next().unwrap();
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(), "{target}");
    }
}

#[test]
#[cfg(feature = "shell")]
fn every_command_of_the_readme_is_one_of_the_program() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_sessionbackend")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for command in ["plan", "apply", "status", "approve", "abort", "retry", "validate", "destroy", "crd", "completion"]
    {
        assert!(text("README.md").contains(command) && help.contains(&format!("\n  {command} ")), "{command}");
    }
}
