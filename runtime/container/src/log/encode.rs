//! A record as bytes: JSON with the escapes that docker's encoder makes.

use std::io::Write as _;

use time::OffsetDateTime;

/// Appends a time as Go writes it: nanoseconds, without zeros at the end.
pub(super) fn push_time(out: &mut Vec<u8>, time: OffsetDateTime) {
    push_seconds(out, time);
    let nanoseconds = time.nanosecond();
    if nanoseconds != 0 {
        let mut digits = [b'0'; 10];
        digits[0] = b'.';
        put_digits(&mut digits[1..], nanoseconds);
        let end = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        out.extend_from_slice(&digits[..end]);
    }
    out.push(b'Z');
}

/// Appends a time with all nine digits, so that columns are even: the form of `--timestamps`.
pub(super) fn push_fixed_time(out: &mut Vec<u8>, time: OffsetDateTime) {
    push_seconds(out, time);
    let mut digits = [b'.'; 10];
    put_digits(&mut digits[1..], time.nanosecond());
    out.extend_from_slice(&digits);
    out.push(b'Z');
}

fn push_seconds(out: &mut Vec<u8>, time: OffsetDateTime) {
    let mut text = *b"0000-00-00T00:00:00";
    put_digits(&mut text[0..4], u32::try_from(time.year()).unwrap_or(0));
    for (place, value) in
        [(5, u8::from(time.month())), (8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())]
    {
        put_digits(&mut text[place..place + 2], u32::from(value));
    }
    out.extend_from_slice(&text);
}

fn put_digits(place: &mut [u8], mut value: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How many bytes at the beginning can be taken as they are. Eight at a time: this is the loop that limits a container
/// which writes much.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        // Only the lowest mark counts: a borrow can set a wrong one only above a right one.
        let equal = |mixed: u64, byte: u8| (mixed ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
        let quotes = equal(word | (ONES * 0x04), b'&'); // `"` and `&` differ in this bit only
        let angles = equal(word | (ONES * 0x02), b'>'); // `<` and `>` in this one
        let backslash = equal(word, b'\\');
        let control = word.wrapping_sub(ONES * 0x20);
        // Of a byte below 0x80 each difference has its highest bit only after a borrow; of others `word` has it.
        let marks = (quotes | angles | backslash | control | word) & HIGHS;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().position(|&byte| !is_plain(byte)).unwrap_or(bytes.len() - at)
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// Appends bytes as the inside of a JSON string.
pub(super) fn push_escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    loop {
        let plain = plain_prefix(bytes);
        out.extend_from_slice(&bytes[..plain]);
        bytes = &bytes[plain..];
        let Some(&first) = bytes.first() else { return };
        let used = match first {
            b'"' | b'\\' => {
                out.extend_from_slice(&[b'\\', first]);
                1
            }
            b'\n' => {
                out.extend_from_slice(b"\\n");
                1
            }
            b'\r' => {
                out.extend_from_slice(b"\\r");
                1
            }
            0..0x80 => {
                // Writing into memory cannot fail.
                let _ = write!(out, "\\u{first:04x}");
                1
            }
            0x80.. => push_wide(out, bytes),
        };
        bytes = &bytes[used..];
    }
}

/// Appends the character at the beginning, which is not ASCII, and says how many bytes it has. A byte that begins none
/// becomes U+FFFD, one for each byte as in Go.
fn push_wide(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let length = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let character = bytes.get(..length).filter(|bytes| str::from_utf8(bytes).is_ok());
    match character {
        None => {
            out.extend_from_slice(b"\\ufffd");
            1
        }
        // U+2028 and U+2029, which end a line in JavaScript.
        Some([0xE2, 0x80, last @ (0xA8 | 0xA9)]) => {
            out.extend_from_slice(if *last == 0xA8 { b"\\u2028" } else { b"\\u2029" });
            3
        }
        Some(character) => {
            out.extend_from_slice(character);
            length
        }
    }
}
