//! A person's word to a migration: what it means to the journal as it stands. Pure; the command line takes words as commands,
//! the controller as annotations.

use crate::desired::Desired;
use crate::error::presentable;
use crate::identity::MigrationId;
use crate::journal::{Entry, Gate, Journal, Migration, ServiceMove};
use crate::render::apply::outcome;

/// Bytes of an id as it is said again: ours are shorter, and what somebody writes in an annotation has no limit of its own.
const LONGEST_ID: usize = 64;

/// A person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Open a gate.
    Approve(MigrationId, Gate),
    /// Go back, or give up.
    Abort,
    /// Try again.
    Retry,
}

/// What a word does to a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is written.
    Say(Entry),
    /// It was said before.
    Said(String),
    /// It makes no sense now: what is wrong, and what to do.
    No(String, String),
}

/// What `word` means to `journal` and to what is wanted, where it is said to one migration.
#[must_use]
pub fn answer_to(journal: &Journal, desired: &Desired, id: &MigrationId, word: &Word) -> Answer {
    match (journal.migration.as_ref().map(|migration| &migration.id), word) {
        (Some(last), Word::Approve(_, gate)) if last == id && !closes(desired, *gate) => Answer::No(
            format!("migration {id} has no gate {gate}: by its manifest nothing waits there"),
            "its status names the gate that waits".to_owned(),
        ),
        (Some(last), _) if last == id => answer(journal, word),
        (last, _) => {
            let now = last.map_or("there has been none".to_owned(), |last| format!("the last one is {last}"));
            Answer::No(format!("there is no migration {}; {now}", shown(id)), "look at its status".to_owned())
        }
    }
}

/// What `word` means to `journal`.
#[must_use]
pub fn answer(journal: &Journal, word: &Word) -> Answer {
    let open = journal.open_migration();
    match (word, open) {
        (Word::Approve(id, gate), Some(migration)) if migration.id == *id => {
            let left = migration.rollback.is_some() || migration.services.iter().any(ServiceMove::was_told);
            if *gate == Gate::GiveUp && !left {
                Answer::No(
                    format!("migration {id} has left no store yet, so there is none to give up"),
                    "say `abort` first; where a store does not answer then, `status` prints the word".to_owned(),
                )
            } else if migration.approved.contains(gate) {
                Answer::Said(format!("{id}/{gate} was approved before"))
            } else {
                Answer::Say(Entry::Approve(id.clone(), *gate))
            }
        }
        (Word::Approve(id, _), open) => {
            let now = open.map_or_else(|| last(journal), |migration| format!("the open one is {}", migration.id));
            Answer::No(
                format!("migration {} is not open; {now}", shown(id)),
                "look at `sessionbackend status`".to_owned(),
            )
        }
        (Word::Abort, Some(Migration { rollback: Some(rollback), .. })) => {
            Answer::Said(format!("it is on its way back already: {}: {}", rollback.reason, rollback.message))
        }
        (Word::Abort, Some(Migration { baked: Some(_), from, id, .. })) => {
            let former = from.as_ref().map_or_else(|| "the former store".to_owned(), |from| from.id.to_string());
            Answer::No(
                format!("migration {id} is past its bake, and there is no way back in it any more"),
                format!("let it end, then name {former} in spec.store: that is a migration of its own"),
            )
        }
        (Word::Abort, Some(_)) => Answer::Say(Entry::Abort),
        (Word::Abort, None) => Answer::No(
            format!("there is nothing to abort: {}", last(journal)),
            "change spec.store to move back".to_owned(),
        ),
        (Word::Retry, Some(_)) => Answer::Say(Entry::Retry),
        // Also where what was done was undone too often: from then on it is counted anew.
        (Word::Retry, None) if journal.latch.is_some() || journal.reverts > 0 => Answer::Say(Entry::Retry),
        (Word::Retry, None) => {
            Answer::No(format!("there is nothing to retry: {}", last(journal)), "see `sessionbackend plan`".to_owned())
        }
    }
}

/// An id somebody gave, fit to be said again.
#[must_use]
pub fn shown(id: &MigrationId) -> String {
    presentable(&id.0, LONGEST_ID)
}

/// Whether `desired` closes this gate at all. What a person gives up has a gate of its own, opened by what happens.
#[must_use]
pub fn closes(desired: &Desired, gate: Gate) -> bool {
    let Desired::Present(target) = desired else { return true };
    let migration = &target.migration;
    match gate {
        Gate::Switch => migration.approval.switch,
        Gate::Handover => !target.other_consumers.is_empty(),
        Gate::Retire => migration.approval.retire || migration.retire.delete_old_store,
        Gate::GiveUp => true,
    }
}

fn last(journal: &Journal) -> String {
    match journal.migration.as_ref().and_then(|last| Some((last, last.ended.as_ref()?))) {
        Some((last, ended)) => {
            format!("migration {} was {} at {}", last.id, outcome(ended.outcome), crate::render::moment(ended.at))
        }
        None => "there has been no migration".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::DeletionPolicy;

    #[test]
    fn an_id_from_outside_is_said_again_in_short_and_without_control_characters() {
        let long = MigrationId(format!("\u{1b}[31m{}", "x".repeat(200_000)));
        let (journal, desired) = (Journal::default(), Desired::absent(DeletionPolicy::Retain));
        let approve = Word::Approve(long.clone(), Gate::Switch);
        let answers = [&Word::Abort, &Word::Retry, &approve].map(|word| answer_to(&journal, &desired, &long, word));
        for answer in answers.into_iter().chain([answer(&journal, &approve)]) {
            let Answer::No(what, remedy) = answer else { panic!("{answer:?}") };
            assert!(what.len() + remedy.len() < 300 && what.contains("xxx…"), "{} bytes", what.len());
            assert!(!what.contains('\u{1b}'), "{what:?}");
        }
    }
}
