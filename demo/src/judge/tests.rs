//! Every verdict and every ending, with the moments where one turns into another.

use super::*;

const LAG: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_hours(2);

fn at(ms: u64) -> At {
    Duration::from_millis(ms)
}

fn session() -> Memory {
    Memory::new("t".to_owned(), at(990), at(1000), TTL)
}

fn exchange(sent: u64, asked: Asked, answer: Answer) -> Exchange {
    Exchange { sent: at(sent), answered: at(sent + 10), asked, answer, by: None }
}

fn done() -> Answer {
    Answer::Accepted { step: None, lifetime: Some(TTL) }
}

fn shown(step: u64) -> Answer {
    Answer::Accepted { step: Some(step), lifetime: Some(TTL) }
}

#[test]
fn a_refusal_is_late_only_beyond_the_lag_after_the_login() {
    let memory = session();
    assert_eq!(judge(&memory, &exchange(6000, Asked::Look, Answer::Refused), LAG), Verdict::RefusedWithinLag(LAG));
    let late = judge(&memory, &exchange(6001, Asked::Look, Answer::Refused), LAG);
    assert_eq!(late, Verdict::RefusedLate(at(5001)));
}

#[test]
fn a_recent_click_does_not_excuse_the_refusal_of_an_old_session() {
    let mut memory = session();
    assert_eq!(memory.hear(&exchange(60_000, Asked::Click(1), done()), LAG), Verdict::Fine);
    let verdict = memory.hear(&exchange(60_500, Asked::Renew, Answer::Refused), LAG);
    assert_eq!(verdict, Verdict::RefusedLate(at(59_500)));
}

#[test]
fn every_broken_answer_fails_whatever_the_session_is() {
    for how in [Broken::Status(503), Broken::TimedOut, Broken::Reset, Broken::Garbled] {
        for state in [State::LoggedIn, State::LoggedOut(at(2000)), State::Unsure] {
            let memory = Memory { state, ..session() };
            let verdict = judge(&memory, &exchange(3000, Asked::Look, Answer::Broken(how.clone())), LAG);
            assert_eq!(verdict, Verdict::Failed(how.clone()));
        }
    }
}

#[test]
fn an_older_value_is_stale_and_is_measured_from_its_acknowledgement() {
    let mut memory = session();
    memory.hear(&exchange(2000, Asked::Click(1), done()), LAG);
    memory.hear(&exchange(3000, Asked::Click(2), done()), LAG);
    assert_eq!(memory.hear(&exchange(3300, Asked::Look, shown(1)), LAG), Verdict::Stale(at(290)));
    assert_eq!(memory.hear(&exchange(3400, Asked::Look, shown(2)), LAG), Verdict::Fine);
}

#[test]
fn a_click_without_an_answer_may_or_may_not_have_happened() {
    let mut memory = session();
    let lost_reply = exchange(2000, Asked::Click(1), Answer::Broken(Broken::TimedOut));
    assert_eq!(memory.hear(&lost_reply, LAG), Verdict::Failed(Broken::TimedOut));
    assert_eq!(memory.step, 0);
    for step in [0, 1] {
        assert_eq!(judge(&memory, &exchange(3000, Asked::Look, shown(step)), LAG), Verdict::Fine);
        assert_eq!(conclude(&memory, &exchange(3000, Asked::Look, shown(step))), Ending::Kept);
    }
}

#[test]
fn a_logged_out_session_that_is_accepted_is_seen_and_in_the_end_a_zombie() {
    let mut memory = session();
    assert_eq!(memory.hear(&exchange(2000, Asked::LogOut, done()), LAG), Verdict::Fine);
    assert!(!memory.is_live());
    let accepted = exchange(2310, Asked::Look, shown(0));
    assert_eq!(judge(&memory, &accepted, LAG), Verdict::AcceptedAfterLogout(at(300)));
    assert_eq!(conclude(&memory, &accepted), Ending::Zombie);
    let refused = exchange(2310, Asked::Look, Answer::Refused);
    assert_eq!(judge(&memory, &refused, LAG), Verdict::Fine);
    assert_eq!(conclude(&memory, &refused), Ending::StayedOut);
}

#[test]
fn a_refused_logout_leaves_the_session_to_be_kept_and_an_unanswered_one_leaves_it_open() {
    let mut memory = session();
    assert!(matches!(memory.hear(&exchange(2000, Asked::LogOut, Answer::Refused), LAG), Verdict::RefusedWithinLag(_)));
    assert!(memory.is_live());
    memory.hear(&exchange(3000, Asked::LogOut, Answer::Broken(Broken::Reset)), LAG);
    assert_eq!(memory.state, State::Unsure);
    for answer in [shown(0), Answer::Refused] {
        assert_eq!(judge(&memory, &exchange(9000, Asked::Look, answer.clone()), LAG), Verdict::Fine);
        assert_eq!(conclude(&memory, &exchange(9000, Asked::Look, answer)), Ending::Open);
    }
}

#[test]
fn in_the_end_a_session_is_lost_when_refused_unreadable_or_older() {
    let mut memory = session();
    memory.hear(&exchange(2000, Asked::Click(1), done()), LAG);
    memory.hear(&exchange(2500, Asked::Click(2), done()), LAG);
    assert_eq!(conclude(&memory, &exchange(90_000, Asked::Look, Answer::Refused)), Ending::Refused);
    let unreadable = exchange(90_000, Asked::Look, Answer::Broken(Broken::Status(503)));
    assert_eq!(conclude(&memory, &unreadable), Ending::Refused);
    let older = conclude(&memory, &exchange(90_000, Asked::Look, shown(1)));
    assert_eq!(older, Ending::Older { shown: 1, acknowledged: 2 });
    assert_eq!(conclude(&memory, &exchange(2600, Asked::Look, shown(2))), Ending::Kept);
}

#[test]
fn a_renewal_that_was_lost_shows_as_a_shorter_life() {
    let mut memory = session();
    memory.hear(&exchange(31_000, Asked::Renew, done()), LAG);
    let look = |seconds| {
        let lifetime = Some(Duration::from_secs(seconds));
        exchange(40_990, Asked::Look, Answer::Accepted { step: Some(0), lifetime })
    };
    assert_eq!(conclude(&memory, &look(7190)), Ending::Kept);
    assert_eq!(conclude(&memory, &look(7188)), Ending::Kept);
    assert_eq!(conclude(&memory, &look(7160)), Ending::Shortened(Duration::from_secs(30)));
}

#[test]
fn a_look_promises_nothing_about_the_lifetime() {
    let mut memory = session();
    let before = memory.lives_until;
    memory.hear(&exchange(31_000, Asked::Look, shown(0)), LAG);
    assert_eq!(memory.lives_until, before);
}

#[test]
fn a_session_whose_time_has_passed_may_be_gone() {
    let memory = Memory::new("t".to_owned(), at(0), at(0), Duration::from_secs(10));
    assert_eq!(conclude(&memory, &exchange(7000, Asked::Look, Answer::Refused)), Ending::Refused);
    assert_eq!(conclude(&memory, &exchange(9000, Asked::Look, Answer::Refused)), Ending::Open);
}

#[test]
fn no_value_is_sent_twice() {
    let mut memory = session();
    assert_eq!([memory.next_step(), memory.next_step(), memory.next_step()], [1, 2, 3]);
}
