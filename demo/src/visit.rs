//! `demo visit`: a crowd as a process of its own, so that it can stand where people stand (outside, with the names and
//! trust roots of the internet). It is told what to do by lines on stdin and says what it sees by JSON lines on stdout:
//! `move` → `moving`, `leave` → `findings`. The end of stdin ends it, whoever started it is gone.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::browser::Browser;
use crate::crowd::{Crowd, Visit};
use crate::tally::Findings;
use crate::visitor::Habits;

/// How often the crowd says how it is.
const BEAT: Duration = Duration::from_secs(1);

/// Who visits what.
#[derive(Debug, Clone, Args)]
pub struct VisitArgs {
    /// The service, such as `https://abc.us-east-1.awsapprunner.com`.
    #[arg(long)]
    pub url: String,
    /// People who click.
    #[arg(long, default_value_t = 300)]
    pub visitors: usize,
    /// Sessions logged in before the move.
    #[arg(long, default_value_t = 5000)]
    pub sessions: usize,
    /// The lag the migration promises, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub max_lag_ms: u64,
    /// Shortest pause between two clicks of a person, in milliseconds.
    #[arg(long, default_value_t = 300)]
    pub shortest_pause_ms: u64,
    /// Longest pause between two clicks of a person, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    pub longest_pause_ms: u64,
    /// Longest time a slow page works, in milliseconds; must stay below the app's longest request.
    #[arg(long, default_value_t = 3500)]
    pub slow_page_ms: u64,
    /// Seed of everything people choose.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What the crowd says, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum VisitEvent {
    /// All sessions are logged in, people begin to click.
    Entered {
        /// Sessions logged in.
        sessions: u64,
        /// How long the logins took.
        took_ms: u64,
    },
    /// A line of progress.
    Pulse {
        /// Requests since people began to click.
        requests: u64,
        /// How many of them failed.
        failed: u64,
        /// How many instances serve from each store.
        serving: BTreeMap<String, u64>,
    },
    /// The answer to `move`: from now on requests count as sent during the move.
    Moving {
        /// Sessions logged in at this moment.
        sessions: u64,
        /// Requests until this moment.
        requests: u64,
    },
    /// The answer to `leave`, and the last word.
    Findings(Box<Findings>),
}

impl VisitArgs {
    fn crowd(&self) -> Crowd {
        Crowd {
            visitors: self.visitors.max(1),
            sessions: self.sessions,
            max_lag: Duration::from_millis(self.max_lag_ms),
            seed: self.seed,
            habits: Habits {
                pause_ms: self.shortest_pause_ms..=self.longest_pause_ms.max(self.shortest_pause_ms),
                slow_ms: self.slow_page_ms.min(1000)..=self.slow_page_ms,
            },
        }
    }
}

/// Runs the crowd until it is told to leave.
///
/// # Errors
/// When the service cannot be entered or a visitor broke down.
pub async fn visit(args: &VisitArgs) -> Result<(), Box<dyn std::error::Error>> {
    let browser = Browser::new(&args.url)?;
    let began = Instant::now();
    let crowd = args.crowd();
    let mut visit = crowd.enter(&browser).await?;
    let took_ms = u64::try_from(began.elapsed().as_millis())?;
    say(&VisitEvent::Entered { sessions: crowd.sessions as u64, took_ms })?;
    if obey(&mut visit).await? {
        let findings = visit.finish().await?;
        say(&VisitEvent::Findings(Box::new(findings)))?;
    }
    Ok(())
}

/// Follows the lines on stdin; `true` = leave and tell, `false` = nobody listens any more.
async fn obey(visit: &mut Visit) -> Result<bool, Box<dyn std::error::Error>> {
    let mut lines = words();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            line = lines.recv() => match line.as_deref().map(str::trim) {
                Some("move") => {
                    let sessions = visit.begin_move();
                    say(&VisitEvent::Moving { sessions, requests: visit.pulse().0 })?;
                }
                Some("leave") => return Ok(true),
                Some("") => {}
                Some(other) => return Err(format!("`{other}` is no word a crowd knows: move, leave").into()),
                None => return Ok(false),
            },
            _ = beat.tick() => {
                let (requests, failed) = visit.pulse();
                say(&VisitEvent::Pulse { requests, failed, serving: visit.serving() })?;
            }
        }
    }
}

/// Lines of stdin, read by a thread of its own: a runtime would wait for its last read before it can end.
fn words() -> mpsc::Receiver<String> {
    let (tell, words) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    words
}

fn say(event: &VisitEvent) -> Result<(), Box<dyn std::error::Error>> {
    let line = serde_json::to_string(event)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
