//! Numbers in tar headers: octal text or base-256, and decimal ones in PAX records.

use super::Time;

/// Reads a field as GNU tar and Go's archive/tar both do; `None` where they differ or the number is malformed.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80 => base256(0, &field[1..]),
        0xff => base256(-1, &field[1..]),
        first if first & 0x80 != 0 => None,
        _ => octal(field),
    }
}

/// A field that may not be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|value| u64::try_from(value).ok())
}

fn base256(start: i64, digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(start, |value, digit| value.checked_mul(256)?.checked_add(i64::from(*digit)))
}

/// Spaces, octal digits, then NUL and anything, or spaces to the end. An empty field is 0.
fn octal(field: &[u8]) -> Option<i64> {
    if field[0] == 0 {
        // GNU tar reads 0; Go skips the NULs and reads what follows.
        return field.iter().all(|byte| matches!(byte, 0 | b' ')).then_some(0);
    }
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = field[start..].iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, rest) = field[start..].split_at(digits);
    let ends = match rest.first() {
        None => true,
        Some(0) => !digits.is_empty() || rest.iter().all(|byte| matches!(byte, 0 | b' ')),
        Some(b' ') => rest.iter().all(|byte| matches!(byte, 0 | b' ')),
        Some(_) => false,
    };
    // Twelve octal digits are 36 bits: no overflow.
    ends.then(|| digits.iter().fold(0, |value, digit| value * 8 + i64::from(digit - b'0')))
}

/// A decimal number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| {
        digit.is_ascii_digit().then_some(())?;
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// A time of a PAX record: decimal seconds, perhaps negative, perhaps with a fraction of any length.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &text[text.len()..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields_are_read_where_gnu_tar_and_go_agree() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644 \0\0 \0", Some(0o644)),
            (b"12\0junk!", Some(0o12)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0", Some(0)),
            (b"    ", Some(0)),
            (b"\0 12", None),
            (b"12 34", None),
            (b"12 \0x", None),
            (b"8", None),
            (b"-1", None),
            (b"\t12", None),
            (b"0x12", None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn base_256_fields_have_a_sign_and_do_not_overflow() {
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(i64::MAX));
        assert_eq!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x81\0\0\0\0\0\0\x01"), None, "GNU tar refuses, Go reads a large number");
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), None);
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time(b"1350244992.023960108"), at(1_350_244_992, 23_960_108));
        assert_eq!(time(b"1.5"), at(1, 500_000_000));
        assert_eq!(time(b"1."), at(1, 0));
        assert_eq!(time(b"1.0000000019"), at(1, 1));
        assert_eq!(time(b"-1.5"), at(-2, 500_000_000));
        assert_eq!(time(b"-0.5"), at(-1, 500_000_000));
        assert_eq!(time(b"-7"), at(-7, 0));
        for wrong in [&b""[..], b"-", b".5", b"1.x", b"--1", b"1e3", b"99999999999999999999"] {
            assert_eq!(time(wrong), None, "{}", wrong.escape_ascii());
        }
    }
}
