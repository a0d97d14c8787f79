//! A person's words as annotations. Pure: which words an object carries; what each means to the journal is
//! [`crate::word`]'s.

use std::collections::BTreeMap;

use crate::api::annotation::{ABANDON, ABORT, APPROVE, RETRY};
use crate::api::paused;
use crate::identity::MigrationId;
use crate::journal::Gate;
use crate::word::Word;

/// What an object's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Change nothing.
    pub(super) paused: bool,
    /// Let the object go and touch nothing.
    pub(super) abandon: bool,
    /// Words to a migration, each with the annotation it stands in.
    pub(super) words: Vec<(&'static str, MigrationId, Word)>,
    /// What makes no sense, and what to do.
    pub(super) nonsense: Vec<String>,
}

/// Reads annotations.
#[must_use]
pub(super) fn said(annotations: &BTreeMap<String, String>) -> Said {
    let mut said = Said::default();
    match paused(annotations) {
        Ok(paused) => said.paused = paused,
        Err(message) => {
            said.paused = true;
            said.nonsense.push(message);
        }
    }
    match annotations.get(ABANDON).map(String::as_str) {
        None | Some("false") => {}
        Some("true") => said.abandon = true,
        Some(_) => said.nonsense.push(not_one_of(ABANDON, "is neither \"true\" nor \"false\" and is ignored")),
    }
    if let Some(value) = annotations.get(APPROVE) {
        match value.rsplit_once('/').map(|(id, gate)| (id, gate.parse::<Gate>())) {
            Some((id, Ok(gate))) => {
                let id = MigrationId(id.to_owned());
                said.words.push((APPROVE, id.clone(), Word::Approve(id, gate)));
            }
            Some((_, Err(()))) | None => said.nonsense.push(format!(
                "metadata.annotations[{APPROVE}]: is no <migration id>/<gate>; copy status.migration.id and .gate"
            )),
        }
    }
    for (name, word) in [(ABORT, Word::Abort), (RETRY, Word::Retry)] {
        said.words.extend(annotations.get(name).map(|id| (name, MigrationId(id.clone()), word)));
    }
    said
}

fn not_one_of(annotation: &str, problem: &str) -> String {
    format!("metadata.annotations[{annotation}]: {problem}; write one of them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::annotation::PAUSED;

    fn annotated(pairs: &[(&str, &str)]) -> Said {
        said(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn words_name_their_migration() {
        let id = MigrationId("0123456789-1".into());
        let said = annotated(&[(APPROVE, "0123456789-1/switch"), (ABORT, "0123456789-1")]);
        assert_eq!(
            said.words,
            [(APPROVE, id.clone(), Word::Approve(id.clone(), Gate::Switch)), (ABORT, id, Word::Abort)]
        );
        assert!(said.nonsense.is_empty() && !said.paused && !said.abandon);
    }

    #[test]
    fn what_makes_no_sense_is_named_and_harms_nothing() {
        let said = annotated(&[(APPROVE, "switch"), (PAUSED, "yes"), (ABANDON, "yes")]);
        assert!(said.paused && !said.abandon && said.words.is_empty());
        assert_eq!(said.nonsense.len(), 3);
        for annotation in [APPROVE, PAUSED, ABANDON] {
            assert!(said.nonsense.iter().any(|text| text.contains(annotation)), "{annotation}");
        }
    }
}
