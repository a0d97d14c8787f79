//! IAM: whether an instance role may read a secret, before a deployment finds out after fifteen minutes.
//! The simulation does not see the secret's own policy: `true` is necessary, not sufficient.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_iam::types::PolicyEvaluationDecisionType;

use super::Deadlines;
use crate::error::CloudError;

const SERVICE: &str = "IAM";

/// The client.
#[derive(Clone, Debug)]
pub struct Iam(aws_sdk_iam::Client, Deadlines);

impl Iam {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_iam::Client::new(config), deadlines)
    }

    /// SimulatePrincipalPolicy: whether `role` may do `action`, by resource ARN.
    pub async fn may(
        &self,
        role: &str,
        action: &str,
        resources: &[String],
    ) -> Result<BTreeMap<String, bool>, CloudError> {
        let mut allowed = BTreeMap::new();
        let mut marker: Option<String> = None;
        for _ in 0..super::PAGES {
            let answer = self
                .1
                .read(SERVICE, "SimulatePrincipalPolicy", || {
                    self.0
                        .simulate_principal_policy()
                        .policy_source_arn(role)
                        .action_names(action)
                        .set_resource_arns(Some(resources.to_vec()))
                        .set_marker(marker.clone())
                        .send()
                })
                .await?;
            for result in answer.evaluation_results.unwrap_or_default() {
                let may = result.eval_decision == PolicyEvaluationDecisionType::Allowed;
                if let Some(resource) = result.eval_resource_name {
                    allowed.insert(resource, may);
                }
            }
            marker = answer.marker.filter(|_| answer.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        Ok(allowed)
    }
}
