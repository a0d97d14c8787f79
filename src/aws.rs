//! The AWS APIs we use, one thin client a service: one method, one call, its own deadline, one [`CloudError`] on failure.
//! Only reads are tried again, and only when the error says nothing about the resource. Must not decide anything,
//! and must never format a request: inputs carry secrets.

use std::future::Future;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use jiff::Timestamp;

use crate::error::{Class, CloudError};

use self::deadlines::CONNECT;
pub use self::deadlines::Deadlines;

pub mod apprunner;
pub mod classify;
pub(crate) mod deadlines;
pub mod ec2;
pub mod elasticache;
pub mod iam;
pub mod logs;
pub mod secretsmanager;
pub mod sts;

/// Pages of a list before something must be wrong.
const PAGES: usize = 100;

type HttpResponse = aws_sdk_sts::config::http::HttpResponse;

/// The clients of one account, region and identity.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Services and connectors.
    pub apprunner: apprunner::AppRunner,
    /// Networks.
    pub ec2: ec2::Ec2,
    /// Stores in a VPC.
    pub elasticache: elasticache::ElastiCache,
    /// What an instance role may do.
    pub iam: iam::Iam,
    /// What services print.
    pub logs: logs::Logs,
    /// The journal, claims and values.
    pub secretsmanager: secretsmanager::SecretsManager,
    /// Who we are.
    pub sts: sts::Sts,
}

impl Aws {
    /// Clients with the ambient credentials (environment, profile, container, instance) and endpoints (`AWS_ENDPOINT_URL`).
    pub async fn connect(region: Option<&str>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        Self::new(&loader.load().await)
    }

    /// Clients that act as `role` in the same region; the ambient credentials must be allowed to assume it.
    pub async fn connect_as(role: &str, region: &str) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(Deadlines::default().write).build();
        let ambient = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .region(Region::new(region.to_owned()))
            .load()
            .await;
        let provider = aws_config::sts::AssumeRoleProvider::builder(role)
            .session_name("sessionbackend")
            .region(Region::new(region.to_owned()))
            .configure(&ambient)
            .build()
            .await;
        let assumed = ambient
            .to_builder()
            .credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(provider))
            .build();
        Self::new(&assumed)
    }

    /// Clients over a configuration; its retries must be off.
    pub fn new(config: &SdkConfig) -> Self {
        Self::within(config, Deadlines::default())
    }

    /// The same with other deadlines.
    pub fn within(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self {
            apprunner: apprunner::AppRunner::new(config, deadlines),
            ec2: ec2::Ec2::new(config, deadlines),
            elasticache: elasticache::ElastiCache::new(config, deadlines),
            iam: iam::Iam::new(config, deadlines),
            logs: logs::Logs::new(config, deadlines),
            secretsmanager: secretsmanager::SecretsManager::new(config, deadlines),
            sts: sts::Sts::new(config, deadlines),
        }
    }
}

impl Deadlines {
    /// One read, tried again while the failure says nothing about the resource.
    async fn read<T, E, F>(
        self,
        service: &'static str,
        operation: &'static str,
        call: impl Fn() -> F + Send,
    ) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + Send,
    {
        self.again(|| once(service, operation, self.read, call())).await
    }

    /// One write, made once: whether a lost reply means success is for the next observation to say.
    fn write<T, E>(
        self,
        service: &'static str,
        operation: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> impl Future<Output = Result<T, CloudError>> + Send
    where
        E: ProvideErrorMetadata + Send,
    {
        once(service, operation, self.write, call)
    }
}

/// One attempt. Boxed before anything waits: an SDK call's future is tens of kilobytes, and observations hold many at once.
fn once<T, E>(
    service: &'static str,
    operation: &'static str,
    deadline: Duration,
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
) -> impl Future<Output = Result<T, CloudError>> + Send
where
    E: ProvideErrorMetadata + Send,
{
    let call = Box::pin(call);
    let classified = async move { call.await.map_err(|error| classify::error(service, operation, &error)) };
    deadlines::within(deadline, service, operation, classified)
}

/// A field the vendor's model promises and the answer lacks.
fn missing(service: &'static str, operation: &'static str, field: &str) -> CloudError {
    CloudError::new(Class::Transient, service, operation, "", &format!("the answer has no {field}"))
}

/// The vendor's time as ours; a time we cannot represent is no time.
#[must_use]
pub fn timestamp(time: &aws_sdk_sts::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// The request id of an answer that failed.
fn request_id<E>(error: &SdkError<E, HttpResponse>) -> Option<&str>
where
    E: ProvideErrorMetadata,
{
    RequestId::request_id(error).or_else(|| RequestId::request_id(error.meta()))
}
