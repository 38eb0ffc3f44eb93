// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Limits how often a worker is started for one session, so that a stream that kills its decoder
//! does not keep the machine busy starting processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Restarts within [`WINDOW`] after which a session gets no worker any more.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// Sessions that are remembered. Their ends are not known here; ids increase, so the oldest goes.
const SESSIONS: usize = 1024;

/// What to do about a session that wants a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start one.
    Start,
    /// It has had too many: this is the time to say so.
    Refuse,
    /// It has been refused before.
    Refused,
}

#[derive(Debug)]
enum History {
    /// When workers were started, oldest first, at most `MOST + 1`.
    Starts(Vec<Instant>),
    Refused,
}

/// The histories of the sessions.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    sessions: BTreeMap<u64, History>,
}

impl Restarts {
    /// Decides about one more start, which is counted.
    pub(crate) fn request(&mut self, session: u64, now: Instant) -> Verdict {
        let history = self
            .sessions
            .entry(session)
            .or_insert_with(|| History::Starts(Vec::new()));
        let verdict = match history {
            History::Refused => Verdict::Refused,
            History::Starts(starts) => {
                starts.retain(|&start| now.duration_since(start) < WINDOW);
                // The first start is no restart.
                if starts.len() > MOST {
                    *history = History::Refused;
                    Verdict::Refuse
                } else {
                    starts.push(now);
                    Verdict::Start
                }
            }
        };
        if self.sessions.len() > SESSIONS {
            self.sessions.pop_first();
        }
        verdict
    }

    /// Uncounts the last start: the worker did not end by its own fault.
    pub(crate) fn excuse(&mut self, session: u64) {
        if let Some(History::Starts(starts)) = self.sessions.get_mut(&session) {
            starts.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_restarts_in_ten_seconds_are_the_limit() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for n in 0..=5 {
            assert_eq!(
                restarts.request(1, now + Duration::from_secs(n)),
                Verdict::Start,
                "start {n}"
            );
        }
        let then = now + Duration::from_secs(9);
        assert_eq!(restarts.request(1, then), Verdict::Refuse);
        assert_eq!(restarts.request(1, then + WINDOW * 5), Verdict::Refused);
        assert_eq!(restarts.request(2, then), Verdict::Start, "another session");
    }

    #[test]
    fn slow_restarts_go_on() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for n in 0..50 {
            assert_eq!(
                restarts.request(1, now + Duration::from_secs(2 * n)),
                Verdict::Start
            );
        }
    }

    #[test]
    fn excused_workers_do_not_count() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for _ in 0..50 {
            assert_eq!(restarts.request(1, now), Verdict::Start);
            restarts.excuse(1);
        }
        restarts.excuse(2);
    }

    #[test]
    fn old_sessions_are_forgotten() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for session in 0..10_000 {
            restarts.request(session, now);
        }
        assert!(restarts.sessions.len() <= SESSIONS);
    }
}
