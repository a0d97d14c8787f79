//! Filter patterns of CloudWatch Logs for plain text: terms, `"phrases"`, `?any ?of`, `-not`. JSON and space-delimited
//! patterns and regular expressions are refused rather than misread.

/// A parsed pattern.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; an empty one matches everything.
    ///
    /// # Errors
    /// With what cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pattern = Self::default();
        let mut rest = text.trim_start();
        if rest.starts_with(['{', '[']) {
            return Err("JSON and space-delimited patterns are not offered here");
        }
        while !rest.is_empty() {
            let (list, after) = match rest.as_bytes()[0] {
                b'?' => (&mut pattern.any, &rest[1..]),
                b'-' => (&mut pattern.none, &rest[1..]),
                _ => (&mut pattern.all, rest),
            };
            if after.starts_with('%') {
                return Err("regular expressions are not offered here");
            }
            let (term, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let end = quoted.find('"').ok_or("a quotation mark is missing")?;
                    (&quoted[..end], &quoted[end + 1..])
                }
                None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            if term.is_empty() {
                return Err("a term is empty");
            }
            list.push(term.to_owned());
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    /// Whether a message matches; upper and lower case differ. With `?` terms one of them is enough.
    pub(super) fn matches(&self, message: &str) -> bool {
        let has = |term: &String| message.contains(term.as_str());
        !self.none.iter().any(has) && self.all.iter().all(has) && (self.any.is_empty() || self.any.iter().any(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_phrases_alternatives_and_exclusions() {
        let table = [
            ("", "anything", true),
            ("ERROR", "an ERROR here", true),
            ("ERROR", "an error here", false),
            ("ERROR redis", "redis ERROR", true),
            ("\"redis ERROR\"", "ERROR redis", false),
            ("?WARN ?ERROR", "ERROR", true),
            ("?WARN ?ERROR", "INFO", false),
            ("ERROR -timeout", "ERROR timeout", false),
            ("ERROR -\"connection timeout\"", "ERROR timeout", true),
        ];
        for (pattern, message, expected) in table {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(message), expected, "{pattern} on {message}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        for pattern in ["{ $.level = \"error\" }", "[a, b]", "%regex%", "\"open"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
