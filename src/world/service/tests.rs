//! What the planner gets to see of a service, built from the SDK's own types.

use aws_sdk_apprunner::primitives::DateTime;
use aws_sdk_apprunner::types::{
    CodeConfiguration, CodeConfigurationValues, CodeRepository, EgressConfiguration, ImageConfiguration,
    ImageRepository, ImageRepositoryType, NetworkConfiguration, OperationStatus as SdkOperationStatus, Runtime,
    Service as SdkService, ServiceStatus as SdkStatus, SourceCodeVersion, SourceCodeVersionType,
};
use pretty_assertions::assert_eq;

use super::*;
use crate::desired::PartNames;
use crate::error::Class;

fn owner() -> Owner {
    Owner {
        installation: "default".into(),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        namespace: "team".into(),
        name: "web".into(),
    }
}

fn image(plain: &[(&str, &str)], references: &[(&str, &str)]) -> SourceConfiguration {
    let map = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    let settings = ImageConfiguration::builder()
        .port("8080")
        .set_runtime_environment_variables(map(plain))
        .set_runtime_environment_secrets(map(references))
        .build();
    let image = ImageRepository::builder()
        .image_identifier("public.ecr.aws/x/web:1")
        .image_repository_type(ImageRepositoryType::EcrPublic)
        .image_configuration(settings)
        .build()
        .unwrap();
    SourceConfiguration::builder().image_repository(image).auto_deployments_enabled(true).build()
}

fn service(source: SourceConfiguration) -> SdkService {
    SdkService::builder()
        .service_name("web")
        .service_id("0123456789abcdef0123456789abcdef")
        .service_arn("arn:aws:apprunner:us-east-1:123456789012:service/web/0123456789abcdef0123456789abcdef")
        .service_url("abc.us-east-1.awsapprunner.com")
        .created_at(DateTime::from_secs(1))
        .updated_at(DateTime::from_secs(2))
        .status(SdkStatus::Running)
        .source_configuration(source)
        .network_configuration(NetworkConfiguration::builder().build())
        .instance_configuration(sdk::InstanceConfiguration::builder().cpu("1024").build())
        .auto_scaling_configuration_summary(sdk::AutoScalingConfigurationSummary::builder().build())
        .build()
        .unwrap()
}

fn live(source: SourceConfiguration, references: &[(&str, Result<&str, Class>)]) -> Live {
    let references = references.iter().map(|(name, value)| {
        let value = match value {
            Ok(value) => Ok(SecretString::from(*value)),
            Err(class) => Err(CloudError::new(*class, "Secrets Manager", "GetSecretValue", "", "")),
        };
        ((*name).to_owned(), value)
    });
    Live { service: service(source), operations: Vec::new(), max_instances: Some(3), references: references.collect() }
}

fn url() -> EnvFormat {
    EnvFormat::Url { url: "REDIS_URL".into() }
}

fn address(host: &str, tls: bool) -> Address {
    Address { host: host.into(), port: 6379, db: 0, user: None, tls }
}

fn seen(live: &Live, format: &EnvFormat) -> Service {
    observe(&owner(), live, Some(format), &ours(Some(format), &Journal::default(), "web"), &[]).0
}

#[test]
fn a_plain_url_gives_address_password_and_reach() {
    let live = live(image(&[("REDIS_URL", "redis://:canary-word@m.x.use1.cache.amazonaws.com:6379/0")], &[]), &[]);
    let (found, passwords) =
        observe(&owner(), &live, Some(&url()), &ours(Some(&url()), &Journal::default(), "web"), &[]);
    let variable = &found.variables["REDIS_URL"];
    assert_eq!(variable.address, Some(address("m.x.use1.cache.amazonaws.com", false)));
    assert_eq!(variable.password, Some(Fingerprint::of(&owner(), "canary-word")));
    assert_eq!(variable.reach, Reach::Private("m.x.use1.cache.amazonaws.com".into()));
    assert_eq!(passwords.len(), 1);
    assert!(!format!("{found:?}").contains("canary-word"));
}

#[test]
fn a_reference_that_may_be_read_is_read_and_its_digest_is_of_the_reference() {
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/redis-AbCdEf";
    let live = live(image(&[], &[("REDIS_URL", arn)]), &[("REDIS_URL", Ok("rediss://default:p@slug.upstash.io:6379"))]);
    let variable = &seen(&live, &url()).variables["REDIS_URL"];
    assert_eq!(variable.delivery, Delivery::Reference(Arn(arn.into())));
    assert_eq!(variable.digest, Fingerprint::of(&owner(), arn));
    assert_eq!(variable.address, Some(address("slug.upstash.io", true)));
    assert_eq!(variable.reach, Reach::Public);
}

#[test]
fn a_reference_that_may_not_be_read_leads_nowhere_known() {
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/redis-AbCdEf";
    let live = live(image(&[], &[("REDIS_URL", arn)]), &[("REDIS_URL", Err(Class::Denied))]);
    let variable = &seen(&live, &url()).variables["REDIS_URL"];
    let Reach::Unknown(error) = &variable.reach else { panic!("{variable:?}") };
    assert_eq!((&variable.address, error.class), (&None, Class::Denied));
}

#[test]
fn a_value_in_whatever_form_names_the_stores_whose_host_is_in_it() {
    let entry = |id: &str, host: &str| CatalogEntry { id: StoreId::Upstash(id.into()), hosts: vec![host.into()] };
    let catalog = [entry("u-1", "slug.upstash.io"), entry("u-2", "other.upstash.io")];
    let config = r#"{"sessions":{"host":"Slug.Upstash.io","port":6379,"password":"canary-word"}}"#;
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/config-AbCdEf";
    let live = live(image(&[("A", config), ("B", "slug"), ("C", "")], &[("D", arn)]), &[("D", Ok(config))]);
    let other = bystander(&owner(), "billing".into(), &live, &catalog);
    let names = |name: &str| other.variables[name].names.clone();
    let first = vec![StoreId::Upstash("u-1".into())];
    assert_eq!((names("A"), names("B"), names("C"), names("D")), (first.clone(), vec![], vec![], first));
    assert!(!format!("{other:?}").contains("canary-word"));
}

#[test]
fn a_value_nobody_asked_for_is_not_known() {
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app/redis-AbCdEf";
    let other = bystander(&owner(), "billing".into(), &live(image(&[], &[("REDIS_URL", arn)]), &[]), &[]);
    assert!(matches!(other.variables["REDIS_URL"].reach, Reach::Unknown(_)));
}

#[test]
fn implicit_tls_is_the_formats_knowledge_not_the_urls() {
    let live = live(image(&[("REDIS_URL", "redis://default:p@slug.upstash.io:6379")], &[]), &[]);
    let format = EnvFormat::UrlImplicitTls { url: "REDIS_URL".into() };
    assert_eq!(seen(&live, &format).variables["REDIS_URL"].address, Some(address("slug.upstash.io", true)));
    assert_eq!(seen(&live, &url()).variables["REDIS_URL"].address, Some(address("slug.upstash.io", false)));
}

#[test]
fn of_parts_the_host_has_the_address_and_the_password_its_fingerprint() {
    let names = PartNames {
        host: "REDIS_HOST".into(),
        port: "REDIS_PORT".into(),
        tls: "REDIS_TLS".into(),
        password: "REDIS_PASSWORD".into(),
    };
    let plain = [
        ("REDIS_HOST", "slug.upstash.io"),
        ("REDIS_PORT", "6379"),
        ("REDIS_TLS", "true"),
        ("REDIS_PASSWORD", "canary-word"),
    ];
    let found = seen(&live(image(&plain, &[]), &[]), &EnvFormat::HostPortPassword(names));
    assert_eq!(found.variables["REDIS_HOST"].address, Some(address("slug.upstash.io", true)));
    assert_eq!(found.variables["REDIS_PORT"].address, None);
    assert_eq!(found.variables["REDIS_PASSWORD"].password, Some(Fingerprint::of(&owner(), "canary-word")));
    assert_eq!(found.variables["REDIS_HOST"].password, None);
}

#[test]
fn foreign_variables_are_seen_only_as_digest_address_and_reach() {
    let plain = [
        ("DATABASE_URL", "postgres://u:canary-word@db.x.us-east-1.rds.amazonaws.com/app"),
        ("CELERY_BROKER_URL", "redis://old.example.com:6379/1"),
        ("DEBUG", "false"),
    ];
    let found = seen(&live(image(&plain, &[]), &[]), &url());
    assert_eq!(found.variables["DATABASE_URL"].reach, Reach::Private("db.x.us-east-1.rds.amazonaws.com".into()));
    assert_eq!(found.variables["DATABASE_URL"].address, None);
    assert_eq!(
        found.variables["CELERY_BROKER_URL"].address,
        Some(Address { db: 1, ..address("old.example.com", false) })
    );
    assert_eq!(found.variables["DEBUG"].reach, Reach::None);
    assert!(!format!("{found:?}").contains("canary-word"));
}

#[test]
fn the_foreign_digest_moves_with_what_is_not_ours_and_only_with_that() {
    let ours = ours(Some(&url()), &Journal::default(), "web");
    let digest = |service: &SdkService| foreign_digest(&owner(), service, &ours);
    let base = service(image(&[("REDIS_URL", "redis://a"), ("A", "1")], &[("S", "arn:s")]));
    let same = [
        service(image(&[("REDIS_URL", "redis://b"), ("A", "1")], &[("S", "arn:s")])),
        service(image(&[("A", "1")], &[("S", "arn:s"), ("REDIS_URL", "arn:r")])),
        {
            let mut other = base.clone();
            other.source_configuration.as_mut().unwrap().auto_deployments_enabled = Some(false);
            let egress = EgressConfiguration::builder().egress_type(EgressType::Vpc).vpc_connector_arn("arn:c").build();
            other.network_configuration = Some(NetworkConfiguration::builder().egress_configuration(egress).build());
            other
        },
    ];
    for other in &same {
        assert_eq!(digest(other), digest(&base));
    }
    let different = [
        service(image(&[("REDIS_URL", "redis://a"), ("A", "2")], &[("S", "arn:s")])),
        service(image(&[("REDIS_URL", "redis://a"), ("A", "1"), ("B", "")], &[("S", "arn:s")])),
        service(image(&[("REDIS_URL", "redis://a"), ("A", "1")], &[("S", "arn:t")])),
        // The same text as a variable and as a secret is not the same.
        service(image(&[("REDIS_URL", "redis://a"), ("A", "1"), ("S", "arn:s")], &[])),
        {
            let mut other = base.clone();
            other.instance_configuration = Some(sdk::InstanceConfiguration::builder().cpu("2048").build());
            other
        },
        {
            let mut other = base.clone();
            let image = other.source_configuration.as_mut().unwrap().image_repository.as_mut().unwrap();
            image.image_identifier = "public.ecr.aws/x/web:2".into();
            other
        },
    ];
    for other in &different {
        assert_ne!(digest(other), digest(&base));
    }
}

fn code(configuration: ConfigurationSource) -> SourceConfiguration {
    let values = CodeConfigurationValues::builder()
        .runtime(Runtime::Nodejs22)
        .runtime_environment_variables("REDIS_URL", "redis://ignored.example.com")
        .build()
        .unwrap();
    let settings = CodeConfiguration::builder()
        .configuration_source(configuration)
        .code_configuration_values(values)
        .build()
        .unwrap();
    let version = SourceCodeVersion::builder().r#type(SourceCodeVersionType::Branch).value("main").build().unwrap();
    let repository = CodeRepository::builder()
        .repository_url("https://github.com/x/y")
        .source_code_version(version)
        .code_configuration(settings)
        .build()
        .unwrap();
    SourceConfiguration::builder().code_repository(repository).build()
}

#[test]
fn with_a_configuration_file_the_apis_variables_are_not_believed() {
    let found = seen(&live(code(ConfigurationSource::Repository), &[]), &url());
    assert_eq!(found.source, ServiceSource::CodeRepository);
    assert!(found.variables.is_empty());
    let found = seen(&live(code(ConfigurationSource::Api), &[]), &url());
    assert_eq!(found.source, ServiceSource::CodeApi);
    assert!(found.variables.contains_key("REDIS_URL"));
}

#[test]
fn an_operation_is_a_success_only_where_the_vendor_says_succeeded() {
    for (word, expected) in [
        (SdkOperationStatus::Pending, OperationStatus::Running),
        (SdkOperationStatus::InProgress, OperationStatus::Running),
        (SdkOperationStatus::Succeeded, OperationStatus::Succeeded),
        (SdkOperationStatus::Failed, OperationStatus::Failed),
        (SdkOperationStatus::RollbackInProgress, OperationStatus::RollingBack),
        (SdkOperationStatus::RollbackFailed, OperationStatus::Failed),
        (SdkOperationStatus::RollbackSucceeded, OperationStatus::Failed),
        (SdkOperationStatus::from("SOMETHING_NEW"), OperationStatus::Running),
    ] {
        let summary =
            OperationSummary::builder().id("op").status(word.clone()).r#type(OperationType::UpdateService).build();
        let found = operation(&summary).unwrap();
        assert_eq!((found.status, found.kind), (expected, OperationKind::Update), "{word}");
    }
    assert_eq!(status(&SdkStatus::from("SOMETHING_NEW")), ServiceStatus::Other("SOMETHING_NEW".into()));
}
