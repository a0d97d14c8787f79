//! A patch changes what it names and nothing else.

use aws_sdk_apprunner::types::{ImageRepository, ImageRepositoryType};
use pretty_assertions::assert_eq;

use super::*;

fn source() -> SourceConfiguration {
    let mut settings = ImageConfiguration::builder().port("8080").start_command("run");
    for index in 0..40 {
        settings =
            settings.runtime_environment_variables(format!("VARIABLE_{index}"), format!(" kept as it is {index}\n"));
    }
    let settings = settings
        .runtime_environment_variables("REDIS_URL", "redis://old")
        .runtime_environment_secrets("API_KEY", "arn:foreign")
        .build();
    let image = ImageRepository::builder()
        .image_identifier("x:1")
        .image_repository_type(ImageRepositoryType::EcrPublic)
        .image_configuration(settings)
        .build()
        .unwrap();
    SourceConfiguration::builder().image_repository(image).auto_deployments_enabled(true).build()
}

fn maps(source: &SourceConfiguration) -> (HashMap<String, String>, HashMap<String, String>) {
    let (plain, references) = service::environment(source).unwrap();
    (plain.cloned().unwrap_or_default(), references.cloned().unwrap_or_default())
}

#[test]
fn forty_foreign_variables_stay_bit_for_bit() {
    let (mut plain, mut references) = maps(&source());
    let next = changed(source(), vec![("REDIS_URL".into(), Change::Reference("arn:ours".into()))]).unwrap();
    plain.remove("REDIS_URL");
    references.insert("REDIS_URL".into(), "arn:ours".into());
    assert_eq!(maps(&next), (plain, references));
    assert_eq!(next.auto_deployments_enabled, Some(true));
    let image = next.image_repository.unwrap().image_configuration.unwrap();
    assert_eq!((image.port.as_deref(), image.start_command.as_deref()), (Some("8080"), Some("run")));
}

#[test]
fn a_variable_is_never_in_both_maps() {
    let by_reference = changed(source(), vec![("REDIS_URL".into(), Change::Reference("arn:ours".into()))]).unwrap();
    let plain_again =
        changed(by_reference, vec![("REDIS_URL".into(), Change::Plain("redis://old".to_owned().into()))]).unwrap();
    assert_eq!(maps(&plain_again), maps(&source()));
    let gone = changed(plain_again, vec![("REDIS_URL".into(), Change::Gone)]).unwrap();
    let (plain, references) = maps(&gone);
    assert!(!plain.contains_key("REDIS_URL") && !references.contains_key("REDIS_URL"));
}

#[test]
fn a_service_without_any_variable_gets_its_first() {
    let image = ImageRepository::builder()
        .image_identifier("x:1")
        .image_repository_type(ImageRepositoryType::EcrPublic)
        .build()
        .unwrap();
    let bare = SourceConfiguration::builder().image_repository(image).build();
    let next = changed(bare, vec![("REDIS_URL".into(), Change::Reference("arn:ours".into()))]).unwrap();
    assert_eq!(maps(&next).1["REDIS_URL"], "arn:ours");
    let back = changed(next, vec![("REDIS_URL".into(), Change::Gone)]).unwrap();
    let settings = back.image_repository.unwrap().image_configuration.unwrap();
    assert_eq!((settings.runtime_environment_variables, settings.runtime_environment_secrets), (None, None));
}

#[test]
fn a_failure_before_the_call_is_not_a_lost_reply() {
    let patch = ServicePatch {
        service: "web".into(),
        arn: "arn:web".into(),
        direction: crate::journal::Direction::Forward,
        set: std::collections::BTreeMap::new(),
        unset: Vec::new(),
        egress: None,
        auto_deployments: None,
        expect: crate::step::Expect { foreign: "f".into(), newest_operation: None, journal: 1 },
    };
    let lost = CloudError::new(Class::Transient, SERVICE, "DescribeService", "", "no answer within 10 s");
    let told = before(&patch, lost);
    assert!(!told.class.is_ambiguous(), "{told}");
    assert!(told.message.contains("not called") && told.message.contains("DescribeService"), "{told}");
    let denied = CloudError::new(Class::Denied, SERVICE, "DescribeService", "AccessDeniedException", "");
    assert_eq!(before(&patch, denied.clone()), denied);
}
