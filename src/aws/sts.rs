//! STS: whose credentials these are. Works without any permission, so it is the first thing to ask.

use aws_config::SdkConfig;

use super::Deadlines;
use crate::error::{Class, CloudError};

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
        let asked = self.1.read(SERVICE, "GetCallerIdentity", || self.0.get_caller_identity().send()).await;
        let answer = asked.map_err(|error| self.in_its_region(error))?;
        answer.account.ok_or_else(|| super::missing(SERVICE, "GetCallerIdentity", "Account"))
    }
    /// It is the first to be asked, so a region that does not exist shows here: its host does not resolve.
    fn in_its_region(&self, error: CloudError) -> CloudError {
        if error.class != Class::Transient || !error.code.is_empty() {
            return error;
        }
        let region = self.0.config().region().map_or("no region", |region| region.as_ref());
        CloudError { message: format!("AWS cannot be reached in {region}: {}", error.message), ..error }
    }
}
