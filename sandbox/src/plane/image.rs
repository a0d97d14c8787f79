//! Images are local commands registered by name. This file says which command an image identifier means.

use std::collections::BTreeMap;

/// Registered images: name → command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images(BTreeMap<String, Vec<String>>);

impl Images {
    /// Registers or replaces. The error says what is wrong with the command line.
    pub(crate) fn add(&mut self, name: &str, command: &str) -> Result<(), String> {
        let words = words(command)?;
        if name.is_empty() || words.is_empty() {
            return Err(format!("image `{name}={command}`: write name='command arguments'"));
        }
        self.0.insert(name.to_owned(), words);
        Ok(())
    }

    /// The command of an identifier such as `123456789012.dkr.ecr.us-east-1.amazonaws.com/web:v2`: registered under
    /// exactly that, or without its tag, or under the repository's last name.
    pub(crate) fn command(&self, identifier: &str) -> Option<&Vec<String>> {
        let (registry, last) =
            identifier.rsplit_once('/').map_or(("", identifier), |(registry, last)| (registry, last));
        let untagged = last.split(['@', ':']).next().unwrap_or(last);
        self.0
            .get(identifier)
            .or_else(|| self.0.get(&format!("{registry}/{untagged}")))
            .or_else(|| self.0.get(last))
            .or_else(|| self.0.get(untagged))
    }

    pub(crate) fn list(&self) -> &BTreeMap<String, Vec<String>> {
        &self.0
    }
}

/// Words as a shell splits them, with quotes and backslashes and nothing else: no shell runs, so that a signal
/// meets the application itself.
pub(crate) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => {
                let inside = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(format!("`{line}`: a quote {c} is not closed")),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => inside.extend(chars.next()),
                        Some(other) => inside.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split_as_a_shell_does() {
        assert_eq!(
            words(r#"python3 -c 'print("a b")' "x \" y" '' a\ b"#).unwrap(),
            ["python3", "-c", "print(\"a b\")", "x \" y", "", "a b"]
        );
        assert!(words("sh -c 'oops").is_err());
    }

    #[test]
    fn an_image_is_found_under_the_names_people_register() {
        let mut images = Images::default();
        images.add("web", "app --serve").unwrap();
        images.add("public.ecr.aws/x/api:v1", "api").unwrap();
        assert_eq!(images.command("123456789012.dkr.ecr.us-east-1.amazonaws.com/web:v2").unwrap()[0], "app");
        assert_eq!(images.command("public.ecr.aws/x/api:v1").unwrap()[0], "api");
        assert_eq!(images.command("public.ecr.aws/x/api:v2"), None);
    }
}
