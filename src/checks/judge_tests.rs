use super::*;

fn result(name: &str, verdict: Verdict) -> CheckResult {
    CheckResult {
        name: name.to_owned(),
        service: None,
        severity: Severity::Gate,
        required: false,
        verdict,
        message: String::new(),
    }
}

fn required(name: &str, verdict: Verdict) -> CheckResult {
    CheckResult { required: true, ..result(name, verdict) }
}

fn skipped() -> Verdict {
    Verdict::Skipped("not reachable from the operator".to_owned())
}

#[test]
fn every_combination_of_before_and_now_is_decided() {
    use Verdict::{Fail, Inconclusive, Pass};
    let (passed, regressed, undecided) = ("passed", "regressed", "undecided");
    let table = [
        // before, now, not required, required
        (None, Pass, passed, passed),
        (None, Fail, regressed, regressed),
        (None, Inconclusive, undecided, undecided),
        (None, skipped(), passed, passed),
        (Some(Pass), Pass, passed, passed),
        (Some(Pass), Fail, regressed, regressed),
        (Some(Pass), Inconclusive, undecided, undecided),
        (Some(Pass), skipped(), passed, passed),
        (Some(Fail), Pass, passed, passed),
        (Some(Fail), Fail, passed, regressed),
        (Some(Fail), Inconclusive, undecided, undecided),
        (Some(Fail), skipped(), passed, passed),
        (Some(Inconclusive), Pass, passed, passed),
        (Some(Inconclusive), Fail, undecided, regressed),
        (Some(Inconclusive), Inconclusive, undecided, undecided),
        (Some(Inconclusive), skipped(), passed, passed),
        (Some(skipped()), Pass, passed, passed),
        (Some(skipped()), Fail, regressed, regressed),
        (Some(skipped()), Inconclusive, undecided, undecided),
        (Some(skipped()), skipped(), passed, passed),
    ];
    let word = |judgement: Judgement| match judgement {
        Judgement::Passed => passed,
        Judgement::Regressed(_) => regressed,
        Judgement::Undecided(_) => undecided,
    };
    for (before, now, optional, needed) in table {
        let baseline: Vec<_> = before.iter().map(|verdict| result("a", verdict.clone())).collect();
        assert_eq!(word(judge(&baseline, &[result("a", now.clone())])), optional, "{before:?} → {now:?}");
        assert_eq!(word(judge(&baseline, &[required("a", now.clone())])), needed, "{before:?} → {now:?}, required");
    }
}

#[test]
fn the_same_check_on_another_service_is_another_check() {
    let on = |service: &str, verdict| CheckResult { service: Some(service.to_owned()), ..result("a", verdict) };
    let baseline = [on("web", Verdict::Fail), on("api", Verdict::Pass)];
    assert_eq!(judge(&baseline, &[on("web", Verdict::Fail)]), Judgement::Passed);
    assert_eq!(judge(&baseline, &[on("api", Verdict::Fail)]), Judgement::Regressed(vec![on("api", Verdict::Fail)]));
}

#[test]
fn a_warning_never_decides() {
    for verdict in [Verdict::Fail, Verdict::Inconclusive] {
        let warning = CheckResult { severity: Severity::Warn, ..required("a", verdict) };
        assert_eq!(judge(&[], &[warning]), Judgement::Passed);
    }
}

#[test]
fn a_regression_outweighs_what_is_undecided() {
    let results = [result("a", Verdict::Inconclusive), result("b", Verdict::Fail)];
    assert_eq!(judge(&[], &results), Judgement::Regressed(vec![result("b", Verdict::Fail)]));
}

#[test]
fn what_is_expected_to_be_unsupported_passes_when_it_is_and_when_it_came_to_work() {
    let table = [
        (Outcome::Works, Verdict::Pass, Verdict::Pass),
        (Outcome::Broken, Verdict::Fail, Verdict::Fail),
        (Outcome::Unsupported, Verdict::Fail, Verdict::Pass),
        (Outcome::Unclear, Verdict::Inconclusive, Verdict::Inconclusive),
        (Outcome::Skipped("why".to_owned()), Verdict::Skipped("why".to_owned()), Verdict::Skipped("why".to_owned())),
    ];
    for (outcome, pass, unsupported) in table {
        assert_eq!(outcome.clone().verdict(Expect::Pass), pass);
        assert_eq!(outcome.verdict(Expect::Unsupported), unsupported);
    }
}
