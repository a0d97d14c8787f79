//! `apply`: drives one object after another to its end, with its copiers as tasks of this process.

use super::drive::Drive;
use super::error::Error;
use super::exit;
use super::object::Session;
use super::report::Report;
use crate::clock::Clock;
use crate::connect::Connection;
use crate::stop::Stop;

/// `apply`.
///
/// # Errors
/// When it cannot begin.
pub async fn apply(session: &Session) -> Result<u8, Error> {
    let objects = session.objects().await?;
    drive_all(session, &objects).await
}

/// Drives one object after another; the first that does not get to its end is the last.
pub(super) async fn drive_all(session: &Session, objects: &[Connection]) -> Result<u8, Error> {
    let stop = Stop::on_signals(|text| eprintln!("{text}")).map_err(Error::Signals)?;
    for (at, Connection { owner, desired, world, copiers, .. }) in objects.iter().enumerate() {
        let report = Report::new(session, &owner.to_string());
        let drive = Drive { world, time: &Clock, stop: &stop, tell: &|told| report.tell(told) };
        let ending = Box::pin(drive.run(owner, desired)).await;
        copiers.stop().await;
        let code = exit::of(&ending);
        if code != exit::CONVERGED {
            let rest: Vec<_> = objects.iter().skip(at + 1).map(|object| object.owner.to_string()).collect();
            if !rest.is_empty() {
                eprintln!("sessionbackend: not begun: {}", rest.join(", "));
            }
            return Ok(code);
        }
    }
    Ok(exit::CONVERGED)
}
