//! Every row of the table in DESIGN §7.2 by name, the laws over the whole small domain, and long random histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Act, CLOCK_GRACE, Conflict, Deadline, Entry, Kind, Outcome, SAME_MOMENT, Side, merge};

const NOW: i64 = 1_000_000;

#[expect(clippy::unnecessary_wraps, reason = "every side of a case is an option")]
fn entry(digest: u64, millis: i64) -> Option<Entry> {
    Some(Entry { digest, deadline: Deadline::at(millis) })
}

fn session(base: Option<Entry>, old: Option<Entry>, new: Option<Entry>) -> Outcome {
    merge(base, old, new, Kind::Session, NOW)
}

#[test]
fn a_change_a_renewal_and_a_birth_are_carried_with_their_deadline() {
    let base = entry(1, NOW + 5_000);
    for seen in [entry(2, NOW + 5_000), entry(1, NOW + 9_000), entry(1, NOW + 2_000), entry(1, -1)] {
        let out = session(base, seen, base);
        assert_eq!((out.agreed, out.old, out.conflict), (seen, Act::Keep, None));
        assert!(matches!(out.new, Act::Put(_) | Act::Renew(_)), "{out:?}");
        assert_eq!(session(base, base, seen).old, out.new);
    }
    assert_eq!(session(None, entry(1, NOW + 1), None).new, Act::Put(Deadline::at(NOW + 1)));
    assert_eq!(session(None, None, entry(1, -1)).old, Act::Put(Deadline::NEVER));
}

#[test]
fn two_renewals_end_at_the_later() {
    let out = session(entry(1, NOW + 1_000), entry(1, NOW + 8_000), entry(1, NOW + 9_000));
    assert_eq!((out.old, out.new), (Act::Renew(Deadline::at(NOW + 9_000)), Act::Keep));
    let out = session(entry(1, NOW + 1_000), entry(1, -1), entry(1, NOW + 9_000));
    assert_eq!((out.old, out.new), (Act::Keep, Act::Renew(Deadline::NEVER)));
}

#[test]
fn a_changed_value_meets_a_renewal_and_takes_the_later_deadline() {
    let (base, changed, renewed) = (entry(1, NOW + 1_000), entry(2, NOW + 1_000), entry(1, NOW + 9_000));
    let both = entry(2, NOW + 9_000);
    let out = session(base, changed, renewed);
    assert_eq!((out.agreed, out.conflict), (both, None));
    assert_eq!((out.old, out.new), (Act::Renew(Deadline::at(NOW + 9_000)), Act::Put(Deadline::at(NOW + 9_000))));
    assert_eq!(session(base, renewed, changed).agreed, both);
}

#[test]
fn a_logout_does_not_come_back() {
    let base = entry(1, NOW + 60_000);
    for seen in [base, entry(1, NOW + 90_000), entry(2, NOW + 60_000)] {
        let out = session(base, None, seen);
        assert_eq!((out.agreed, out.old, out.new), (None, Act::Keep, Act::Delete));
        assert_eq!(out.conflict, (seen == entry(2, NOW + 60_000)).then_some(Conflict::DeletedAndChanged));
    }
}

#[test]
fn changed_data_survives_a_deletion_and_is_counted() {
    let base = entry(1, NOW + 60_000);
    let out = merge(base, None, entry(2, -1), Kind::Data, NOW);
    assert_eq!((out.old, out.new), (Act::Put(Deadline::NEVER), Act::Keep));
    assert_eq!(out.conflict, Some(Conflict::DeletedAndChanged));
    assert_eq!(merge(base, None, base, Kind::Data, NOW).new, Act::Delete);
}

#[test]
fn expiry_is_not_deletion() {
    let base = entry(1, NOW);
    let renewed = entry(1, NOW + 9_000);
    assert_eq!(session(base, None, renewed).old, Act::Put(Deadline::at(NOW + 9_000)));
    let nearly = entry(1, NOW + CLOCK_GRACE);
    assert_eq!(session(nearly, None, renewed).old, Act::Put(Deadline::at(NOW + 9_000)));
    let deleted = entry(1, NOW + CLOCK_GRACE + 1);
    assert_eq!(session(deleted, None, renewed).new, Act::Delete);
    // What is past its deadline but still in somebody's reading is neither carried nor deleted.
    assert!(session(None, base, None).is_quiet());
}

#[test]
fn of_two_different_changes_of_a_session_the_later_one_stays_and_it_is_a_conflict() {
    let (base, early, late) = (entry(1, NOW + 1_000), entry(2, NOW + 5_000), entry(3, NOW + 9_000));
    let put = Act::Put(Deadline::at(NOW + 9_000));
    let out = session(base, late, early);
    assert_eq!((out.agreed, out.old, out.new), (late, Act::Keep, put));
    assert_eq!(out.conflict, Some(Conflict::BothChanged));
    let out = session(base, early, late);
    assert_eq!((out.agreed, out.old, out.new), (late, put, Act::Keep));
    assert_eq!(out.conflict, Some(Conflict::BothChanged));
}

#[test]
fn of_two_different_changes_that_end_at_once_and_of_data_the_new_store_wins() {
    let (old, new) = (entry(2, NOW + 9_000), entry(3, NOW + 9_000));
    assert_eq!(session(None, entry(2, NOW + 9_000 + SAME_MOMENT), new).agreed, entry(3, NOW + 9_000 + SAME_MOMENT));
    assert_eq!(session(entry(1, NOW + 1_000), old, new).agreed, new);
    assert_eq!(session(entry(1, -1), entry(2, -1), entry(3, -1)).agreed, entry(3, -1));
    let out = merge(entry(1, NOW + 1_000), old, entry(3, NOW + 5_000), Kind::Data, NOW);
    assert_eq!(out.agreed, entry(3, NOW + 9_000));
    assert_eq!((out.old, out.new), (Act::Put(Deadline::at(NOW + 9_000)), Act::Renew(Deadline::at(NOW + 9_000))));
    assert_eq!(out.conflict, Some(Conflict::BothChanged));
    assert_eq!(session(None, entry(2, -1), entry(3, -1)).conflict, Some(Conflict::NeverAgreed));
    assert_eq!(session(None, entry(2, -1), entry(2, -1)).conflict, None);
}

fn domain() -> Vec<Option<Entry>> {
    let mut all = vec![None];
    for digest in 1..=3 {
        for at in [NOW - 1, NOW, NOW + 1, NOW + CLOCK_GRACE, NOW + 10_000, NOW + 20_000, -1] {
            all.push(entry(digest, at));
        }
    }
    all
}

/// What a store holds after its act; the other side's value is what is put.
fn applied(act: Act, seen: Option<Entry>, other: Option<Entry>) -> Option<Entry> {
    match act {
        Act::Keep => seen.filter(|entry| entry.deadline > Deadline::at(NOW)),
        Act::Put(deadline) => other.map(|entry| Entry { deadline, ..entry }),
        Act::Renew(deadline) => seen.map(|entry| Entry { deadline, ..entry }),
        Act::Delete => None,
    }
}

#[test]
fn the_laws_hold_over_the_whole_domain() {
    for kind in [Kind::Session, Kind::Data] {
        for base in domain() {
            for old in domain() {
                for new in domain() {
                    laws(base, old, new, kind);
                }
            }
        }
    }
}

fn laws(base: Option<Entry>, old: Option<Entry>, new: Option<Entry>, kind: Kind) {
    let out = merge(base, old, new, kind, NOW);
    let case = format!("{kind:?} base {base:?} old {old:?} new {new:?}: {out:?}");

    // Carried out, both hold what was agreed, and asking again (the echo of our own writes) changes nothing.
    let (then_old, then_new) = (applied(out.old, old, new), applied(out.new, new, old));
    assert_eq!((then_old, then_new), (out.agreed, out.agreed), "{case}");
    let again = merge(out.agreed, then_old, then_new, kind, NOW);
    assert!(again.is_quiet() && again.agreed == out.agreed && again.conflict.is_none(), "{case}");

    // The same with the stale base (a runner that died after the writes): nothing is undone, nothing is a conflict.
    let stale = merge(base, then_old, then_new, kind, NOW);
    assert!(stale.is_quiet() && stale.conflict.is_none(), "{case} then {stale:?}");

    // Sides are equals except where the new store wins.
    let swapped = merge(base, new, old, kind, NOW);
    assert_eq!(swapped.conflict, out.conflict, "{case}");
    if !matches!(out.conflict, Some(Conflict::BothChanged | Conflict::NeverAgreed)) {
        assert_eq!((swapped.agreed, swapped.old, swapped.new), (out.agreed, out.new, out.old), "{case}");
    }

    // Nothing is invented, and what both hold is never deleted.
    let alive = |seen: Option<Entry>| seen.filter(|entry| entry.deadline > Deadline::at(NOW));
    let (old, new) = (alive(old), alive(new));
    if let Some(agreed) = out.agreed {
        assert!([old, new].iter().flatten().any(|entry| entry.digest == agreed.digest), "{case}");
    }
    if old.is_some() && new.is_some() {
        assert!(out.agreed.is_some(), "{case}");
    }
    // Expired is never a deletion.
    if base.is_none_or(|base| base.deadline <= Deadline::at(NOW)) {
        assert!(out.old != Act::Delete && out.new != Act::Delete, "{case}");
    }
    // A logout never comes back.
    if let (Kind::Session, Some(base)) = (kind, base)
        && base.deadline > Deadline::at(NOW + CLOCK_GRACE)
        && (old.is_none() || new.is_none())
    {
        assert_eq!(out.agreed, None, "{case}");
    }
}

/// One write and its echo in halves: a store may move between our read and our write. Then the write is refused
/// (compare-and-set) and the next merge sees the truth, so a two-sided decision must be safe to stop half way.
#[test]
fn a_decision_carried_out_on_the_new_store_only_keeps_its_meaning() {
    for base in domain() {
        for old in domain().into_iter().flatten() {
            for new in domain().into_iter().flatten() {
                let out = merge(base, Some(old), Some(new), Kind::Session, NOW);
                if out.old == Act::Keep || out.new == Act::Keep {
                    continue;
                }
                // The new store is written first, with what the old store held as base.
                let then_new = applied(out.new, Some(new), Some(old));
                let rest = merge(Some(old), Some(old), then_new, Kind::Session, NOW);
                assert_eq!(
                    (rest.agreed, rest.new, rest.conflict),
                    (out.agreed, Act::Keep, None),
                    "{base:?} {old:?} {new:?}"
                );
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Login(Side, u8),
    Click(Side, u8),
    Renew(Side, u8),
    Logout(Side, u8),
    Merge,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    let side = prop_oneof![Just(Side::Old), Just(Side::New)];
    (0_u8..9, side, 0_u8..4).prop_map(|(what, side, key)| match what {
        0 => Event::Login(side, key),
        1 | 2 => Event::Click(side, key),
        3 | 4 => Event::Renew(side, key),
        5 => Event::Logout(side, key),
        6 => Event::Wait,
        _ => Event::Merge,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Two stores, sessions, and a merge now and then: afterwards both agree, no session that somebody holds and
    /// nobody logged out is missing, and none that was logged out is there.
    #[test]
    fn histories_end_in_agreement(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::default();
        for (step, event) in events.into_iter().enumerate() {
            world.play(event, step as u64);
        }
        world.play(Event::Merge, 0);
        prop_assert_eq!(world.live(&world.old), world.live(&world.new));
        for key in 0..4_u8 {
            let there = world.live(&world.old).contains_key(&key);
            if world.logged_out.contains(&key) {
                prop_assert!(!there, "session {} came back", key);
            } else if world.held.get(&key).is_some_and(|until| *until > world.now) {
                prop_assert!(there, "session {} was lost", key);
            }
        }
    }
}

#[derive(Default)]
struct World {
    now: i64,
    base: BTreeMap<u8, Entry>,
    old: BTreeMap<u8, Entry>,
    new: BTreeMap<u8, Entry>,
    /// Acknowledged to a user, until then.
    held: BTreeMap<u8, i64>,
    logged_out: BTreeSet<u8>,
}

impl World {
    fn live(&self, store: &BTreeMap<u8, Entry>) -> BTreeMap<u8, Entry> {
        let now = Deadline::at(self.now);
        store.iter().filter(|(_, entry)| entry.deadline > now).map(|(key, entry)| (*key, *entry)).collect()
    }

    fn play(&mut self, event: Event, step: u64) {
        let now = self.now;
        let until = now + 10_000;
        let deadline = Deadline::at(until);
        let held = match event {
            // Session ids are fresh at every login: a key that lived before is not used again.
            Event::Login(_, key) if self.held.contains_key(&key) => None,
            Event::Login(side, key) => {
                self.store(side).insert(key, Entry { digest: step + 1, deadline });
                Some(key)
            }
            Event::Click(side, key) => self.alive(side, key).map(|entry| {
                *entry = Entry { digest: step + 1, deadline };
                key
            }),
            Event::Renew(side, key) => self.alive(side, key).map(|entry| {
                entry.deadline = deadline;
                key
            }),
            Event::Logout(side, key) => {
                if self.alive(side, key).is_some() {
                    self.store(side).remove(&key);
                    self.logged_out.insert(key);
                    // A store that does not know the session yet forgets nothing: carry it before the next event.
                }
                self.merge_all();
                None
            }
            Event::Merge => {
                self.merge_all();
                None
            }
            Event::Wait => {
                // Renewals are carried well before a deadline (the lag is far below a session's life).
                self.merge_all();
                self.now += 4_000;
                None
            }
        };
        if let Some(key) = held {
            self.held.insert(key, until);
            // A birth is carried before the other side is asked to log it out (that is the lag, refused meanwhile).
            if matches!(event, Event::Login(..)) {
                self.merge_all();
            }
        }
    }

    fn store(&mut self, side: Side) -> &mut BTreeMap<u8, Entry> {
        match side {
            Side::Old => &mut self.old,
            Side::New => &mut self.new,
        }
    }

    fn alive(&mut self, side: Side, key: u8) -> Option<&mut Entry> {
        let now = Deadline::at(self.now);
        self.store(side).get_mut(&key).filter(|entry| entry.deadline > now)
    }

    fn merge_all(&mut self) {
        for key in 0..4_u8 {
            let (old, new) = (self.live(&self.old).get(&key).copied(), self.live(&self.new).get(&key).copied());
            let agreed = merge(self.base.get(&key).copied(), old, new, Kind::Session, self.now).agreed;
            for store in [&mut self.old, &mut self.new, &mut self.base] {
                match agreed {
                    Some(entry) => store.insert(key, entry),
                    None => store.remove(&key),
                };
            }
        }
    }
}
