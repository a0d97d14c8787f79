//! STS: whose credentials these are. Works without any permission, so it is the first thing to ask.

use aws_config::SdkConfig;

use super::Deadlines;
use crate::error::CloudError;

const SERVICE: &str = "STS";

/// The client.
#[derive(Clone, Debug)]
pub struct Sts(aws_sdk_sts::Client, Deadlines);

impl Sts {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_sts::Client::new(config), deadlines)
    }

    /// GetCallerIdentity: the account, twelve digits.
    pub async fn account(&self) -> Result<String, CloudError> {
        let answer = self.1.read(SERVICE, "GetCallerIdentity", || self.0.get_caller_identity().send()).await?;
        answer.account.ok_or_else(|| super::missing(SERVICE, "GetCallerIdentity", "Account"))
    }
}
