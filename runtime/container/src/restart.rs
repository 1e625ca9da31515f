//! When a container is started again, as docker decides it.

use std::time::Duration;

use crate::config::{RestartCondition, RestartPolicy};
use crate::{State, Status};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// Who has run so long is well: its next end is a first one.
const WELL: Duration = Duration::from_secs(10);

/// Whether a container that does not run is started with the machine. Docker asks for its last status only, not for who
/// ended it, except where the policy says so; one that was never started is left alone.
pub fn starts_with_machine(policy: &RestartPolicy, state: &State) -> bool {
    let has_run = matches!(state.status, Status::Exited | Status::Dead);
    has_run
        && match policy.name {
            RestartCondition::No => false,
            RestartCondition::Always => true,
            RestartCondition::UnlessStopped => !state.stopped_by_user,
            RestartCondition::OnFailure => may_try_again(policy, state.exit_code, state.restart_count),
        }
}

fn may_try_again(policy: &RestartPolicy, code: i32, count: u32) -> bool {
    code != 0 && (policy.maximum_retry_count == 0 || i64::from(count) < policy.maximum_retry_count)
}

/// The row of restarts of one container.
#[derive(Debug, Default)]
pub struct Restarts {
    delay: Option<Duration>,
}

impl Restarts {
    /// How long to wait before the next start; `None`: it stays ended. `count` is how often it was restarted so far.
    pub fn after(&mut self, policy: &RestartPolicy, code: i32, ran: Duration, count: u32) -> Option<Duration> {
        let again = match policy.name {
            RestartCondition::No => false,
            RestartCondition::Always | RestartCondition::UnlessStopped => true,
            RestartCondition::OnFailure => may_try_again(policy, code, count),
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

    #[test]
    fn with_the_machine_starts_what_docker_starts_with_its_daemon() {
        let starts = |name, most, state: &State| starts_with_machine(&policy(name, most), state);
        let ended = |exit_code, restart_count, stopped_by_user| State {
            status: Status::Exited,
            exit_code,
            restart_count,
            stopped_by_user,
            ..State::created()
        };
        let all = [
            RestartCondition::No,
            RestartCondition::Always,
            RestartCondition::UnlessStopped,
            RestartCondition::OnFailure,
        ];
        let each = |state: State| all.map(|name| starts(name, 0, &state));
        assert_eq!(each(State::created()), [false; 4], "it was never started");
        assert_eq!(each(ended(0, 0, false)), [false, true, true, false]);
        assert_eq!(each(ended(255, 0, false)), [false, true, true, true], "the machine went down under it");
        assert_eq!(each(ended(137, 0, true)), [false, true, false, true]);
        assert!(!starts(RestartCondition::OnFailure, 3, &ended(1, 3, false)), "it was tried often enough");
        assert!(starts(RestartCondition::OnFailure, 3, &ended(1, 2, false)));
        assert!(!starts(RestartCondition::Always, 0, &State { status: Status::Running, ..ended(0, 0, false) }));
    }
}
