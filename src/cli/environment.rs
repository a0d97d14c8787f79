//! The one place where this process reads its environment. The AWS SDK reads its own part by itself.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;

/// What the environment says to us. `{:?}` prints no secret.
#[derive(Clone, Default)]
pub struct Environment {
    secrets: BTreeMap<String, SecretString>,
    upstash: Option<String>,
    log: Option<String>,
    profile: Option<String>,
    access_key: (bool, bool),
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("upstash", &self.upstash).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads it once.
    #[must_use]
    pub fn read() -> Self {
        Self::of(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// The part of `variables` that is for us.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut environment = Self::default();
        let mut fallback = None;
        for (name, value) in variables {
            match name.as_str() {
                "UPSTASH_API_URL" => environment.upstash = Some(value),
                "SESSIONBACKEND_LOG" => environment.log = Some(value),
                "RUST_LOG" => fallback = Some(value),
                "AWS_PROFILE" => environment.profile = Some(value),
                "AWS_ACCESS_KEY_ID" => environment.access_key.0 = true,
                "AWS_SECRET_ACCESS_KEY" => environment.access_key.1 = true,
                name if name.starts_with("SESSIONBACKEND_SECRET_") => {
                    environment.secrets.insert(name.to_owned(), value.into());
                }
                _ => {}
            }
        }
        environment.log = environment.log.or(fallback);
        environment
    }

    /// The value of a key of a Secret, if it is given here.
    #[must_use]
    pub fn secret(&self, secret: &str, key: &str) -> Option<&SecretString> {
        self.secrets.get(&crate::manifest::variable(secret, key))
    }

    /// Where Upstash's management API is, if it is elsewhere.
    #[must_use]
    pub fn upstash(&self) -> Option<&str> {
        self.upstash.as_deref()
    }

    /// Where the AWS SDK looks for credentials, with what was set of it here.
    #[must_use]
    pub fn looked_at(&self) -> String {
        let keys = match self.access_key {
            (true, false) => " (AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY)",
            (false, true) => " (AWS_SECRET_ACCESS_KEY without AWS_ACCESS_KEY_ID)",
            (true, true) | (false, false) => "",
        };
        let profile = self.profile.as_ref().map_or(String::new(), |profile| format!(" {profile:?} (AWS_PROFILE)"));
        format!("environment{keys}, profile{profile}, container, instance")
    }

    /// What to log.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_of_the_aws_credentials_is_named() {
        let of = |variables: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Environment::of(variables.iter().map(own)).looked_at()
        };
        assert_eq!(of(&[]), crate::aws::classify::LOOKED_AT);
        assert!(of(&[("AWS_PROFILE", "nope")]).contains("profile \"nope\" (AWS_PROFILE)"));
        assert!(of(&[("AWS_ACCESS_KEY_ID", "x")]).contains("without AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn no_value_of_a_secret_is_printed() {
        let canary = "canary-0451";
        let environment = Environment::of([("SESSIONBACKEND_SECRET_UPSTASH_API_APIKEY".to_owned(), canary.to_owned())]);
        assert!(environment.secret("upstash-api", "apiKey").is_some());
        assert!(!format!("{environment:?}").contains(canary));
    }
}
