//! Sizes, spans of time and moments as docker writes them (its `units` package).

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A size in decimal units with three significant digits: `1.84kB`, `202MB`.
///
/// Where rounding reaches the next unit docker writes `1e+03kB`; here it is `1MB`.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    scaled(bytes, 1000.0, &UNITS, 3)
}

/// A size in binary units with four significant digits, as `info` writes memory: `23.54GiB`.
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    scaled(bytes, 1024.0, &UNITS, 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    let mut text = significant(size, digits);
    if text.parse().is_ok_and(|rounded: f64| rounded >= base) && unit + 1 < units.len() {
        text = significant(size / base, digits);
        unit += 1;
    }
    text + units[unit]
}

/// C's `%.{digits}g` for numbers that need no exponent.
fn significant(number: f64, digits: usize) -> String {
    let whole = format!("{}", number.trunc()).len();
    let text = format!("{number:.*}", digits.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A span of time in words: `About an hour`, `2 months`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // The nearest whole hour, as docker rounds it.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a moment was: `2 months ago`, or `N/A` where nobody knows.
pub fn ago(moment: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
    match moment {
        Some(moment) => format!("{} ago", human_duration((now - moment).try_into().unwrap_or_default())),
        None => "N/A".to_owned(),
    }
}

/// A moment as Go prints it: `2026-11-24 00:31:04 +0000 UTC`.
pub fn go_time(moment: OffsetDateTime) -> String {
    let moment = moment.to_offset(UtcOffset::UTC);
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC", u8::from(month))
}

/// A moment to the second: `2026-11-24T00:31:03Z`.
pub fn rfc3339_seconds(moment: OffsetDateTime) -> String {
    let moment = moment.to_offset(UtcOffset::UTC).truncate_to_second();
    moment.format(&Rfc3339).unwrap_or_else(|_| go_time(moment))
}

/// Reads a moment as configurations write it. Go's zero time, `0001-01-01T00:00:00Z`, means that nobody knows.
pub fn parse_rfc3339(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(|moment| moment.year() > 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_docker_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (3, "3B"),
            (999, "999B"),
            (1000, "1kB"),
            (1840, "1.84kB"),
            (13_256, "13.3kB"),
            (202_000_000, "202MB"),
            (1_050_000_000, "1.05GB"),
            (999_999, "1MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(human_size(bytes), text, "{bytes}");
        }
        assert_eq!(binary_size(25_276_514_304), "23.54GiB");
    }

    #[test]
    fn spans_are_written_as_docker_writes_them() {
        let (minute, hour, day) = (60, 3600, 86_400);
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (59 * minute, "59 minutes"),
            (hour, "About an hour"),
            (90 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (2 * day, "2 days"),
            (14 * day, "2 weeks"),
            (60 * day, "2 months"),
            (365 * 2 * day, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn moments() {
        let moment = parse_rfc3339("2026-11-24T00:31:03.908173641Z").unwrap();
        assert_eq!(go_time(moment), "2026-11-24 00:31:03 +0000 UTC");
        assert_eq!(rfc3339_seconds(moment), "2026-11-24T00:31:03Z");
        assert_eq!(ago(Some(moment), moment + Duration::from_secs(7200)), "2 hours ago");
        assert_eq!(ago(parse_rfc3339("0001-01-01T00:00:00Z"), moment), "N/A");
    }
}
