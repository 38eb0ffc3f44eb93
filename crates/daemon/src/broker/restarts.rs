// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Limits how often workers are started, so that starting processes does not keep the machine busy: for one
//! session, whose stream may crash its decoder, and for all together, since a client may open and close
//! sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most restarts of a session's worker within [`WINDOW`]. After one more the session gets no worker any
/// more.
const MAX_RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// The workers that may be started at once for all sessions together, and the time after which one more may
/// be.
const BURST: u32 = 128;
const REFILL: Duration = Duration::from_millis(25);
/// The most sessions that are remembered. Nothing tells when they end. Ids increase, so the oldest is
/// forgotten.
const MAX_SESSIONS: usize = 1024;

/// The answer to a session's request for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start one.
    Start,
    /// The session has had too many. This is its first refusal.
    Refuse,
    /// The session was refused before.
    RefuseAgain,
    /// Too many were started for all sessions together.
    Overload,
}

#[derive(Debug)]
enum History {
    /// When workers were started, oldest first, at most `MAX_RESTARTS + 1`.
    Starts(Vec<Instant>),
    Refused,
}

/// The histories of the sessions.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    sessions: BTreeMap<u64, History>,
    /// The starts of all sessions that count against [`BURST`]. One is forgotten every [`REFILL`].
    burst: u32,
    /// The time of the last start that was forgotten.
    refilled_at: Option<Instant>,
}

impl Restarts {
    /// Decides whether one more worker is started, and counts it if so.
    pub(crate) fn decide(&mut self, session: u64, now: Instant) -> Decision {
        if self.is_overloaded(now) {
            return Decision::Overload;
        }
        let history = self
            .sessions
            .entry(session)
            .or_insert_with(|| History::Starts(Vec::new()));
        let decision = match history {
            History::Refused => Decision::RefuseAgain,
            History::Starts(starts) => {
                starts.retain(|&start| now.duration_since(start) < WINDOW);
                // The first start is no restart.
                if starts.len() > MAX_RESTARTS {
                    *history = History::Refused;
                    Decision::Refuse
                } else {
                    starts.push(now);
                    Decision::Start
                }
            }
        };
        if self.sessions.len() > MAX_SESSIONS {
            self.sessions.pop_first();
        }
        if decision == Decision::Start {
            self.burst += 1;
        }
        decision
    }

    fn is_overloaded(&mut self, now: Instant) -> bool {
        let last = *self.refilled_at.get_or_insert(now);
        let passed = now.duration_since(last).as_millis() / REFILL.as_millis();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.burst = self.burst.saturating_sub(passed);
        self.refilled_at = Some(if self.burst == 0 {
            now
        } else {
            last + REFILL * passed
        });
        self.burst >= BURST
    }

    /// Forgets the session's last start: its worker did not end by its own fault.
    pub(crate) fn forget_last(&mut self, session: u64) {
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
                restarts.decide(1, now + Duration::from_secs(n)),
                Decision::Start,
                "start {n}"
            );
        }
        let then = now + Duration::from_secs(9);
        assert_eq!(restarts.decide(1, then), Decision::Refuse);
        assert_eq!(restarts.decide(1, then + WINDOW * 5), Decision::RefuseAgain);
        assert_eq!(restarts.decide(2, then), Decision::Start, "another session");
    }

    #[test]
    fn slow_restarts_go_on() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for n in 0..50 {
            assert_eq!(
                restarts.decide(1, now + Duration::from_secs(2 * n)),
                Decision::Start
            );
        }
    }

    #[test]
    fn all_sessions_together_have_a_limit() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for session in 0..u64::from(BURST) {
            assert_eq!(restarts.decide(session, now), Decision::Start);
        }
        assert_eq!(restarts.decide(1000, now), Decision::Overload);
        assert_eq!(restarts.decide(1000, now + REFILL), Decision::Start);
        assert_eq!(restarts.decide(1001, now + REFILL), Decision::Overload);
        assert_eq!(restarts.decide(1002, now + REFILL * 500), Decision::Start);
    }

    #[test]
    fn excused_workers_do_not_count() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for _ in 0..50 {
            assert_eq!(restarts.decide(1, now), Decision::Start);
            restarts.forget_last(1);
        }
        restarts.forget_last(2);
    }

    #[test]
    fn old_sessions_are_forgotten() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for session in 0..10_000 {
            restarts.decide(session, now + REFILL * session as u32);
        }
        assert!(restarts.sessions.contains_key(&9_999));
        assert!(restarts.sessions.len() <= MAX_SESSIONS);
    }
}
