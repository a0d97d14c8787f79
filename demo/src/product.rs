//! `sessionbackend` as a user runs it: its command line, from inside the VPC. What it says about itself (phase, checks,
//! conflicts) is read from `-o json`; nothing here believes it about sessions.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::sandbox::Sandbox;

/// `sessionbackend` with a manifest.
#[derive(Debug)]
pub struct Product<'a> {
    /// Where it runs.
    pub sandbox: &'a Sandbox,
    /// Seen from where.
    pub vantage: String,
    /// The binary.
    pub binary: PathBuf,
    /// The manifest.
    pub manifest: PathBuf,
    /// The namespace of its object, where the manifest does not say it.
    pub namespace: Option<&'static str>,
}

/// What `sessionbackend` says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The one stable word.
    pub phase: String,
    /// The sentence for people.
    pub message: String,
    /// Keys changed on both sides at once.
    pub conflicts: u64,
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Checks that were skipped or could not judge.
    pub skipped: u64,
}

/// The checks of a move, as `apply` told them: every run counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Checks that passed.
    pub passed: u64,
    /// Gates that failed.
    pub failed: u64,
    /// Checks that were skipped, could not judge, or only warned.
    pub skipped: u64,
}

impl Checked {
    /// Counts a line of `apply`, if it is about checks.
    pub fn hear(&mut self, line: &str) {
        let run = [" checks passed", " check passed"].into_iter().find_map(|words| line.split_once(words));
        if let Some((figures, _)) = run.filter(|(_, rest)| rest.starts_with(": ") || rest.starts_with(", ")) {
            let mut words = figures.split_whitespace().rev();
            let passed = words.nth(2).and_then(|passed| passed.parse::<u64>().ok());
            self.passed += passed.unwrap_or_default();
        } else if line.contains("  ✗ failed: ") && !line.contains(", a warning only: ") {
            self.failed += 1;
        } else if ["  ✗ failed: ", "  ? undecided: ", "  - skipped: "].into_iter().any(|word| line.contains(word)) {
            self.skipped += 1;
        }
    }
}

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProductError {
    /// The command does not start.
    #[error("sessionbackend cannot be run in the sandbox: {0}")]
    Start(#[from] std::io::Error),
    /// The command failed.
    #[error("`sessionbackend {command}` ended with {code:?}: {message}")]
    Failed {
        /// The command.
        command: String,
        /// Its exit code.
        code: Option<i32>,
        /// The end of what it said.
        message: String,
    },
    /// Not JSON.
    #[error("`sessionbackend {command} -o json` did not answer with JSON: {why}")]
    Answer {
        /// The command.
        command: String,
        /// What is wrong with it.
        why: serde_json::Error,
    },
}

/// The files in which everything it says is kept, beside the manifest.
pub const SAID: [&str; 9] = [
    "apply.out",
    "apply.log",
    "apply.json",
    "plan.txt",
    "plan.json",
    "plan.log",
    "status.txt",
    "status.json",
    "status.log",
];

/// A running `apply`.
#[derive(Debug)]
pub struct Apply {
    /// The process; its exit code is its verdict.
    pub child: Child,
    /// What it says, line by line.
    pub lines: mpsc::UnboundedReceiver<String>,
}

impl Product<'_> {
    /// Starts `apply`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn apply(&self) -> Result<Apply, ProductError> {
        let mut child = self.command("apply").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (tell, lines) = mpsc::unbounded_channel();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(pass_on(BufReader::new(stdout).lines(), tell.clone(), self.record("apply.out")?));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(pass_on(BufReader::new(stderr).lines(), tell, self.record("apply.log")?));
        }
        Ok(Apply { child, lines })
    }

    /// How many changes `plan` would make; 0 = nothing left to do. A plan that is blocked (1), as after a rollback,
    /// says so and counts its changes all the same.
    ///
    /// # Errors
    /// When it cannot plan.
    pub async fn plan(&self) -> Result<u64, ProductError> {
        let (code, answer) = self.json("plan", &[0, 1, 2]).await?;
        let changes = answer["changes"].as_u64().ok_or_else(|| ProductError::Failed {
            command: "plan".to_owned(),
            code: Some(code),
            message: "its answer counts no changes".to_owned(),
        })?;
        Ok(if code == 2 { changes.max(1) } else { changes })
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// When it cannot tell.
    pub async fn status(&self) -> Result<Status, ProductError> {
        let (_, answer) = self.json("status", &[0, 1, 2, 3, 4]).await?;
        Ok(Status::read(&answer))
    }

    /// Where something it says is kept, beside the manifest; what earlier processes said stays.
    fn record(&self, name: &str) -> std::io::Result<File> {
        let path = self.manifest.with_file_name(name);
        std::fs::OpenOptions::new().create(true).append(true).open(path)
    }

    fn command(&self, word: &str) -> Command {
        let mut command = self.sandbox.exec(&self.vantage, &self.binary);
        // Its own log at its loudest: it may hold no secret either.
        command.arg(word).arg("-f").arg(&self.manifest);
        command.args(self.namespace.iter().flat_map(|namespace| ["--namespace", namespace]));
        command.env("SESSIONBACKEND_LOG", "sessionbackend=trace");
        command
    }

    /// Says it all once more, for people and for programs, when nothing is left to do: what it says then is kept too.
    ///
    /// # Errors
    /// When it cannot say it.
    pub async fn say_all(&self) -> Result<(), ProductError> {
        for word in ["plan", "status"] {
            let output = self.ended(word, &[], &[0, 1, 2, 3, 4]).await?;
            std::fs::write(self.manifest.with_file_name(format!("{word}.txt")), &output.stdout)?;
        }
        let output = self.ended("apply", &["-o", "json"], &[0, 3]).await?;
        std::fs::write(self.manifest.with_file_name("apply.json"), &output.stdout)?;
        Ok(())
    }

    /// Runs a command to its end; what it logs is kept.
    async fn ended(&self, word: &str, more: &[&str], good: &[i32]) -> Result<Output, ProductError> {
        let output = self.command(word).args(more).output().await?;
        self.record(&format!("{word}.log"))?.write_all(&output.stderr)?;
        let code = output.status.code();
        if code.is_some_and(|code| good.contains(&code)) {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().filter(|line| !is_log(line)).rev().take(5).collect::<Vec<_>>();
        let message = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(ProductError::Failed { command: word.to_owned(), code, message })
    }

    async fn json(&self, word: &str, good: &[i32]) -> Result<(i32, Value), ProductError> {
        let output = self.ended(word, &["-o", "json"], good).await?;
        let answer = serde_json::from_slice(&output.stdout)
            .map_err(|why| ProductError::Answer { command: word.to_owned(), why })?;
        std::fs::write(self.manifest.with_file_name(format!("{word}.json")), &output.stdout)?;
        Ok((output.status.code().unwrap_or_default(), answer))
    }
}

impl Status {
    /// Out of an answer with it.
    pub fn read(answer: &Value) -> Self {
        let status = answer.get("status").unwrap_or(answer);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of_the_move = text(&status["migration"]["message"]);
        let mut read = Self {
            phase: text(&status["phase"]),
            message: if of_the_move.is_empty() { text(&status["summary"]["message"]) } else { of_the_move },
            conflicts: amount(&status["migration"]["conflicts"]),
            ..Self::default()
        };
        for check in status["checks"].as_array().into_iter().flatten() {
            match verdict(check).as_str() {
                "Pass" => read.passed += 1,
                "Fail" => read.failed += 1,
                _ => read.skipped += 1,
            }
        }
        read
    }
}

/// A number, or how many there are.
fn amount(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_array().map(|list| list.len() as u64)).unwrap_or(0)
}

/// A verdict is a word, or an object with the word as its only member.
fn verdict(check: &Value) -> String {
    let verdict = &check["verdict"];
    let member = || verdict.as_object().and_then(|members| members.keys().next().cloned());
    verdict.as_str().map(str::to_owned).or_else(member).unwrap_or_default()
}

/// Keeps every line, and tells those that are no log lines.
async fn pass_on<R: AsyncRead + Unpin>(
    mut lines: Lines<BufReader<R>>,
    tell: mpsc::UnboundedSender<String>,
    mut record: File,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        // A record that cannot be written shows as an empty one, which fails the report.
        let _ = writeln!(record, "{line}");
        if !is_log(&line) && tell.send(line).is_err() {
            return;
        }
    }
}

fn is_log(line: &str) -> bool {
    [" TRACE ", " DEBUG ", "  INFO ", "  WARN "].iter().any(|level| line.contains(level)) && line.contains(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_read_with_and_without_its_envelope() {
        let status = json!({
            "phase": "RolledBack",
            "summary": { "message": "the check redis failed" },
            "migration": { "conflicts": 2 },
            "checks": [
                { "name": "redis", "verdict": "Fail" }, { "name": "http", "verdict": "Pass" },
                { "name": "logs", "verdict": { "Skipped": "no log group" } }, { "name": "x", "verdict": "Inconclusive" },
            ],
        });
        let read = Status::read(&status);
        assert_eq!((read.passed, read.failed, read.skipped, read.conflicts), (1, 1, 2, 2));
        assert_eq!((read.phase.as_str(), read.message.as_str()), ("RolledBack", "the check redis failed"));
        let of_the_move = json!({ "migration": { "message": "SETEX is refused" }, "summary": { "message": "waits" } });
        assert_eq!(Status::read(&of_the_move).message, "SETEX is refused");
        assert_eq!(Status::read(&json!({ "status": status })), read);
    }

    #[test]
    fn checks_are_counted_as_apply_tells_them() {
        let mut checked = Checked::default();
        for line in [
            "2026-11-21T11:12:13Z  2 of 3 checks passed, 1 skipped: on the new store, before the switch",
            "2026-11-21T11:12:13Z    - skipped: limits, a warning only: connections of an instance are not known",
            "2026-11-21T11:12:13Z  · baseline of 5 checks",
            "2026-11-21T11:15:05Z  1 of 3 checks passed: after the switch",
            "2026-11-21T11:15:05Z    ✗ failed: redis: SETEX failed: NOPERM",
            "2026-11-21T11:15:05Z    ✗ failed: limits, a warning only: too many",
            "2026-11-21T11:15:05Z    ? undecided: login on liberty-web: no answer",
            "2026-11-21T11:15:05Z  ✗ rolled back: the services are on the former store",
        ] {
            checked.hear(line);
        }
        assert_eq!(checked, Checked { passed: 3, failed: 1, skipped: 3 });
    }

    #[test]
    fn an_amount_is_a_number_or_a_list() {
        assert_eq!([amount(&json!(3)), amount(&json!(["a", "b"])), amount(&json!(null))], [3, 2, 0]);
    }
}
