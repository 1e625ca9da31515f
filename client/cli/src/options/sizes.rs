//! Numbers as Go reads them, and sizes as docker does.

use super::ValueError;

/// A whole number: decimal, or hexadecimal, octal or binary by its prefix.
pub fn int(text: &str) -> Result<i64, ValueError> {
    let wrong = |reason| ValueError::Number { reader: "ParseInt", text: text.to_owned(), reason };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let size = magnitude(digits).map_err(wrong)?;
    let number = if negative { -i128::from(size) } else { i128::from(size) };
    i64::try_from(number).map_err(|_| wrong(OUT_OF_RANGE))
}

/// A number that is not negative.
pub fn uint(text: &str) -> Result<u64, ValueError> {
    magnitude(text).map_err(|reason| ValueError::Number { reader: "ParseUint", text: text.to_owned(), reason })
}

/// A number below 65536.
pub fn uint16(text: &str) -> Result<u16, ValueError> {
    let out = ValueError::Number { reader: "ParseUint", text: text.to_owned(), reason: OUT_OF_RANGE };
    u16::try_from(uint(text)?).map_err(|_| out)
}

const SYNTAX: &str = "invalid syntax";
const OUT_OF_RANGE: &str = "value out of range";

fn magnitude(digits: &str) -> Result<u64, &'static str> {
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(SYNTAX);
    }
    u64::from_str_radix(digits, radix).map_err(|_| OUT_OF_RANGE)
}

/// A size in bytes: `512`, `512b`, `1.5g`, `64 MiB`. Every unit is a power of 1024.
pub fn size(text: &str) -> Result<i64, ValueError> {
    let wrong = || ValueError::Size(text.to_owned());
    let last = text.rfind(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | ' ')).ok_or_else(wrong)?;
    let (number, unit) = match text.as_bytes()[last] {
        b' ' => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    let amount: f64 = number.parse().map_err(|_| wrong())?;
    if !amount.is_finite() || amount < 0.0 {
        return Err(wrong());
    }
    let lower = unit.to_ascii_lowercase();
    let suffix = || ValueError::Suffix(unit.to_owned());
    let power = match lower.chars().next() {
        None => 0,
        Some('b') if lower.len() == 1 => 0,
        Some(first) => {
            let power = "kmgtp".find(first).ok_or_else(suffix)? + 1;
            match &lower[1..] {
                "" | "b" | "ib" => power,
                _ => return Err(suffix()),
            }
        }
    };
    Ok((amount * 1024_f64.powi(i32::try_from(power).unwrap_or_default())) as i64)
}

/// A number of processors in billionths: `1.5`, `1/4`, `5e-1`.
pub fn cpus(text: &str) -> Result<i64, ValueError> {
    let wrong = || ValueError::Rational(text.to_owned());
    let (above, below) = match text.split_once('/') {
        Some((above, below)) => {
            let below: i128 = below.parse().map_err(|_| wrong())?;
            (above.parse::<i128>().map_err(|_| wrong())?, below)
        }
        None => decimal(text).ok_or_else(wrong)?,
    };
    if below == 0 {
        return Err(wrong());
    }
    let nano = above.checked_mul(1_000_000_000).ok_or_else(wrong)?;
    if nano % below != 0 {
        return Err(ValueError::TooPrecise);
    }
    i64::try_from(nano / below).map_err(|_| wrong())
}

/// A decimal number as a fraction.
fn decimal(text: &str) -> Option<(i128, i128)> {
    let lower = text.to_ascii_lowercase();
    let (digits, exponent) = match lower.split_once('e') {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (lower.as_str(), 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['-', '+']);
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let all = format!("{whole}{part}");
    if !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: i128 = all.parse().ok()?;
    let shift = exponent.checked_sub(i32::try_from(part.len()).ok()?)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    let number = if negative { -number } else { number };
    if shift >= 0 { Some((number.checked_mul(power)?, 1)) } else { Some((number, power)) }
}
