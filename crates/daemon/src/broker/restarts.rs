// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Limits how often a worker is started: for one session, so that a stream that kills its decoder
//! does not keep the machine busy starting processes; and for all, so that a client that opens and
//! closes sessions does not either.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Restarts within [`WINDOW`] after which a session gets no worker any more.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// Workers that may be started in a row, for all sessions together, and how soon one more may be.
const BURST: u32 = 128;
const REFILL: Duration = Duration::from_millis(25);
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
    /// Too many were started for all sessions together.
    Busy,
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
    /// Starts of all sessions that count against [`BURST`], and up to when they were forgotten.
    burst: u32,
    since: Option<Instant>,
}

impl Restarts {
    /// Decides about one more start, which is counted.
    pub(crate) fn request(&mut self, session: u64, now: Instant) -> Verdict {
        if self.is_busy(now) {
            return Verdict::Busy;
        }
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
        if verdict == Verdict::Start {
            self.burst += 1;
        }
        verdict
    }

    fn is_busy(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let passed = now.duration_since(since).as_millis() / REFILL.as_millis();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.burst = self.burst.saturating_sub(passed);
        self.since = Some(if self.burst == 0 {
            now
        } else {
            since + REFILL * passed
        });
        self.burst >= BURST
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
    fn all_sessions_together_have_a_limit() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for session in 0..u64::from(BURST) {
            assert_eq!(restarts.request(session, now), Verdict::Start);
        }
        assert_eq!(restarts.request(1000, now), Verdict::Busy);
        assert_eq!(restarts.request(1000, now + REFILL), Verdict::Start);
        assert_eq!(restarts.request(1001, now + REFILL), Verdict::Busy);
        assert_eq!(restarts.request(1002, now + REFILL * 500), Verdict::Start);
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
            restarts.request(session, now + REFILL * session as u32);
        }
        assert!(restarts.sessions.contains_key(&9_999));
        assert!(restarts.sessions.len() <= SESSIONS);
    }
}
