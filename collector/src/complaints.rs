//! Limits how often a repeated failure is printed: a store that is down fails a hundred times a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fault;

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// The failures of one kind.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<State>);

#[derive(Default)]
struct State {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Prints a line, unless one was printed within the last minute.
    pub(crate) fn say(&self, line: &str) {
        if let Some(unsaid) = self.is_due(Instant::now()) {
            let more = if unsaid == 0 { String::new() } else { format!(" ({unsaid} more in the last minute)") };
            fault::complain(&format!("{line}{more}"));
        }
    }

    /// Returns how many lines were suppressed since the last one. None: this line is suppressed too.
    fn is_due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_the_others_are_counted() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.is_due(start), Some(0));
        assert_eq!((complaints.is_due(start), complaints.is_due(start + PAUSE / 2)), (None, None));
        assert_eq!(complaints.is_due(start + PAUSE), Some(2));
        assert_eq!(complaints.is_due(start + PAUSE * 2), Some(0));
    }
}
