//! How long the network is waited for and how often it is asked again.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Time-outs and repetitions. There is no limit on the whole of a blob's transfer: what makes progress goes on.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How often a request is tried, or a transfer without any progress.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles from there.
    pub first_pause: Duration,
    /// The longest pause, also of those that a server asks for (`Retry-After`): asked for more, the request fails.
    pub longest_pause: Duration,
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the end of a request to the headers of its answer.
    pub headers: Duration,
    /// Between two pieces of a body, in either direction.
    pub idle: Duration,
    /// The whole body of a small answer: an error, a token, a manifest, a page of a list. One that trickles would keep
    /// its reader for ever otherwise. Blobs have no such limit.
    pub whole: Duration,
    /// From the end of an upload to its answer: the registry may have to move what it was sent.
    pub commit: Duration,
    /// Requests to one host at once, of each direction.
    pub requests_at_once: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(120),
            connect: Duration::from_secs(15),
            headers: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            whole: Duration::from_secs(300),
            commit: Duration::from_secs(600),
            requests_at_once: 8,
        }
    }
}

impl Patience {
    /// The pause after so many failures: exponential, and somewhere in the upper half of that, so that clients which
    /// failed together do not come back together.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let full = doubled.min(self.longest_pause.min(Duration::from_secs(30)));
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// Reads `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // RFC 9110 dates end with GMT, which RFC 2822 knows as an obsolete zone.
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_somewhere() {
        let patience = Patience::default();
        for (failures, longest) in [(1, 250), (2, 500), (3, 1000), (4, 2000), (40, 30_000)] {
            let pause = patience.pause(failures);
            assert!(pause <= Duration::from_millis(longest), "{failures}: {pause:?}");
            assert!(pause >= Duration::from_millis(longest / 2), "{failures}: {pause:?}");
        }
    }

    #[test]
    fn servers_name_a_time_or_a_date() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Thu, 01 Jan 2099 00:00:00 GMT").unwrap() > Duration::from_secs(1_000_000));
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(retry_after(nonsense), None, "{nonsense}");
        }
    }
}
