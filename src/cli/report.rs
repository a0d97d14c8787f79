//! How `apply` shows what happens: live on a terminal, plain timestamped lines elsewhere, JSON lines for scripts.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use super::args::Output;
use super::object::Session;
use super::output;
use crate::plan::{Awaited, Wait};
use crate::render::apply::{CopyFigures, Event, Narrator, Pace, Told, waiting};
use crate::render::{between, time};

/// Shows events.
pub struct Report<'a> {
    session: &'a Session,
    object: String,
    way: Mutex<Way>,
}

enum Way {
    Json(Pace),
    Plain(Narrator),
    Live { narrator: Narrator, area: MultiProgress, bars: Vec<ProgressBar> },
}

impl<'a> Report<'a> {
    /// For one object.
    #[must_use]
    pub fn new(session: &'a Session, object: &str) -> Self {
        let way = match session.output {
            Output::Json => Way::Json(Pace::default()),
            Output::Text if std::io::stdout().is_terminal() => Way::Live {
                narrator: Narrator::default(),
                area: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
                bars: Vec::new(),
            },
            Output::Text => Way::Plain(Narrator::default()),
        };
        Self { session, object: object.to_owned(), way: Mutex::new(way) }
    }

    /// Shows one event.
    pub fn tell(&self, told: &Told) {
        #[derive(Serialize)]
        struct Line<'a> {
            object: &'a str,
            #[serde(flatten)]
            told: &'a Told,
        }
        match &mut *self.way.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Json(pace) => {
                if pace.is_due(told) {
                    output::json_line(&Line { object: &self.object, told });
                }
            }
            Way::Plain(narrator) => {
                narrator.lines(told).iter().for_each(|line| output::line(&self.session.pasteable(line)));
            }
            Way::Live { narrator, area, bars } => match &told.event {
                Event::Waiting { waits, copy } => wait(area, bars, waits, copy.as_ref(), told.at),
                event => {
                    // What was waited for before a call is over, or is said anew after it.
                    if let Event::Ended { .. } | Event::Phase { .. } | Event::Begun { .. } = event {
                        bars.drain(..).for_each(|bar| bar.finish_and_clear());
                    }
                    for line in narrator.news(told) {
                        let _ = area.println(format!("{}  {}", time(told.at), self.session.pasteable(&line)));
                    }
                }
            },
        }
    }
}

/// One moving line for each thing that is waited for.
fn wait(area: &MultiProgress, bars: &mut Vec<ProgressBar>, waits: &[Wait], copy: Option<&CopyFigures>, now: Timestamp) {
    while bars.len() > waits.len() {
        if let Some(bar) = bars.pop() {
            bar.finish_and_clear();
        }
    }
    for (at, wait) in waits.iter().enumerate() {
        let known = bars.get(at).cloned();
        let bar = known.clone().unwrap_or_else(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
        let bulk = copy.filter(|copy| copy.bulk && copy.total > 0 && wait.on == Awaited::CopyCaughtUp);
        if let Some(copy) = bulk {
            bar.set_style(style("{spinner} {msg} [{bar:24}] {percent}%  {elapsed}"));
            bar.set_length(copy.total);
            bar.set_position(copy.copied);
        } else {
            bar.set_style(style("{spinner} {msg}  {elapsed}"));
        }
        bar.set_elapsed(between(wait.since, now));
        bar.set_message(waiting(wait, copy, now, ""));
        if known.is_none() {
            let bar = area.add(bar);
            bar.enable_steady_tick(Duration::from_millis(120));
            bars.push(bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
