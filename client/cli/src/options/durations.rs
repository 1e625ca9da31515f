//! Spans of time as Go reads them: `1h2m3.5s`.

use super::ValueError;

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A span of time in nanoseconds.
pub fn duration(text: &str) -> Result<i64, ValueError> {
    let wrong = || ValueError::Duration(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut sum = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') {
            return Err(wrong());
        }
        let end = behind.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        if unit.is_empty() {
            return Err(ValueError::MissingUnit(text.to_owned()));
        }
        let found = UNITS.iter().find(|(name, _)| *name == unit);
        let unknown = || ValueError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() };
        let (_, size) = found.ok_or_else(unknown)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
        // Beyond the eighteenth digit nothing is left of a nanosecond.
        let part = &part[..part.len().min(18)];
        let power = 10_i128.pow(u32::try_from(part.len()).unwrap_or_default());
        let part: i128 = if part.is_empty() { 0 } else { part.parse().map_err(|_| wrong())? };
        let add = whole.checked_mul(*size).ok_or_else(wrong)? + part * size / power;
        sum = sum.checked_add(add).ok_or_else(wrong)?;
        rest = behind;
    }
    i64::try_from(if negative { -sum } else { sum }).map_err(|_| wrong())
}
