//! What the objects of a namespace may name: which services, and which roles the controller takes for them. Pure.

use std::str::FromStr;

use crate::api::admission::Violation;
use crate::desired::Desired;

/// The word for the controller's own credentials among roles.
const OWN: &str = "own";

/// Something a namespace may name: `NAMESPACE=PATTERN`, where `*` stands for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    namespace: String,
    pattern: String,
}

impl FromStr for Grant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((namespace, pattern)) if !(namespace.is_empty() || pattern.is_empty()) => {
                Ok(Self { namespace: namespace.to_owned(), pattern: pattern.to_owned() })
            }
            Some(_) | None => Err("is no NAMESPACE=NAME; write for example liberty=liberty-*"),
        }
    }
}

/// All grants of a controller. Of what none is given everybody may name everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Names of services.
    pub services: Vec<Grant>,
    /// ARNs of roles, and `own`.
    pub roles: Vec<Grant>,
}

impl Grants {
    /// Why the controller acts as nobody for this object.
    #[must_use]
    pub(super) fn role(&self, namespace: &str, named: Option<&str>) -> Option<Violation> {
        let role = named.unwrap_or(OWN);
        let problem = match role {
            OWN => format!("is needed: namespace {namespace} may not use the controller's own credentials"),
            role => format!("is {role}, which namespace {namespace} may not name"),
        };
        let remedy = format!("correct it, or have the controller run with --allow-role={namespace}={role}");
        (!holds(&self.roles, namespace, role)).then(|| Violation::new("spec.aws.roleArn", problem, remedy))
    }

    /// Why a service of the object is not touched. One that is only let go may have any: nothing but what is ours goes.
    #[must_use]
    pub(super) fn service(&self, namespace: &str, desired: &Desired) -> Option<Violation> {
        let Desired::Present(target) = desired else { return None };
        let mut services = target.services.iter().enumerate();
        let (at, service) = services.find(|(_, service)| !holds(&self.services, namespace, &service.name))?;
        let name = &service.name;
        Some(Violation::new(
            format!("spec.services[{at}]"),
            format!("is {name}, which namespace {namespace} may not name"),
            format!("correct it, or have the controller run with --allow-service={namespace}={name}"),
        ))
    }
}

fn holds(grants: &[Grant], namespace: &str, name: &str) -> bool {
    let holds = |grant: &Grant| matches(&grant.namespace, namespace) && matches(&grant.pattern, name);
    grants.is_empty() || grants.iter().any(holds)
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    (0..=text.len()).filter_map(|at| text.get(at..)).any(|text| matches(rest, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(all: &[&str]) -> Vec<Grant> {
        all.iter().map(|grant| grant.parse().unwrap()).collect()
    }

    #[test]
    fn a_namespace_may_name_what_was_granted_to_it_and_nothing_else() {
        let given = grants(&["liberty=liberty-*", "audio=converter", "*=shared", "team-*=web-*-blue"]);
        for (namespace, name, may) in [
            ("liberty", "liberty-web", true),
            ("liberty", "liberty-", true),
            ("liberty", "converter", false),
            ("audio", "converter", true),
            ("audio", "converter-2", false),
            ("audio", "shared", true),
            ("team-1", "web-shop-blue", true),
            ("team-1", "web-shop-green", false),
            ("lib", "liberty-web", false),
        ] {
            assert_eq!(holds(&given, namespace, name), may, "{namespace} {name}");
        }
    }

    #[test]
    fn where_nothing_is_granted_to_anybody_nobody_is_limited() {
        assert!(holds(&[], "liberty", "liberty-web") && Grants::default().services.is_empty());
    }

    #[test]
    fn the_controllers_own_credentials_are_granted_like_a_role() {
        let of = |all: &[&str]| Grants { roles: grants(all), ..Grants::default() }.role("liberty", None);
        assert_eq!((of(&[]), of(&["liberty=own"])), (None, None));
        let refused = of(&["liberty=arn:aws:iam::123456789012:role/liberty"]).unwrap().to_string();
        assert!(refused.starts_with("spec.aws.roleArn: is needed") && refused.contains("--allow-role=liberty=own"));
    }

    #[test]
    fn a_grant_names_a_namespace() {
        for text in ["liberty-web", "=liberty-web", "liberty="] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }
}
