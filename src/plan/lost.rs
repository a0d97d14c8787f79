//! Things of ours whose id was lost with the reply of the call that made them: which of their namesakes is ours.
//! Our tag says it; Upstash has no tags, there the time of creation does. What could not be listed is not gone.

use std::time::Duration;

use jiff::Timestamp;

use crate::journal::{Made, Resource};
use crate::observed::{Namesake, Reading};

use super::{Draft, Reason, after};

/// By how much the clock of a vendor may be behind ours.
const SKEW: Duration = Duration::from_mins(1);
/// The lists of the vendors are eventually consistent: what is not listed this soon may still be there.
pub(super) const LISTED: Duration = Duration::from_mins(2);

/// What became of the call that was to make something.
pub(super) enum Lost<'a> {
    /// It made this.
    Found(&'a str),
    /// What has the name was made by somebody else.
    Foreign(&'a Namesake),
    /// There is nothing of that name.
    Nothing,
}

impl<'a> Draft<'a> {
    /// What the call that was to make `resource` came to. `None` where that cannot be told; the draft says why.
    pub(super) fn lost(&mut self, resource: &Resource, made: &Made) -> Option<Lost<'a>> {
        let what = String::from(resource.clone());
        let reading = self.inputs.observed.namesakes.get(resource).unwrap_or(&Reading::Absent);
        let Reading::Present(namesakes) = reading else {
            self.unread(reading, &what);
            return None;
        };
        let mut ours = namesakes.iter().filter(|namesake| is_ours(namesake, made));
        match (ours.next(), ours.next(), namesakes.first()) {
            (Some(found), None, _) => Some(Lost::Found(&found.id)),
            // Each of them carries our tag: one after the other is taken.
            (Some(found), Some(_), _) if found.ours == Some(true) => Some(Lost::Found(&found.id)),
            (Some(one), Some(other), _) => {
                self.block(
                    Reason::Unclear,
                    what,
                    format!("{} and {} have that name, and either may be ours", one.id, other.id),
                    "give the one that is not ours another name, or delete it",
                );
                None
            }
            (None, _, Some(foreign)) => Some(Lost::Foreign(foreign)),
            (None, _, None) => Some(Lost::Nothing),
        }
    }

    /// Something of somebody else's is in the way of what is to be made.
    pub(super) fn name_is_taken(&mut self, resource: &Resource, by: &Namesake, remedy: &str) {
        let why = match by.ours {
            Some(_) => "does not carry our tag".to_owned(),
            None => match by.created {
                Some(at) => format!("was made at {at:.0}, before we were about to make one"),
                None => "does not say when it was made".to_owned(),
            },
        };
        let what = String::from(resource.clone());
        self.block(
            Reason::NameTaken,
            what.clone(),
            format!("{what} exists that we did not make: {} {why}", by.id),
            remedy,
        );
    }
}

fn is_ours(namesake: &Namesake, made: &Made) -> bool {
    namesake.ours.unwrap_or_else(|| made_since(namesake.created, made.intended))
}

/// Whether what was made at `created` by the vendor's clock can be what we were about to make at `intended` by ours.
#[must_use]
pub fn made_since(created: Option<Timestamp>, intended: Timestamp) -> bool {
    created.is_some_and(|at| after(at, SKEW) >= intended)
}
