//! Whether a store still has what copiers of some migrations left there: one command for all of them. Changes nothing.

use std::sync::{Arc, atomic::AtomicU64};

use redis::Value;

use super::{
    Endpoint,
    error::CopyError,
    key::Ours,
    link::{Link, items},
};

/// Those of `migrations` that have a record or a fence in the endpoint's database. A source has only a fence, and only
/// from the seal on.
pub async fn traces(at: &Endpoint, migrations: &[String]) -> Result<Vec<String>, CopyError> {
    if migrations.is_empty() {
        return Ok(Vec::new());
    }
    let mut link = Link::open(at, at.database, Arc::new(AtomicU64::new(0))).await?;
    let mut command = redis::cmd("MGET");
    for ours in migrations.iter().map(|migration| Ours::new(migration)) {
        command.arg(ours.record()).arg(ours.fence());
    }
    let values = items(link.ask("MGET", &command).await?).ok_or_else(|| link.unexpected("MGET", "no list"))?;
    let marked = values.chunks(2).map(|pair| pair.iter().any(|value| *value != Value::Nil));
    Ok(migrations.iter().zip(marked).filter(|(_, marked)| *marked).map(|(migration, _)| migration.clone()).collect())
}
