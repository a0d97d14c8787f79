//! Everything the emulated control planes remember, in memory and cloneable: a stale read is a read of an older clone.
//! Data only; what an operation may do to it is in `api`.

pub mod apprunner;
pub mod ec2;
pub mod elasticache;
pub mod iam;
pub mod logs;
pub mod secrets;
pub mod upstash;

use std::collections::BTreeMap;

use rand::Rng;

/// Tags of a resource, by key.
pub type Tags = BTreeMap<String, String>;

/// All control planes but the logs, which only grow and are kept apart.
#[derive(Debug, Clone)]
pub struct State {
    /// AWS account number.
    pub account: String,
    /// The one region.
    pub region: String,
    /// App Runner.
    pub apprunner: apprunner::AppRunner,
    /// EC2.
    pub ec2: ec2::Ec2,
    /// ElastiCache.
    pub elasticache: elasticache::ElastiCache,
    /// IAM.
    pub iam: iam::Iam,
    /// Secrets Manager.
    pub secrets: secrets::Secrets,
    /// Upstash.
    pub upstash: upstash::Upstash,
}

impl State {
    /// A new account: a default VPC with its subnets, main route table and default security group, and nothing else.
    pub fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            apprunner: apprunner::AppRunner::default(),
            ec2: ec2::Ec2::with_default_vpc(region),
            elasticache: elasticache::ElastiCache::default(),
            iam: iam::Iam::default(),
            secrets: secrets::Secrets::default(),
            upstash: upstash::Upstash::default(),
        }
    }

    /// An ARN of this account and region.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }
}

/// `length` random characters of `alphabet` (ASCII).
pub fn random(alphabet: &str, length: usize) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let mut rng = rand::rng();
    (0..length).map(|_| letters[rng.random_range(0..letters.len())]).collect()
}

/// `length` random lower-case hexadecimal digits.
pub fn hex(length: usize) -> String {
    random("0123456789abcdef", length)
}

/// A random UUID of version 4.
pub fn uuid() -> String {
    let h = hex(32);
    let variant = random("89ab", 1);
    format!("{}-{}-4{}-{variant}{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..])
}
