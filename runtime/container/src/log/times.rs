//! The times of `--since` and `--until`, in the forms that docker takes.
#![allow(unsafe_code)]

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use super::LogError;

/// A point in time: a duration of Go before now (`10m`, `1h30m`), a date with as much of a time as is known
/// (`2026-01-31T15:04:05.5+01:00`; local time where no zone is named), or seconds since 1970 with a fraction.
pub fn parse_time(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, LogError> {
    let wrong = || LogError::Time(text.to_owned());
    if text != "0"
        && let Some(duration) = duration(text)
    {
        return now.checked_sub(duration).ok_or_else(wrong);
    }
    if text.get(1..).is_some_and(|rest| rest.contains('-')) {
        date_and_time(text).ok_or_else(wrong)
    } else {
        seconds(text).ok_or_else(wrong)
    }
}

fn duration(text: &str) -> Option<time::Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanoseconds: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { i128::from(whole.parse::<u64>().ok()?) };
        total = total.checked_add(whole * nanoseconds)?;
        let billionths = i128::from(billionths(fraction)?);
        total = total.checked_add(billionths * nanoseconds / 1_000_000_000)?;
        rest = after;
    }
    let total = if negative { -total } else { total };
    let seconds = i64::try_from(total / 1_000_000_000).ok()?;
    Some(time::Duration::new(seconds, (total % 1_000_000_000) as i32))
}

/// The digits after a point as billionths; further ones are left out.
fn billionths(digits: &str) -> Option<u32> {
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(digits.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

fn seconds(text: &str) -> Option<OffsetDateTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let time = OffsetDateTime::from_unix_timestamp(whole.parse().ok()?).ok()?;
    time.checked_add(time::Duration::nanoseconds(i64::from(billionths(fraction)?)))
}

fn date_and_time(text: &str) -> Option<OffsetDateTime> {
    let mut rest = text;
    let year = digits(&mut rest, 4)? as i32;
    let month = Month::try_from(digits(strip(&mut rest, "-")?, 2)? as u8).ok()?;
    let day = digits(strip(&mut rest, "-")?, 2)? as u8;
    let date = Date::from_calendar_date(year, month, day).ok()?;
    let mut time = Time::MIDNIGHT;
    if strip(&mut rest, "T").is_some() {
        let hour = digits(&mut rest, 2)? as u8;
        let (mut minute, mut second, mut nanosecond) = (0, 0, 0);
        if strip(&mut rest, ":").is_some() {
            minute = digits(&mut rest, 2)? as u8;
            if strip(&mut rest, ":").is_some() {
                second = digits(&mut rest, 2)? as u8;
                if strip(&mut rest, ".").is_some() {
                    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
                    nanosecond = billionths(&rest[..end])?;
                    rest = &rest[end..];
                }
            }
        }
        time = Time::from_hms_nano(hour, minute, second, nanosecond).ok()?;
    }
    let moment = PrimitiveDateTime::new(date, time);
    match rest {
        "" => Some(in_local_zone(moment)),
        "Z" | "z" => Some(moment.assume_utc()),
        _ => {
            let sign = match rest.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            rest = &rest[1..];
            let hours = digits(&mut rest, 2)? as i8;
            let minutes = digits(strip(&mut rest, ":")?, 2)? as i8;
            let offset = UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()?;
            rest.is_empty().then(|| moment.assume_offset(offset).to_offset(UtcOffset::UTC))
        }
    }
}

fn strip<'a, 'b>(rest: &'b mut &'a str, prefix: &str) -> Option<&'b mut &'a str> {
    *rest = rest.strip_prefix(prefix)?;
    Some(rest)
}

fn digits(rest: &mut &str, count: usize) -> Option<u32> {
    let digits = rest.get(..count)?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    *rest = &rest[count..];
    digits.parse().ok()
}

fn in_local_zone(moment: PrimitiveDateTime) -> OffsetDateTime {
    let guess = moment.assume_utc();
    // The offset of the guess is right but for the hours around a change of the clocks; the second look settles those.
    let near = moment.assume_offset(local_offset(guess.unix_timestamp()));
    moment.assume_offset(local_offset(near.unix_timestamp())).to_offset(UtcOffset::UTC)
}

fn local_offset(at: i64) -> UtcOffset {
    // SAFETY: a `tm` of zeros is a valid one (its pointer may be null).
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // `time_t` has 64 bits on all targets that are built; the cast is for musl, where libc's type is deprecated.
    let at = at as _;
    // SAFETY: both pointers are valid for the call, which writes only into `parts`.
    let known = unsafe { !libc::localtime_r(&raw const at, &raw mut parts).is_null() };
    let seconds = if known { i32::try_from(parts.tm_gmtoff).unwrap_or(0) } else { 0 };
    UtcOffset::from_whole_seconds(seconds).unwrap_or(UtcOffset::UTC)
}
