//! One visitor: which of its sessions it uses next, for what, and how long it pauses. Pure and seeded: the same seed
//! and the same answers give the same day. It must not talk to anybody.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::judge::Memory;

/// How people behave.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Pause between two clicks, in milliseconds.
    pub pause_ms: RangeInclusive<u64>,
    /// How long the page behind a slow click works, in milliseconds; less than the app's longest request.
    pub slow_ms: RangeInclusive<u64>,
}

/// What a visitor does next; numbers index [`Visitor::sessions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Log in once more, as from another tab.
    LogIn,
    /// Click; the page behind it works this long before it saves.
    Click(usize, Duration),
    /// Stay logged in.
    Renew(usize),
    /// Look.
    Look(usize),
    /// Log out.
    LogOut(usize),
    /// Press "back" on a session that was logged out.
    LookBack(usize),
}

/// A person with some tabs open.
#[derive(Debug)]
pub struct Visitor {
    /// The name given at a login.
    pub user: String,
    /// Every session this visitor ever had.
    pub sessions: Vec<Memory>,
    live: Vec<usize>,
    current: usize,
    rng: StdRng,
}

impl Visitor {
    /// A visitor without sessions, whose choices follow from the seed.
    pub fn new(number: u64, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { user: format!("visitor-{number}"), sessions: Vec::new(), live: Vec::new(), current: 0, rng }
    }

    /// Remembers a new session and goes on with it.
    pub fn logged_in(&mut self, memory: Memory) {
        self.live.push(self.sessions.len());
        self.current = self.sessions.len();
        self.sessions.push(memory);
    }

    /// How long to pause before the next click.
    pub fn pause(&mut self, habits: &Habits) -> Duration {
        Duration::from_millis(self.rng.random_range(habits.pause_ms.clone()))
    }

    /// What to do now. Most of the time people stay in the tab they are in.
    pub fn next(&mut self, habits: &Habits) -> Intent {
        let sessions = &self.sessions;
        self.live.retain(|&index| sessions[index].is_live());
        if self.live.is_empty() {
            return Intent::LogIn;
        }
        let stays = self.sessions.get(self.current).is_some_and(Memory::is_live) && self.rng.random_bool(0.6);
        if !stays {
            self.current = self.live[self.rng.random_range(0..self.live.len())];
        }
        let here = self.current;
        match self.rng.random_range(0..1000) {
            0..510 => Intent::Click(here, Duration::ZERO),
            510..520 => Intent::Click(here, Duration::from_millis(self.rng.random_range(habits.slow_ms.clone()))),
            520..740 => Intent::Look(here),
            740..860 => Intent::Renew(here),
            860..915 => Intent::LogOut(here),
            915..975 => Intent::LogIn,
            _ => self.look_back().map_or(Intent::Look(here), Intent::LookBack),
        }
    }

    fn look_back(&mut self) -> Option<usize> {
        let out = self.sessions.len() - self.live.len();
        let wanted = if out == 0 { return None } else { self.rng.random_range(0..out) };
        (0..self.sessions.len()).filter(|&index| !self.sessions[index].is_live()).nth(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::State;

    const HABITS: Habits = Habits { pause_ms: 300..=2000, slow_ms: 1000..=4000 };

    fn visitor(seed: u64) -> Visitor {
        let mut visitor = Visitor::new(3, seed);
        for _ in 0..5 {
            visitor.logged_in(Memory::new("t".to_owned(), Duration::ZERO, Duration::ZERO, Duration::from_hours(2)));
        }
        visitor
    }

    #[test]
    fn the_same_seed_lives_the_same_day_and_another_another() {
        let day = |seed| {
            let mut visitor = visitor(seed);
            (0..200).map(|_| (visitor.next(&HABITS), visitor.pause(&HABITS))).collect::<Vec<_>>()
        };
        assert_eq!(day(1), day(1));
        assert_ne!(day(1), day(2));
    }

    #[test]
    fn everything_people_do_is_done_and_pauses_keep_to_the_habits() {
        let mut visitor = visitor(7);
        visitor.sessions[0].state = State::LoggedOut(Duration::from_secs(1));
        let mut seen = [0_u32; 6];
        for _ in 0..5000 {
            let slot = match visitor.next(&HABITS) {
                Intent::LogIn => 0,
                Intent::Click(..) => 1,
                Intent::Renew(_) => 2,
                Intent::Look(_) => 3,
                Intent::LogOut(_) => 4,
                Intent::LookBack(index) => {
                    assert_eq!(index, 0);
                    5
                }
            };
            seen[slot] += 1;
            let pause = visitor.pause(&HABITS).as_millis();
            assert!((300..=2000).contains(&pause));
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }

    #[test]
    fn who_has_no_session_logs_in() {
        assert_eq!(Visitor::new(1, 1).next(&HABITS), Intent::LogIn);
        let mut visitor = visitor(1);
        for session in &mut visitor.sessions {
            session.state = State::LoggedOut(Duration::ZERO);
        }
        assert_eq!(visitor.next(&HABITS), Intent::LogIn);
    }

    #[test]
    fn nobody_clicks_in_a_session_that_ended() {
        let mut visitor = visitor(11);
        visitor.sessions[2].state = State::Unsure;
        for _ in 0..2000 {
            match visitor.next(&HABITS) {
                Intent::Click(index, _) | Intent::Renew(index) | Intent::Look(index) | Intent::LogOut(index) => {
                    assert_ne!(index, 2);
                }
                Intent::LogIn | Intent::LookBack(_) => {}
            }
        }
    }
}
