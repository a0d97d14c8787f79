//! What people read while the demo runs: one line an event, with the time since the start and who speaks.
//! It writes to stdout only and decides nothing.

use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

/// The demo's voice.
#[derive(Debug, Clone)]
pub struct Terminal {
    begun: Instant,
}

impl Terminal {
    /// Begins counting now.
    pub fn new() -> Self {
        Self { begun: Instant::now() }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A heading with a rule below it.
    pub fn heading(&self, text: &str) {
        self.print(&format!("\n{text}\n{}", "─".repeat(text.chars().count().max(72))));
    }

    /// One event.
    pub fn say(&self, who: &str, what: &str) {
        self.print(&format!("{:>6.1}s  {who:<9} {what}", self.elapsed().as_secs_f64()));
    }

    /// Text as it is.
    pub fn print(&self, text: &str) {
        // Whoever closed the terminal does not want to read on; the demo still has to end what it started.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

/// A number as people write it: `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        let written: Vec<_> = [0, 999, 1000, 12_345, 1_234_567].into_iter().map(thousands).collect();
        assert_eq!(written, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
