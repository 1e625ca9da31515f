//! Health checks: when the next one is due, how long it may take, and what comes of it. The loop runs them as further
//! processes of the container.

use std::time::{Duration, Instant};

use cove_container::HealthResult;
use cove_container::HealthStatus;
use cove_container::config::Config;
use time::OffsetDateTime;

/// Docker's numbers where nothing was asked for.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;

/// So many bytes of what a check writes are kept.
const OUTPUT: usize = 4096;

/// The checks of one container.
#[derive(Debug)]
pub(crate) struct Checks {
    /// What is run.
    pub(crate) command: Vec<String>,
    /// How many failures in a row make it unhealthy.
    pub(crate) retries: i64,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    /// When its process began.
    began: Instant,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nobody looks: it is paused or has ended.
    Off,
    /// The next one begins at this moment.
    Idle(Instant),
    Probing(Probe),
}

/// A check that runs.
#[derive(Debug)]
struct Probe {
    id: String,
    start: OffsetDateTime,
    since: Instant,
    until: Instant,
    is_late: bool,
    output: Vec<u8>,
    is_cut: bool,
}

/// What a moment asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// A check begins.
    Probe,
    /// The check with this id has taken too long.
    Kill(String),
}

impl Checks {
    /// As the container's settings say; `None`: nothing is checked.
    pub(crate) fn of(config: &Config, now: Instant) -> Option<Self> {
        let check = config.healthcheck.as_ref()?;
        let (kind, words) = check.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = if config.shell.is_empty() { &usual[..] } else { &config.shell[..] };
                [shell, words].concat()
            }
            _ => return None,
        };
        if command.is_empty() {
            return None;
        }
        let or = |nanoseconds: i64, usual: Duration| match u64::try_from(nanoseconds) {
            Ok(nanoseconds @ 1..) => Duration::from_nanos(nanoseconds),
            _ => usual,
        };
        let mut checks = Self {
            command,
            retries: if check.retries > 0 { check.retries } else { RETRIES },
            interval: or(check.interval, INTERVAL),
            timeout: or(check.timeout, TIMEOUT),
            start_period: or(check.start_period, Duration::ZERO),
            start_interval: or(check.start_interval, START_INTERVAL),
            began: now,
            phase: Phase::Off,
        };
        checks.wait(now, HealthStatus::Starting);
        Some(checks)
    }

    /// Looks again after a while.
    pub(crate) fn wait(&mut self, now: Instant, status: HealthStatus) {
        let starts = status == HealthStatus::Starting && self.is_forgiven(now);
        self.phase = Phase::Idle(now + if starts { self.start_interval } else { self.interval });
    }

    /// Nobody looks any more; the check that runs, which is to be killed.
    pub(crate) fn stop(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.phase, Phase::Off) {
            Phase::Probing(probe) => Some(probe.id),
            Phase::Off | Phase::Idle(_) => None,
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self.phase, Phase::Off)
    }

    fn is_forgiven(&self, at: Instant) -> bool {
        at.saturating_duration_since(self.began) < self.start_period
    }

    /// The next moment that asks for something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle(at) => Some(*at),
            Phase::Probing(probe) if !probe.is_late => Some(probe.until),
            Phase::Probing(_) | Phase::Off => None,
        }
    }

    /// What this moment asks for.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        match &mut self.phase {
            Phase::Idle(at) if *at <= now => Due::Probe,
            Phase::Probing(probe) if !probe.is_late && probe.until <= now => {
                probe.is_late = true;
                Due::Kill(probe.id.clone())
            }
            Phase::Idle(_) | Phase::Probing(_) | Phase::Off => Due::Nothing,
        }
    }

    /// A check begins.
    pub(crate) fn begin(&mut self, id: String, now: Instant) {
        self.phase = Phase::Probing(Probe {
            id,
            start: OffsetDateTime::now_utc(),
            since: now,
            until: now + self.timeout,
            is_late: false,
            output: Vec::new(),
            is_cut: false,
        });
    }

    /// Takes what a check has written.
    pub(crate) fn output(&mut self, id: &str, bytes: &[u8]) {
        if let Phase::Probing(probe) = &mut self.phase
            && probe.id == id
        {
            let room = OUTPUT - probe.output.len();
            probe.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            probe.is_cut |= bytes.len() > room;
        }
    }

    /// A check is over; its result, and whether a failure is forgiven. `None`: nobody waits for it any more.
    pub(crate) fn over(&mut self, id: &str, ended: Result<i32, String>) -> Option<(HealthResult, bool)> {
        let (result, since) = match &self.phase {
            Phase::Probing(probe) if probe.id == id => (probe.result(ended, self.timeout), probe.since),
            _ => return None,
        };
        Some((result, self.is_forgiven(since)))
    }
}

impl Probe {
    fn result(&self, ended: Result<i32, String>, timeout: Duration) -> HealthResult {
        let mut written = String::from_utf8_lossy(&self.output).into_owned();
        if self.is_cut {
            written.push_str("...");
        }
        let (exit_code, output) = match ended {
            _ if self.is_late => {
                let mut text = format!("Health check exceeded timeout ({})", go_duration(timeout));
                if !written.is_empty() {
                    text.push_str(&format!(": {written}"));
                }
                (-1, text)
            }
            Ok(code) => (code, written),
            Err(text) => (-1, text),
        };
        HealthResult { start: self.start, end: OffsetDateTime::now_utc(), exit_code, output }
    }
}

/// A duration as Go writes it: `1m30s`, `1.5s`, `20ms`.
fn go_duration(duration: Duration) -> String {
    let trimmed = |number: f64| {
        let text = format!("{number:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let whole = duration.as_secs();
    if whole == 0 {
        let nanoseconds = duration.as_nanos();
        return match nanoseconds {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanoseconds}ns"),
            1_000..1_000_000 => format!("{}µs", trimmed(nanoseconds as f64 / 1e3)),
            _ => format!("{}ms", trimmed(nanoseconds as f64 / 1e6)),
        };
    }
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    let seconds = trimmed((whole % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cove_container::config::HealthConfig;

    const SECOND: i64 = 1_000_000_000;

    fn config(test: &[&str]) -> Config {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        let check = HealthConfig { test, interval: 10 * SECOND, timeout: SECOND, ..HealthConfig::default() };
        Config { healthcheck: Some(check), ..Config::default() }
    }

    #[test]
    fn a_line_is_given_to_the_shell_of_the_image() {
        let now = Instant::now();
        let command = |config: &Config| Checks::of(config, now).map(|checks| checks.command);
        let shell = Config { shell: vec!["/bin/ash".to_owned(), "-ec".to_owned()], ..config(&["CMD-SHELL", "a b"]) };
        assert_eq!(command(&shell).unwrap(), ["/bin/ash", "-ec", "a b"]);
        assert_eq!(command(&config(&["CMD-SHELL", "a b"])).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(command(&config(&["CMD", "a", "b"])).unwrap(), ["a", "b"]);
        assert!(command(&config(&["NONE"])).is_none() && command(&config(&[])).is_none());
        assert!(command(&Config::default()).is_none());
    }

    #[test]
    fn a_check_begins_after_the_interval_and_is_killed_after_its_time() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut checks = Checks::of(&config(&["CMD", "a"]), now).unwrap();
        assert_eq!(checks.deadline(), Some(after(10)));
        assert_eq!((checks.due(after(9)), checks.due(after(10))), (Due::Nothing, Due::Probe));
        checks.begin("one".to_owned(), after(10));
        assert_eq!(checks.due(after(10)), Due::Nothing);
        assert_eq!(checks.due(after(11)), Due::Kill("one".to_owned()));
        assert_eq!((checks.due(after(11)), checks.deadline()), (Due::Nothing, None), "once");
        checks.output("one", b"half");
        let (result, forgiven) = checks.over("one", Ok(137)).unwrap();
        assert_eq!((result.exit_code, forgiven), (-1, false));
        assert_eq!(result.output, "Health check exceeded timeout (1s): half");
        checks.wait(after(12), HealthStatus::Healthy);
        assert_eq!(checks.deadline(), Some(after(22)));
        assert_eq!((checks.stop(), checks.is_off(), checks.deadline()), (None, true, None));
    }

    #[test]
    fn while_it_starts_it_is_looked_at_more_often() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut config = config(&["CMD", "a"]);
        let check = config.healthcheck.as_mut().unwrap();
        (check.start_period, check.start_interval) = (20 * SECOND, 2 * SECOND);
        let mut checks = Checks::of(&config, now).unwrap();
        assert_eq!(checks.deadline(), Some(after(2)));
        checks.begin("one".to_owned(), after(2));
        assert!(checks.over("one", Ok(1)).unwrap().1, "forgiven");
        checks.wait(after(3), HealthStatus::Healthy);
        assert_eq!(checks.deadline(), Some(after(13)), "it is well: as always");
        checks.wait(after(30), HealthStatus::Starting);
        assert_eq!(checks.deadline(), Some(after(40)));
    }

    #[test]
    fn only_the_beginning_of_the_output_is_kept() {
        let mut checks = Checks::of(&config(&["CMD", "a"]), Instant::now()).unwrap();
        checks.begin("one".to_owned(), Instant::now());
        checks.output("other", b"nothing");
        checks.output("one", &[b'x'; 4000]);
        checks.output("one", &[b'y'; 4000]);
        let (result, _) = checks.over("one", Ok(0)).unwrap();
        assert_eq!(result.output, format!("{}{}...", "x".repeat(4000), "y".repeat(96)));
        assert!(checks.over("other", Ok(0)).is_none());
    }

    #[test]
    fn durations_as_go_writes_them() {
        let written = [1_500_000_000, 90_000_000_000, 20_000_000, 30_000_000_000, 3_600_000_000_000, 1_500];
        let written = written.map(|nanoseconds| go_duration(Duration::from_nanos(nanoseconds)));
        assert_eq!(written, ["1.5s", "1m30s", "20ms", "30s", "1h0m0s", "1.5µs"]);
    }
}
