//! What a status says of figures that move all the time.

use super::*;
use crate::api::Condition;
use crate::journal::Uncarried;
use crate::status::condition::EventKind;

#[test]
fn a_lag_is_told_in_steps() {
    let told = [0, 900, 1_000, 1_001, 4_200, 59_000, 301_000].map(lag);
    assert_eq!(told, ["1s", "1s", "1s", "2s", "5s", "60s", "over 300s"]);
}

#[test]
fn progress_is_told_in_steps_of_five() {
    let copy = |copied, state| Copy {
        state,
        heartbeat: Timestamp::UNIX_EPOCH,
        here: true,
        total: 1000,
        copied,
        lag_ms: None,
        worst_lag_ms: 0,
        conflicts: 0,
        quiet_sweeps: 0,
        quiet_since: None,
        drained: None,
        clients_from: None,
        clients_to: None,
        connected_from: Vec::new(),
        connected_to: Vec::new(),
        asked: None,
        different: None,
        uncarried_from: Uncarried::default(),
        uncarried_to: Uncarried::default(),
        other: None,
    };
    for (copied, told) in [(0, "Copying 0%"), (49, "Copying 0%"), (50, "Copying 5%"), (999, "Copying 95%")] {
        assert_eq!(progress(Phase::Copying, Some(&copy(copied, CopyState::Bulk))), told);
    }
    assert_eq!(progress(Phase::Copying, Some(&copy(0, CopyState::Following))), "Copying 100%");
    assert_eq!(progress(Phase::Baking, Some(&copy(7, CopyState::BothWays))), "Baking");
    let empty = Copy { total: 0, ..copy(0, CopyState::Starting) };
    assert_eq!(progress(Phase::Copying, Some(&empty)), "Copying");
}

#[test]
fn a_figure_that_was_measured_anew_is_no_news_and_an_answer_is() {
    let told = |verdict: &str, message: &str| SessionBackendStatus {
        checks: vec![CheckStatus {
            name: "alive".to_owned(),
            verdict: verdict.to_owned(),
            message: Some(message.to_owned()),
            ..CheckStatus::default()
        }],
        ..stalled("True", &format!("alive: {message}"))
    };
    for (before, after) in [
        ("GET / answered 200 in 20 ms", "GET / answered 200 in 1734 ms"),
        ("PING; p99 1.2 ms, 7 of 1000 connections", "PING; p99 0.9 ms, 12 of 1000 connections"),
        ("\"refused\" appears once since 2026-01-01T00:00:00Z", "\"refused\" appears once since 2026-01-01T00:05:00Z"),
    ] {
        assert!(says_the_same(&told("Pass", before), &told("Pass", after)), "{after}");
        assert!(!says_the_same(&told("Pass", before), &told("Fail", before)), "{before}");
    }
    let answered = |code: u16| told("Fail", &format!("GET /: answered {code}, expected 200"));
    assert!(!says_the_same(&answered(500), &answered(404)));
    let elsewhere = |host: &str| told("Fail", &format!("{host}:6379 does not answer"));
    assert!(!says_the_same(&elsewhere("10.0.0.5"), &elsewhere("10.0.0.6")));
    let read = |some: u8| SessionBackendStatus {
        summary: Summary { message: format!("read {some} of 5"), ..Summary::default() },
        ..SessionBackendStatus::default()
    };
    assert!(!says_the_same(&read(1), &read(4)), "what is no check's is told");
}

fn stalled(status: &str, message: &str) -> SessionBackendStatus {
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
    let condition = Condition {
        type_: "Stalled".to_owned(),
        status: status.to_owned(),
        reason: "CheckFailed".to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: time,
    };
    SessionBackendStatus { conditions: vec![condition], ..SessionBackendStatus::default() }
}

#[test]
fn an_event_is_a_flip_and_no_longer_than_the_api_server_takes() {
    let (calm, bad) = (stalled("False", ""), stalled("True", &"x".repeat(5000)));
    let events = transitions(Some(&calm), &bad);
    assert_eq!((events.len(), events[0].kind), (1, EventKind::Warning));
    assert!(events[0].message.len() <= 1024 && events[0].message.starts_with("Stalled=True: x"));
    assert_eq!(transitions(Some(&bad), &bad), []);
    assert_eq!(transitions(Some(&bad), &calm)[0].kind, EventKind::Normal);
}
