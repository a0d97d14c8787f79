//! `destroy`: lets objects go. Shows what would be removed, asks, and then drives the same planner with nothing desired.

use std::io::{BufRead as _, IsTerminal as _};

use super::apply::drive_all;
use super::args::Output;
use super::error::Error;
use super::look::look;
use super::object::Session;
use super::output;
use crate::clock::{Clock, Time as _};
use crate::connect::Connection;
use crate::render::plan::Preview;

/// `destroy`.
///
/// # Errors
/// When it cannot be looked at, or nobody said yes.
pub async fn destroy(session: &Session, yes: bool) -> Result<u8, Error> {
    let mut objects = session.objects().await?;
    for object in &mut objects {
        object.desired = object.desired.deleted();
    }
    if !yes {
        confirm(session, &objects).await?;
    }
    drive_all(session, &objects).await
}

async fn confirm(session: &Session, objects: &[Connection]) -> Result<(), Error> {
    if session.output == Output::Json || !std::io::stdin().is_terminal() {
        return Err(Error::refused("destroy asks before it acts, and there is nobody to ask", "say --yes"));
    }
    for Connection { owner, desired, world, .. } in objects {
        let picture = look(world, owner, desired).await?;
        output::text(&session.pasteable(&Preview::of(owner, desired, &picture, Clock.now()).text()));
    }
    output::text("\nLet go of this? Only `yes` counts: ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == "yes" {
        return Ok(());
    }
    Err(Error::refused("nothing was changed", "say yes, or --yes"))
}
