//! The visitors as the demo sees them: a `demo visit` of its own out on the internet, told to begin and to leave.
//! It is ended with the demo, whatever happens. What they find is theirs; nothing is added here.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use crate::tally::Findings;
use crate::visit::VisitEvent;

/// Reading every session once more takes seconds; much longer means that nobody answers.
const PATIENCE: Duration = Duration::from_mins(2);

/// People visiting.
#[derive(Debug)]
pub struct People {
    child: Child,
    stdin: ChildStdin,
    words: mpsc::UnboundedReceiver<VisitEvent>,
    pulse: watch::Receiver<Pulse>,
}

/// A moment of the visit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Requests since people began to click.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many instances serve from each store.
    pub serving: BTreeMap<String, u64>,
}

/// The visit did not go as it must.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Starting or talking failed.
    #[error("the visitors cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    /// They left too early.
    #[error("the visitors left before they had said `{0}`; their own words are above")]
    Left(&'static str),
    /// They say nothing.
    #[error("the visitors did not say `{0}` within two minutes")]
    Silent(&'static str),
}

impl People {
    /// Starts the visit and waits until everybody is logged in; returns also how many sessions, and how long it took.
    ///
    /// # Errors
    /// When the service does not let them in.
    pub async fn enter(mut visit: Command) -> Result<(Self, u64, Duration), PeopleError> {
        let mut child = visit.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(PeopleError::Left("entered"));
        };
        let (tell, words) = mpsc::unbounded_channel();
        let (beat, pulse) = watch::channel(Pulse::default());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(VisitEvent::Pulse { requests, failed, serving }) => {
                        beat.send_replace(Pulse { requests, failed, serving });
                    }
                    Ok(event) => drop(tell.send(event)),
                    Err(error) => eprintln!("demo: not a word of the visitors ({error}): {line}"),
                }
            }
        });
        let mut people = Self { child, stdin, words, pulse };
        let (sessions, took_ms) = people
            .hear("entered", |event| match event {
                VisitEvent::Entered { sessions, took_ms } => Some((sessions, took_ms)),
                VisitEvent::Pulse { .. } | VisitEvent::Moving { .. } | VisitEvent::Findings(_) => None,
            })
            .await?;
        Ok((people, sessions, Duration::from_millis(took_ms)))
    }

    /// Says that the move begins; returns how many sessions are logged in.
    ///
    /// # Errors
    /// When they are gone.
    pub async fn begin_move(&mut self) -> Result<u64, PeopleError> {
        self.stdin.write_all(b"move\n").await?;
        self.hear("moving", |event| match event {
            VisitEvent::Moving { sessions, .. } => Some(sessions),
            VisitEvent::Entered { .. } | VisitEvent::Pulse { .. } | VisitEvent::Findings(_) => None,
        })
        .await
    }

    /// How it goes.
    pub fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulse.clone()
    }

    /// Lets them go and returns what they found.
    ///
    /// # Errors
    /// When they are gone already.
    pub async fn leave(mut self) -> Result<Findings, PeopleError> {
        self.stdin.write_all(b"leave\n").await?;
        let findings = self
            .hear("findings", |event| match event {
                VisitEvent::Findings(findings) => Some(*findings),
                VisitEvent::Entered { .. } | VisitEvent::Pulse { .. } | VisitEvent::Moving { .. } => None,
            })
            .await?;
        self.child.wait().await?;
        Ok(findings)
    }

    async fn hear<T>(
        &mut self,
        word: &'static str,
        mut known: impl FnMut(VisitEvent) -> Option<T>,
    ) -> Result<T, PeopleError> {
        let listening = async {
            loop {
                match self.words.recv().await {
                    Some(event) => {
                        if let Some(found) = known(event) {
                            return Ok(found);
                        }
                    }
                    None => return Err(PeopleError::Left(word)),
                }
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.map_err(|_| PeopleError::Silent(word))?
    }
}
