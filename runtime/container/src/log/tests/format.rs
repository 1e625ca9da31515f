//! The bytes of a record, as docker's encoder makes them.

use time::OffsetDateTime;
use time::macros::datetime;

use super::super::encode::{push_escaped, push_fixed_time, push_time};
use super::super::{Format, Record, Stream};
use super::Numbers;

fn escaped(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    push_escaped(&mut out, bytes);
    String::from_utf8(out).unwrap()
}

#[test]
fn escapes_are_those_of_docker() {
    assert_eq!(escaped(b"plain text, 100 %"), "plain text, 100 %");
    assert_eq!(
        escaped(b"a\"b\\c<d>e&f"),
        r#"a\"b\\c<d>e&f"#.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026")
    );
    assert_eq!(escaped(b"\x00\t\r\n\x1b[0m\x7f"), "\\u0000\\u0009\\r\\n\\u001b[0m\x7f");
    assert_eq!(escaped("é€😀\u{2028}\u{2029}\u{202a}".as_bytes()), "é€😀\\u2028\\u2029\u{202a}");
    // Go: one U+FFFD for each byte that is part of no character.
    assert_eq!(
        escaped(b"\xff\xe2\x82x\xc0\xaf\xed\xa0\x80\xf0\x9f\x98"),
        r"\ufffd\ufffd\ufffdx\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"
    );
}

#[test]
fn every_byte_at_every_place_is_found() {
    for byte in 0..=255_u8 {
        for place in 0..40 {
            let mut bytes = [b'x'; 40];
            bytes[place] = byte;
            let text: String = serde_json::from_str(&format!("\"{}\"", escaped(&bytes))).unwrap();
            assert_eq!(text, String::from_utf8_lossy(&bytes), "byte {byte} at {place}");
            let alone = escaped(&[byte]);
            assert_eq!(escaped(&bytes), format!("{}{alone}{}", "x".repeat(place), "x".repeat(39 - place)));
        }
    }
}

#[test]
fn any_bytes_become_the_json_of_their_characters() {
    let mut numbers = Numbers(7);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..numbers.below(40))
            .map(|_| match numbers.below(4) {
                0 => numbers.below(256) as u8,
                1 => b"\"\\<>&\n\r\xe2\x80\xa8"[numbers.below(10)],
                _ => b'a',
            })
            .collect();
        let json = format!("\"{}\"", escaped(&bytes));
        let text: String = serde_json::from_str(&json).unwrap();
        // Like `from_utf8_lossy`, with one sign for each bad byte.
        let expected: String = bytes
            .utf8_chunks()
            .flat_map(|chunk| [chunk.valid().to_owned(), "\u{fffd}".repeat(chunk.invalid().len())])
            .collect();
        assert_eq!(text, expected);
        assert!(!json.contains(['<', '>', '&', '\n', '\u{2028}']), "{json}");
    }
}

#[test]
fn times_are_written_as_go_does() {
    let text = |time: OffsetDateTime| {
        let (mut short, mut fixed) = (Vec::new(), Vec::new());
        push_time(&mut short, time);
        push_fixed_time(&mut fixed, time);
        (String::from_utf8(short).unwrap(), String::from_utf8(fixed).unwrap())
    };
    let pair = |short: &str, fixed: &str| (short.to_owned(), fixed.to_owned());
    assert_eq!(
        text(datetime!(2026-11-24 03:04:05.123456789 UTC)),
        pair("2026-11-24T03:04:05.123456789Z", "2026-11-24T03:04:05.123456789Z")
    );
    assert_eq!(
        text(datetime!(2024-02-29 23:59:59.120 UTC)),
        pair("2024-02-29T23:59:59.12Z", "2024-02-29T23:59:59.120000000Z")
    );
    assert_eq!(text(datetime!(2000-01-01 00:00 UTC)), pair("2000-01-01T00:00:00Z", "2000-01-01T00:00:00.000000000Z"));
    assert_eq!(text(datetime!(2000-01-01 00:00:00.000000001 UTC)).0, "2000-01-01T00:00:00.000000001Z");
}

#[test]
fn a_record_is_printed_with_time_and_details() {
    let record = Record {
        time: datetime!(2026-11-24 03:04:05.5 UTC),
        stream: Stream::Stderr,
        bytes: b"hello\n".to_vec(),
        attributes: [("tag".to_owned(), "a b,c=d".to_owned()), ("env".to_owned(), "1".to_owned())].into(),
    };
    let text = |timestamps, details| {
        let mut out = Vec::new();
        record.push_to(&mut out, Format { timestamps, details });
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(false, false), "hello\n");
    assert_eq!(text(true, false), "2026-11-24T03:04:05.500000000Z hello\n");
    assert_eq!(text(true, true), "2026-11-24T03:04:05.500000000Z env=1,tag=a+b%2Cc%3Dd hello\n");
}
