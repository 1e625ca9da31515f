//! When a container is started again, as docker decides it.

use std::time::Duration;

use cove_container::config::{RestartCondition, RestartPolicy};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// Who has run so long is well: its next end is a first one.
const WELL: Duration = Duration::from_secs(10);

/// The row of restarts of one container.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    delay: Option<Duration>,
}

impl Restarts {
    /// How long to wait before the next start; `None`: it stays ended. `count` is how often it was restarted so far.
    pub(crate) fn after(&mut self, policy: &RestartPolicy, code: i32, ran: Duration, count: u32) -> Option<Duration> {
        let again = match policy.name {
            RestartCondition::No => false,
            RestartCondition::Always | RestartCondition::UnlessStopped => true,
            RestartCondition::OnFailure => {
                code != 0 && (policy.maximum_retry_count == 0 || i64::from(count) < policy.maximum_retry_count)
            }
        };
        if !again {
            return None;
        }
        let delay = match self.delay {
            Some(last) if ran < WELL => (last * 2).min(LONGEST),
            _ => SHORTEST,
        };
        self.delay = Some(delay);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: RestartCondition, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name, maximum_retry_count }
    }

    #[test]
    fn each_wait_is_twice_the_last_until_it_has_run_for_a_while() {
        let (always, second) = (policy(RestartCondition::Always, 0), Duration::from_secs(1));
        let mut restarts = Restarts::default();
        let mut next = |ran| restarts.after(&always, 0, ran, 0).map(|delay| delay.as_millis());
        assert_eq!([next(second), next(second), next(second)], [Some(100), Some(200), Some(400)]);
        assert_eq!(next(WELL), Some(100));
        let longest = (0..20).map(|_| next(second)).last();
        assert_eq!(longest, Some(Some(60_000)));
    }

    #[test]
    fn a_failure_is_tried_again_as_often_as_the_policy_says() {
        let three = policy(RestartCondition::OnFailure, 3);
        let after = |code, count| Restarts::default().after(&three, code, WELL, count).is_some();
        assert_eq!([after(1, 0), after(137, 2), after(1, 3), after(0, 0)], [true, true, false, false]);
        assert!(Restarts::default().after(&policy(RestartCondition::OnFailure, 0), 1, WELL, 1000).is_some());
        assert!(Restarts::default().after(&policy(RestartCondition::No, 0), 1, WELL, 0).is_none());
        assert!(Restarts::default().after(&policy(RestartCondition::UnlessStopped, 0), 0, WELL, 0).is_some());
    }
}
