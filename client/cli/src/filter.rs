//! `--filter name=value`: reading filters and telling those that a command does not know.

use std::str::FromStr;
use std::time::Duration;

use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What it is about, in lower case.
    pub name: String,
    /// What it asks for.
    pub value: String,
}

/// Why a condition cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not `name=value`.
    #[error("bad format of filter (expected name=value)")]
    Format,
    /// The command has no such condition.
    #[error("invalid filter '{name}': this command knows {known}")]
    Unknown {
        /// The condition.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A value that is neither yes nor no.
    #[error("invalid filter '{name}=[{value}]': write true or false")]
    Boolean {
        /// The condition.
        name: String,
        /// Its value.
        value: String,
    },
    /// A value that is no number.
    #[error("invalid filter '{name}=[{value}]': write a number")]
    Number {
        /// The condition.
        name: String,
        /// Its value.
        value: String,
    },
    /// A value that is no moment.
    #[error(
        "`{0}` is not a time: write a span such as 24h or 1h30m, a date such as 2026-01-31T12:00:00, or seconds since 1970"
    )]
    Time(String),
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            // No condition, for docker too.
            return Ok(Filter { name: String::new(), value: String::new() });
        }
        let (name, value) = text.split_once('=').ok_or(FilterError::Format)?;
        Ok(Filter { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
    }
}

impl Filter {
    /// Refuses conditions that are not among those that a command knows.
    pub fn check(filters: &[Filter], known: &[&str]) -> Result<(), FilterError> {
        match filters.iter().find(|filter| !filter.name.is_empty() && !known.contains(&filter.name.as_str())) {
            Some(unknown) => Err(FilterError::Unknown { name: unknown.name.clone(), known: known.join(", ") }),
            None => Ok(()),
        }
    }

    /// Reads the value as Go reads truth values.
    pub fn boolean(&self) -> Result<bool, FilterError> {
        go_bool(&self.value).ok_or_else(|| FilterError::Boolean { name: self.name.clone(), value: self.value.clone() })
    }

    /// Reads the value as a whole number.
    pub fn number(&self) -> Result<u64, FilterError> {
        let bad = |_| FilterError::Number { name: self.name.clone(), value: self.value.clone() };
        self.value.parse().map_err(bad)
    }

    /// Reads the value as a moment: a span before now, a date with or without time and zone, or seconds since 1970.
    pub fn moment(&self, now: OffsetDateTime) -> Result<OffsetDateTime, FilterError> {
        let text = self.value.as_str();
        let bad = || FilterError::Time(text.to_owned());
        if let Some(span) = go_duration(text) {
            return now.checked_sub(span.try_into().map_err(|_| bad())?).ok_or_else(bad);
        }
        if let Some(moment) = crate::units::parse_rfc3339(text) {
            return Ok(moment);
        }
        let local = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute][optional [:[second][optional [.[subsecond]]]]]"
        );
        if let Ok(moment) = PrimitiveDateTime::parse(text, local) {
            return Ok(moment.assume_utc());
        }
        if let Ok(date) = Date::parse(text, time::macros::format_description!("[year]-[month]-[day]")) {
            return Ok(date.midnight().assume_utc());
        }
        let seconds: f64 = text.parse().map_err(|_| bad())?;
        OffsetDateTime::from_unix_timestamp_nanos((seconds * 1e9) as i128).map_err(|_| bad())
    }
}

/// The truth values of Go's `strconv.ParseBool`.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's spans of time: `1h30m`, `1.5s`, `300ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(sum)
}

/// Whether a name fits a pattern as Go's `path.Match` sees it: `*` and `?` do not reach over a slash.
pub fn path_match(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches_at(&pattern, &name)
}

fn matches_at(pattern: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        '*' => {
            let reach = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=reach).any(|skip| matches_at(rest, &name[skip..]))
        }
        '?' => name.split_first().is_some_and(|(c, after)| *c != '/' && matches_at(rest, after)),
        '[' => {
            let Some(end) = rest.iter().position(|c| *c == ']') else { return false };
            let Some((c, after)) = name.split_first() else { return false };
            let (set, negated) = match rest[..end].split_first() {
                Some(('^', set)) => (set, true),
                _ => (&rest[..end], false),
            };
            let mut inside = false;
            let mut at = 0;
            while at < set.len() {
                match set.get(at + 1..at + 3) {
                    Some(['-', last]) => {
                        inside |= (set[at]..=*last).contains(c);
                        at += 3;
                    }
                    _ => {
                        inside |= set[at] == *c;
                        at += 1;
                    }
                }
            }
            inside != negated && *c != '/' && matches_at(&rest[end + 1..], after)
        }
        '\\' => match (rest.split_first(), name.split_first()) {
            (Some((literal, rest)), Some((c, after))) => literal == c && matches_at(rest, after),
            _ => false,
        },
        literal => name.split_first().is_some_and(|(c, after)| c == literal && matches_at(rest, after)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn until(value: &str) -> Result<i64, FilterError> {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000).unwrap();
        let filter = Filter { name: "until".into(), value: value.into() };
        filter.moment(now).map(OffsetDateTime::unix_timestamp)
    }

    #[test]
    fn moments_are_read_as_docker_reads_them() {
        assert_eq!(until("1h30m"), Ok(1_000_000 - 5400));
        assert_eq!(until("1.5h"), Ok(1_000_000 - 5400));
        assert_eq!(until("86400"), Ok(86_400));
        assert_eq!(until("1970-01-02"), Ok(86_400));
        assert_eq!(until("1970-01-02T00:00:01"), Ok(86_401));
        assert_eq!(until("1970-01-02T01:00:00+01:00"), Ok(86_400));
        for bad in ["", "yesterday", "1d", "24 h"] {
            assert_eq!(until(bad), Err(FilterError::Time(bad.into())), "{bad}");
        }
    }

    #[test]
    fn conditions_have_a_name_and_a_value() {
        let filter: Filter = "Label=a=b".parse().unwrap();
        assert_eq!((filter.name.as_str(), filter.value.as_str()), ("label", "a=b"));
        assert_eq!("dangling".parse::<Filter>(), Err(FilterError::Format));
        assert!(Filter::check(&[filter], &["dangling"]).is_err());
        assert!("dangling=1".parse::<Filter>().unwrap().boolean().unwrap());
        assert!("dangling=maybe".parse::<Filter>().unwrap().boolean().is_err());
    }

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, name, fits) in [
            ("deb*", "debian", true),
            ("deb*", "deb/ian", false),
            ("*/app", "team/app", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("", "", true),
            ("x", "", false),
        ] {
            assert_eq!(path_match(pattern, name), fits, "{pattern} {name}");
        }
    }
}
