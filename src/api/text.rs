//! Texts of the manifest with a form: what the form is, as an admission rule whose message says it in words.
//! Not parsed on reading: an object may have been stored before a rule existed.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident ($max:literal) $rule:literal, $message:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "maxLength": $max,
                    "x-kubernetes-validations": [{ "rule": $rule, "message": $message }],
                })
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    )*};
}

texts! {
    /// A duration up to an hour: `500ms`, `30s`, `5m`, `1h30m`.
    ShortTime (20)
        "self.matches('^([1-9][0-9]{0,4}h)?([1-9][0-9]{0,4}m)?([1-9][0-9]{0,5}s)?([1-9][0-9]{0,5}ms)?$') && self != '' && duration(self) <= duration('1h')",
        "is not a duration between 1ms and 1h; write a number and a unit, such as \"30s\" or \"5m\"";
    /// A duration from a second to 30 days: `30s`, `5m`, `2h`.
    LongTime (20)
        "self.matches('^([1-9][0-9]{0,4}h)?([1-9][0-9]{0,4}m)?([1-9][0-9]{0,6}s)?$') && self != '' && duration(self) <= duration('720h')",
        "is not a duration between 1s and 720h; write a number and a unit, such as \"30s\", \"5m\" or \"2h\"";
    /// An AWS region: `us-east-1`.
    Region (25)
        "self.matches('^[a-z]{2}(-[a-z]+)+-[0-9]$')",
        "is not an AWS region; write it as in \"us-east-1\"";
    /// An AWS account id.
    AccountId (12)
        "self.matches('^[0-9]{12}$')",
        "is not an AWS account id; write its twelve digits in quotes";
    /// The ARN of an IAM role.
    RoleArn (2048)
        "self.matches('^arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$')",
        "is not the ARN of an IAM role; write arn:aws:iam::<account>:role/<name>";
    /// The name of an App Runner service.
    ServiceName (40)
        "self.matches('^[A-Za-z0-9][A-Za-z0-9_-]{3,39}$')",
        "is not the name of an App Runner service; it has 4 to 40 letters, digits, hyphens and underscores";
    /// The ARN of an App Runner service.
    ServiceArn (1011)
        "self.matches('^arn:aws(-cn|-us-gov)?:apprunner:[a-z0-9-]+:[0-9]{12}:service/[A-Za-z0-9][A-Za-z0-9_-]{3,39}/[0-9a-f]{32}$')",
        "is not the ARN of an App Runner service; write arn:aws:apprunner:<region>:<account>:service/<name>/<id>, or give the service by name";
    /// The ARN of a VPC connector.
    ConnectorArn (1011)
        "self.matches('^arn:aws(-cn|-us-gov)?:apprunner:[a-z0-9-]+:[0-9]{12}:vpcconnector/[A-Za-z0-9][A-Za-z0-9_-]{3,39}/[0-9]+/[0-9a-f]{32}$')",
        "is not the ARN of a VPC connector; write arn:aws:apprunner:<region>:<account>:vpcconnector/<name>/<revision>/<id>";
    /// The id of a subnet.
    SubnetId (24)
        "self.matches('^subnet-([0-9a-f]{8}|[0-9a-f]{17})$')",
        "is not the id of a subnet; write it as in \"subnet-0123456789abcdef0\"";
    /// The id of a security group.
    SecurityGroupId (20)
        "self.matches('^sg-([0-9a-f]{8}|[0-9a-f]{17})$')",
        "is not the id of a security group (address ranges are not admitted); write it as in \"sg-0123456789abcdef0\"";
    /// The id of a security-group rule.
    SecurityGroupRuleId (21)
        "self.matches('^sgr-([0-9a-f]{8}|[0-9a-f]{17})$')",
        "is not the id of a security-group rule; write it as in \"sgr-0123456789abcdef0\", as `plan` prints it";
    /// The id of an ElastiCache replication group.
    ReplicationGroupId (40)
        "self.matches('^[A-Za-z](-?[A-Za-z0-9])*$')",
        "is not the id of a replication group; it starts with a letter and has letters, digits and single hyphens";
    /// The name of an ElastiCache serverless cache.
    ServerlessCacheName (40)
        "self.matches('^[A-Za-z](-?[A-Za-z0-9])*$')",
        "is not the name of a serverless cache; it starts with a letter and has letters, digits and single hyphens";
    /// An ElastiCache node type.
    NodeType (40)
        "self.matches('^cache[.][a-z0-9-]+[.][a-z0-9]+$')",
        "is not an ElastiCache node type; write it as in \"cache.t4g.small\"";
    /// The name of an Upstash database.
    UpstashName (100)
        "self.matches('^[A-Za-z0-9][A-Za-z0-9_. -]*$')",
        "is not a name for an Upstash database; use letters, digits, hyphens, dots and underscores";
    /// The id of an Upstash database.
    UpstashId (64)
        "self.matches('^[A-Za-z0-9-]+$')",
        "is not the id of an Upstash database; copy it from the console or from `database_id` in its API";
    /// An Upstash region.
    UpstashRegion (30)
        "self.matches('^[a-z]+-[a-z]+-?[0-9]+$')",
        "is not an Upstash region; write it as in \"us-east-1\" or \"europe-west1\"";
    /// An Upstash plan.
    UpstashPlan (30)
        "self.matches('^[a-z0-9_]+$')",
        "is not an Upstash plan; write free, payg or a fixed one such as fixed_250mb";
    /// The name of a Secret in the object's own namespace.
    SecretObjectName (253)
        "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
        "is not the name of a Secret; use lower-case letters, digits, hyphens and dots";
    /// A key of a Secret.
    SecretKey (253)
        "self.matches('^[A-Za-z0-9._-]+$')",
        "is not a key of a Secret; use letters, digits, hyphens, dots and underscores";
    /// The name of an environment variable.
    VariableName (200)
        "self.matches('^[A-Za-z_][A-Za-z0-9_]*$') && self != 'PORT' && !self.startsWith('AWSAPPRUNNER')",
        "is not a name for a variable; use letters, digits and underscores, no digit first, and neither PORT nor AWSAPPRUNNER… (reserved by App Runner)";
    /// The name of a DynamoDB table.
    TableName (255)
        "self.matches('^[A-Za-z0-9_.-]{3,255}$')",
        "is not the name of a DynamoDB table; it has 3 to 255 letters, digits, hyphens, dots and underscores";
    /// A literal prefix of key names.
    KeyPrefix (512)
        "self != '' && !self.matches('[*?\\\\[\\\\]\\\\\\\\]')",
        "is not a literal prefix of at least one character; leave out wildcards (* ? [ ] and backslash), everything that starts with it is meant";
    /// The name of a queue.
    QueueName (255)
        "self.matches('^[A-Za-z0-9_.:@-]+$')",
        "is not the name of a queue; use letters, digits and _ . : @ -";
    /// A name people use.
    Label (63)
        "self.matches('^[A-Za-z0-9]([A-Za-z0-9_. -]*[A-Za-z0-9])?$')",
        "is not a name; use letters, digits, hyphens, dots and underscores";
}

/// The duration in a text such as `500ms`, `30s`, `1h30m`; `None` where it is none.
#[must_use]
pub fn duration(text: &str) -> Option<std::time::Duration> {
    let (mut total, mut rest) = (0_u64, text);
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let Some(after) = after.strip_prefix(unit).filter(|after| !after.starts_with('s')) else { continue };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then(|| std::time::Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1h30m5s1ms", 5_405_001)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-5s", "5s5m", "1.5h", "5 s", "30d", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
