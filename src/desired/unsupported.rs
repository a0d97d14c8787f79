//! What the manifest can say and this version cannot do yet. Refused by name: a field that is silently ignored is a promise broken.

use super::Violation;
use crate::api::{SessionBackendSpec, spec};

/// Names every such field of `spec`.
pub(super) fn find(spec: &SessionBackendSpec, found: &mut Vec<Violation>) {
    let mut refuse = |field: String, problem: &str, remedy: &str| found.push(Violation::new(field, problem, remedy));
    let writers = spec.services.iter().enumerate().filter_map(|(index, service)| {
        let writer = service.env.as_ref().and_then(|env| env.writer)?;
        Some((format!("spec.services[{index}].env.writer"), writer))
    });
    for (field, writer) in
        spec.env.writer.map(|writer| ("spec.env.writer".to_owned(), writer)).into_iter().chain(writers)
    {
        match writer {
            spec::Writer::Operator => {}
            spec::Writer::ConfigFile => refuse(
                field,
                "is ConfigFile, which this version cannot wait for",
                "set ConfigurationSource=API on the service and write Operator",
            ),
            spec::Writer::External => refuse(
                field,
                "is External, which this version cannot wait for",
                "let the other tool ignore our variables and write Operator",
            ),
        }
    }
    let secrets = spec.env.secrets.clone().unwrap_or_default();
    match secrets.provider {
        None | Some(spec::SecretProvider::SecretsManager | spec::SecretProvider::PlainText) => {}
        Some(spec::SecretProvider::ParameterStore) => {
            refuse(
                "spec.env.secrets.provider".to_owned(),
                "is ParameterStore, which this version cannot write",
                "write SecretsManager",
            );
        }
    }
    match secrets.access {
        None | Some(spec::SecretAccess::Verify) => {}
        Some(spec::SecretAccess::Manage) => refuse(
            "spec.env.secrets.access".to_owned(),
            "is Manage, but this version changes no role",
            "write Verify and attach the policy that `plan` prints",
        ),
    }
    let Some(migration) = &spec.migration else { return };
    match migration.copy.as_ref().and_then(|copy| copy.run_from) {
        None | Some(spec::RunFrom::Operator) => {}
        Some(spec::RunFrom::Job | spec::RunFrom::External) => refuse(
            "spec.migration.copy.runFrom".to_owned(),
            "asks for a copier elsewhere, which this version cannot follow",
            "write Operator and run `sessionbackend apply` where both stores can be reached",
        ),
    }
    if !migration.queues.is_empty() {
        refuse(
            "spec.migration.queues".to_owned(),
            "names queues, which this version does not move (a task that is copied as a key runs twice)",
            "let the workers empty the queues before the switch, leave their keys behind with strategy: Drop, and remove migration.queues",
        );
    }
}
