//! Looks for secrets in everything that was written: each file below a directory but those that may hold them. Knows no
//! file by its name, so that what is written tomorrow is looked at too.

use std::path::Path;

/// Shorter values stand in texts by chance.
const LEAST: usize = 12;

/// Something that may be written nowhere: what it is, and itself.
pub type Canary = (String, String);

/// Canaries among values, by their names; what is too short to be one is left out.
pub fn canaries<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Canary> {
    let long = values.into_iter().filter(|(_, value)| value.len() >= LEAST);
    long.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Which of them stand in a text, each with the place.
pub fn in_text(canaries: &[Canary], text: &str, place: &str) -> Vec<String> {
    let found = canaries.iter().filter(|(_, secret)| text.contains(secret.as_str()));
    found.map(|(what, _)| format!("{what} in {place}")).collect()
}

/// Which of them stand in any file below `dir`, but in those of `except`.
///
/// # Errors
/// When something cannot be read: what nobody has looked at is not clean.
pub fn below(canaries: &[Canary], dir: &Path, except: &[&Path]) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if except.contains(&path.as_path()) {
            continue;
        }
        if path.is_dir() {
            found.extend(below(canaries, &path, except)?);
        } else {
            let bytes = std::fs::read(&path)?;
            found.extend(in_text(canaries, &String::from_utf8_lossy(&bytes), &path.display().to_string()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_was_written_and_only_the_excepted_may_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, manifest) = (dir.path().join("a/b"), dir.path().join("manifest.yaml"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(&manifest, "apiKey: sk_live_51N0tAReal").unwrap();
        std::fs::write(deep.join("said.log"), b"\xff url=sk_live_51N0tAReal@host").unwrap();
        let canaries = canaries([("the key", "sk_live_51N0tAReal"), ("a flag", "on")]);
        let found = below(&canaries, dir.path(), &[&manifest]).unwrap();
        assert_eq!(found, [format!("the key in {}", deep.join("said.log").display())]);
        assert_eq!(below(&canaries, dir.path(), &[]).unwrap().len(), 2);
    }
}
