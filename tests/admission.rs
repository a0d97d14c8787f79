//! Admission and what it guards agree: what is admitted can be used, what can be used is admitted.
#![allow(clippy::pedantic)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use proptest::prelude::*;
use serde_json::{Value, json};
use sessionbackend::api::admission::admit;
use sessionbackend::api::text;
use sessionbackend::env::Template;

fn object(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "sessionbackend.dev/v1alpha1",
        "kind": "SessionBackend",
        "metadata": { "name": "web" },
        "spec": {
            "aws": { "region": "us-east-1" },
            "services": [{ "name": "web-app" }],
            "store": { "disabled": {} },
            "env": { "format": "Url" },
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn is_admitted(spec: &Value) -> bool {
    admit(&object(spec), None).is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_template_is_admitted_exactly_if_it_can_be_filled(
        pieces in proptest::collection::vec(
            prop_oneof![Just("{".to_owned()), Just("}".to_owned()), Just("{url}".to_owned()), Just("{db}".to_owned()), "[a-z:/@]{0,4}"],
            0..8,
        ),
    ) {
        let text = pieces.concat();
        let admitted = is_admitted(&json!({ "env": { "format": "Template", "template": { "A": "{host}", "B": text } } }));
        prop_assert_eq!(admitted, Template::parse(&text).is_ok(), "{:?}", text);
    }

    #[test]
    fn a_duration_is_admitted_only_if_it_can_be_read(text in "([0-9]{1,3}(h|m|s|ms|d)?){0,3}| 5s|5s |-1s|1\\.5h") {
        if is_admitted(&json!({ "app": { "connectTimeout": text, "sessionTTL": "2h" } })) {
            let read = text::duration(&text);
            prop_assert!(read.is_some_and(|time| !time.is_zero() && time.as_secs() <= 3600), "{:?} {:?}", text, read);
        }
        if let Some(time) = text::duration(&text).filter(|time| (1..=720 * 3600).contains(&time.as_secs()) && time.subsec_millis() == 0)
            && !text.contains("ms")
            && !text.split(['h', 'm', 's']).any(|number| number.starts_with('0'))
        {
            prop_assert!(is_admitted(&json!({ "app": { "sessionTTL": text } })), "{:?} {:?}", text, time);
        }
    }
}

#[test]
fn the_order_of_the_verdicts_is_always_the_same() {
    let broken = object(&json!({
        "aws": { "region": "?", "accountId": "?", "roleArn": "?" },
        "app": { "sessionTTL": "?", "gracePeriod": "?", "connectTimeout": "?" },
        "migration": { "maxLag": "?", "bakeTime": "?" },
        "otherConsumers": [{ "name": "?" }, { "name": "?" }],
    }));
    let first = admit(&broken, None);
    assert_eq!(first.len(), 10);
    for _ in 0..20 {
        assert_eq!(admit(&broken, None), first);
    }
}
