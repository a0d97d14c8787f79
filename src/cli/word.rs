//! `approve`, `abort`, `retry`: one word of a person, written down as one journal line. Nothing else is changed here;
//! a running apply takes the word up, else the next one does.

use serde_json::json;

use super::args::Output;
use super::error::Error;
use super::object::Session;
use super::{exit, look, output};
use crate::clock::{Clock, Time as _};
use crate::connect::Connection;
use crate::desired::Desired;
use crate::engine::World;
use crate::error::Class;
use crate::identity::{MigrationId, Owner};
use crate::journal::Gate;
use crate::step::Step;
use crate::word::{Answer, Word, answer, answer_to, shown};

/// A running apply writes the same journal: the word is said again when it came first.
const ATTEMPTS: u32 = 10;

/// `approve`.
///
/// # Errors
/// When no object has that migration, or it cannot be written down.
pub async fn approve(session: &Session, (id, gate): &(MigrationId, Gate)) -> Result<u8, Error> {
    say(session, Some(id), &Word::Approve(id.clone(), *gate)).await
}

/// `abort`.
///
/// # Errors
/// When there is nothing to abort, or it cannot be written down.
pub async fn abort(session: &Session, id: Option<&MigrationId>) -> Result<u8, Error> {
    say(session, id, &Word::Abort).await
}

/// `retry`.
///
/// # Errors
/// When there is nothing to retry, or it cannot be written down.
pub async fn retry(session: &Session, id: Option<&MigrationId>) -> Result<u8, Error> {
    say(session, id, &Word::Retry).await
}

async fn say(session: &Session, id: Option<&MigrationId>, word: &Word) -> Result<u8, Error> {
    let objects = session.objects().await?;
    let Connection { owner, desired, world, .. } = pick(&objects, id)?;
    let answer = write(world, owner, id.map(|id| (id, desired)), word).await?;
    match session.output {
        Output::Text => output::line(&session.pasteable(&format!("{owner}: {answer}"))),
        Output::Json => {
            output::document(vec![json!({ "object": owner.to_string(), "said": session.pasteable(&answer) })]);
        }
    }
    Ok(exit::CONVERGED)
}

/// The object a migration belongs to: its id begins with the owner's digest.
fn pick<'a>(objects: &'a [Connection], id: Option<&MigrationId>) -> Result<&'a Connection, Error> {
    let of = |object: &&Connection| {
        id.is_none_or(|id| id.0.strip_prefix(&object.owner.digest()).is_some_and(|rest| rest.starts_with('-')))
    };
    let mut found = objects.iter().filter(of);
    match (found.next(), found.next(), id) {
        (Some(object), None, _) => Ok(object),
        (None, _, Some(id)) => Err(Error::refused(
            format!("migration {} belongs to none of these objects", shown(id)),
            "give the manifest it was begun with, and the same --installation and --namespace",
        )),
        (None, _, None) => Err(Error::refused("there is no object", "give a manifest with one")),
        (Some(_), Some(_), _) => {
            Err(Error::refused("there are several objects", "say which migration is meant, as `status` prints it"))
        }
    }
}

/// Writes the word down and says what that means.
pub(super) async fn write<W: World>(
    world: &W,
    owner: &Owner,
    to: Option<(&MigrationId, &Desired)>,
    said: &Word,
) -> Result<String, Error> {
    for attempt in 1.. {
        let journal = look::journal(world, owner).await?;
        let answer = to.map_or_else(|| answer(&journal, said), |(id, desired)| answer_to(&journal, desired, id, said));
        let entry = match answer {
            Answer::Say(entry) => entry,
            Answer::Said(already) => return Ok(already),
            Answer::No(what, remedy) => return Err(Error::refused(format!("{owner}: {what}"), remedy)),
        };
        let step = Step::Journal { expect: journal.sequence, entry };
        match world.perform(owner, &step, &journal, Clock.now()).await {
            Ok(_) => return Ok(written(said)),
            Err(error) if error.class == Class::Conflict && attempt < ATTEMPTS => {
                Clock.sleep(std::time::Duration::from_millis(200)).await;
            }
            Err(error) => return Err(Error::Cloud { object: owner.to_string(), error: Box::new(error) }),
        }
    }
    Ok(String::new())
}

fn written(word: &Word) -> String {
    let what = match word {
        Word::Approve(id, gate) => format!("{id}/{gate} is approved"),
        Word::Abort => "is to be aborted".to_owned(),
        Word::Retry => "is to be tried again".to_owned(),
    };
    format!("{what}; a running apply takes it up, else: sessionbackend apply -f FILE")
}
