//! Secrets Manager: values, and the compare-and-set that journal and claims are built on.
//! A write with a request token that was used for other content is refused: that is the lock. Values are never formatted.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, Tag};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::Deadlines;
use crate::error::{Class, CloudError};
use crate::identity::Arn;

pub(crate) const SERVICE: &str = "Secrets Manager";

/// The client.
#[derive(Clone, Debug)]
pub struct SecretsManager(aws_sdk_secretsmanager::Client, Deadlines);

/// A secret without its value.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its ARN, with the random suffix.
    pub arn: Arn,
    /// When it was scheduled for deletion, if it is.
    pub deleted: Option<Timestamp>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl SecretsManager {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_secretsmanager::Client::new(config), deadlines)
    }

    /// GetSecretValue by name or ARN, the current version. Binary secrets are `Rejected`.
    pub async fn get(&self, id: &str) -> Result<SecretString, CloudError> {
        self.get_version(id, None, None).await
    }

    /// GetSecretValue of one stage or version.
    pub async fn get_version(
        &self,
        id: &str,
        stage: Option<&str>,
        version: Option<&str>,
    ) -> Result<SecretString, CloudError> {
        let operation = "GetSecretValue";
        let answer = self
            .1
            .read(SERVICE, operation, || {
                self.0
                    .get_secret_value()
                    .secret_id(id)
                    .set_version_stage(stage.map(str::to_owned))
                    .set_version_id(version.map(str::to_owned))
                    .send()
            })
            .await?;
        answer.secret_string.map(SecretString::from).ok_or_else(|| {
            let message = format!("secret {id} holds no text; only SecretString can be used");
            CloudError::new(Class::Rejected, SERVICE, operation, "", &message)
        })
    }

    /// DescribeSecret. Answers also for a secret in its recovery window.
    pub async fn describe(&self, id: &str) -> Result<Description, CloudError> {
        let operation = "DescribeSecret";
        let answer = self.1.read(SERVICE, operation, || self.0.describe_secret().secret_id(id).send()).await?;
        let tags = answer.tags.unwrap_or_default();
        Ok(Description {
            arn: Arn(answer.arn.ok_or_else(|| super::missing(SERVICE, operation, "ARN"))?),
            deleted: answer.deleted_date.as_ref().and_then(super::timestamp),
            tags: tags.into_iter().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect(),
        })
    }

    /// ListSecrets: names that begin with `prefix`, those in their recovery window left out.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>, CloudError> {
        let (mut all, mut token): (Vec<String>, Option<String>) = (Vec::new(), None);
        let filter = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "ListSecrets", || {
                    self.0.list_secrets().filters(filter.clone()).max_results(100).set_next_token(token.clone()).send()
                })
                .await?;
            all.extend(answer.secret_list.unwrap_or_default().into_iter().filter_map(|secret| secret.name));
            token = answer.next_token;
            if token.is_none() {
                break;
            }
        }
        // The vendor matches a prefix without regard to case.
        all.retain(|name| name.starts_with(prefix));
        Ok(all)
    }

    /// CreateSecret; `token` makes the same call with the same content succeed twice.
    pub async fn create(
        &self,
        name: &str,
        description: &str,
        value: &SecretString,
        token: Option<&str>,
        tags: &[(String, String)],
    ) -> Result<Arn, CloudError> {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let operation = "CreateSecret";
        let call = self
            .0
            .create_secret()
            .name(name)
            .description(description)
            .secret_string(value.expose_secret())
            .set_client_request_token(token.map(str::to_owned))
            .set_tags(Some(tags));
        let answer = self.1.write(SERVICE, operation, call.send()).await?;
        answer.arn.map(Arn).ok_or_else(|| super::missing(SERVICE, operation, "ARN"))
    }

    /// PutSecretValue. `Exists` where `token` was used for other content.
    pub async fn put(&self, id: &str, value: &SecretString, token: &str) -> Result<(), CloudError> {
        let call =
            self.0.put_secret_value().secret_id(id).secret_string(value.expose_secret()).client_request_token(token);
        self.1.write(SERVICE, "PutSecretValue", call.send()).await.map(|_| ())
    }

    /// DeleteSecret with a recovery window in days (7–30).
    pub async fn delete(&self, id: &str, days: i64) -> Result<(), CloudError> {
        let call = self.0.delete_secret().secret_id(id).recovery_window_in_days(days);
        self.1.write(SERVICE, "DeleteSecret", call.send()).await.map(|_| ())
    }

    /// RestoreSecret: takes a secret out of its recovery window, its versions and ARN as they were.
    pub async fn restore(&self, id: &str) -> Result<(), CloudError> {
        self.1.write(SERVICE, "RestoreSecret", self.0.restore_secret().secret_id(id).send()).await.map(|_| ())
    }
}

/// Whether the call failed because the secret is in its recovery window: gone for readers, restorable for writers.
#[must_use]
pub fn is_in_recovery(error: &CloudError) -> bool {
    error.code == "InvalidRequestException" && error.message.contains("delet")
}
