//! How well a container is: what its health checks have found, in the shape of docker's `State.Health`.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// So many results are kept.
const KEPT: usize = 5;

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check was successful yet, nor have enough failed.
    Starting,
    /// The last check was successful, or not enough have failed since.
    Healthy,
    /// Enough checks in a row have failed, or nobody looks any more.
    Unhealthy,
}

impl HealthStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// What the checks of a container have found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// So many checks in a row have failed.
    pub failing_streak: i64,
    /// The last results, the oldest first.
    pub log: Vec<HealthResult>,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub start: OffsetDateTime,
    /// When it was over.
    #[serde(with = "time::serde::rfc3339")]
    pub end: OffsetDateTime,
    /// Its status; -1: it was not over in time, or could not begin.
    pub exit_code: i32,
    /// The beginning of what it has written.
    pub output: String,
}

impl Health {
    /// Of a container that begins; what was found before it began is kept.
    pub fn starting(before: Option<Self>) -> Self {
        let log = before.map(|health| health.log).unwrap_or_default();
        Self { status: HealthStatus::Starting, failing_streak: 0, log }
    }

    /// Docker calls a container unhealthy as long as nobody looks: while it is paused, and when it has ended.
    pub fn not_looked_at(self) -> Self {
        Self { status: HealthStatus::Unhealthy, ..self }
    }

    /// Takes a result. `forgiven`: a failure does not count as long as the container was never well. Whether the word has
    /// changed.
    pub fn take(&mut self, result: HealthResult, retries: i64, forgiven: bool) -> bool {
        let before = self.status;
        let is_well = result.exit_code == 0;
        if self.log.len() >= KEPT {
            self.log.drain(..=self.log.len() - KEPT);
        }
        self.log.push(result);
        if is_well {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(forgiven && before == HealthStatus::Starting) {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, HealthResult, HealthStatus};

    fn result(exit_code: i32) -> HealthResult {
        let now = time::OffsetDateTime::UNIX_EPOCH;
        HealthResult { start: now, end: now, exit_code, output: String::new() }
    }

    #[test]
    fn one_success_makes_it_healthy_and_some_failures_in_a_row_unhealthy() {
        let mut health = Health::starting(None);
        let mut after = |code| {
            let has_changed = health.take(result(code), 2, false);
            (health.status, health.failing_streak, has_changed)
        };
        assert_eq!(after(1), (HealthStatus::Starting, 1, false));
        assert_eq!(after(0), (HealthStatus::Healthy, 0, true));
        assert_eq!(after(1), (HealthStatus::Healthy, 1, false));
        assert_eq!(after(-1), (HealthStatus::Unhealthy, 2, true));
        assert_eq!(after(3), (HealthStatus::Unhealthy, 3, false));
        assert_eq!(after(0), (HealthStatus::Healthy, 0, true));
        let codes: Vec<i32> = health.log.iter().map(|result| result.exit_code).collect();
        assert_eq!(codes, [0, 1, -1, 3, 0], "the last five");
        let again = Health::starting(Some(health));
        assert_eq!((again.status, again.failing_streak, again.log.len()), (HealthStatus::Starting, 0, 5));
    }

    #[test]
    fn failures_while_it_starts_do_not_count_until_it_was_well_once() {
        let mut health = Health::starting(None);
        health.take(result(1), 1, true);
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
        health.take(result(0), 1, true);
        health.take(result(1), 1, true);
        assert_eq!(health.status, HealthStatus::Unhealthy);
    }
}
