//! `--log-opt`, `--since` and `--until` in docker's words.

use time::OffsetDateTime;
use time::macros::datetime;

use super::super::{LogOptions, TagFacts, Tail, parse_time};

fn parse(pairs: &[(&'static str, &'static str)]) -> Result<LogOptions, String> {
    LogOptions::parse(pairs.iter().copied()).map_err(|error| error.to_string())
}

#[test]
fn sizes_and_counts_are_dockers() {
    let limits = |pairs: &[_]| parse(pairs).map(|options| (options.max_size, options.max_file)).unwrap();
    assert_eq!(limits(&[]), (Some(20_000_000), 5));
    assert_eq!(limits(&[("max-size", "10m"), ("max-file", "3")]), (Some(10_000_000), 3));
    assert_eq!(limits(&[("max-file", "3"), ("max-size", "1.5kb")]), (Some(1500), 3));
    assert_eq!(limits(&[("max-size", "64 KiB")]), (Some(64_000), 1));
    assert_eq!(limits(&[("max-size", "-1")]), (None, 1));
    assert_eq!(limits(&[("max-file", "2")]), (Some(20_000_000), 2));
}

#[test]
fn wrong_options_are_refused_in_dockers_words() {
    let refusal = |key, value| parse(&[(key, value)]).unwrap_err();
    assert_eq!(refusal("x", "1"), "unknown log opt 'x' for json-file log driver");
    assert_eq!(refusal("max-size", "0"), "max-size must be a positive number");
    assert_eq!(refusal("max-size", "-5m"), "max-size must be a positive number");
    assert_eq!(refusal("max-size", "ten"), "invalid size: 'ten'");
    assert_eq!(refusal("max-size", "inf"), "invalid size: 'inf'");
    assert_eq!(refusal("max-size", "10q"), "invalid size: '10q'");
    assert_eq!(refusal("max-file", "0"), "max-file cannot be less than 1");
    assert_eq!(refusal("max-file", "few"), "strconv.Atoi: parsing \"few\": invalid syntax");
    assert_eq!(refusal("compress", "maybe"), "strconv.ParseBool: parsing \"maybe\": invalid syntax");
    assert!(refusal("compress", "true").starts_with("the log opt `compress` is not supported"));
    assert!(refusal("tag", "{{.Nope}}").contains("`tag={{.Nope}}` is not supported: use {{.ID}}"));
    assert!(parse(&[("compress", "false")]).is_ok());
}

#[test]
fn attributes_are_what_was_named() {
    let options =
        parse(&[("labels", "a,b"), ("env", "HOME,NONE"), ("tag", "{{.Name}}/{{ .ID }}-{{.ImageID}}")]).unwrap();
    let facts =
        TagFacts { id: "0123456789abcdef", name: "web", image_name: "nginx", image_id: "sha256:fedcba9876543210" };
    let attributes = options.attributes([("a", "1"), ("c", "2")], ["HOME=/root", "PATH=/bin"], &facts).unwrap();
    let expected = [("HOME", "/root"), ("a", "1"), ("tag", "web/0123456789ab-fedcba987654")];
    assert!(attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(expected), "{attributes:?}");
}

#[test]
fn times_have_dockers_forms() {
    let now = datetime!(2026-11-24 12:00 UTC);
    let time = |text| parse_time(text, now).unwrap();
    assert_eq!(time("10m"), datetime!(2026-11-24 11:50 UTC));
    assert_eq!(time("1h30m5.5s"), datetime!(2026-11-24 10:29:54.5 UTC));
    assert_eq!(time("-10m"), datetime!(2026-11-24 12:10 UTC));
    assert_eq!(time("250ms"), datetime!(2026-11-24 11:59:59.75 UTC));
    assert_eq!(time("0"), OffsetDateTime::UNIX_EPOCH);
    assert_eq!(time("1136073600.000000001"), datetime!(2006-01-01 00:00:00.000000001 UTC));
    assert_eq!(time("1136073600"), datetime!(2006-01-01 00:00 UTC));
    assert_eq!(time("2026-01-31T15:04:05.123456789Z"), datetime!(2026-01-31 15:04:05.123456789 UTC));
    assert_eq!(time("2026-01-31T15:04:05+01:30"), datetime!(2026-01-31 13:34:05 UTC));
    assert_eq!(time("2026-01-31T15:04-08:00"), datetime!(2026-01-31 23:04 UTC));
    assert_eq!(time("2026-01-31T15Z"), datetime!(2026-01-31 15:00 UTC));
    assert_eq!(time("2026-01-31Z"), datetime!(2026-01-31 00:00 UTC));
    // Without a zone it is local time: whatever that is here, it is within 15 hours.
    let difference = time("2026-01-31T15:04:05") - datetime!(2026-01-31 15:04:05 UTC);
    assert!(difference.abs() <= time::Duration::hours(15), "{difference}");
    for wrong in ["", "yesterday", "10", "10x", "2026-13-01", "2026-01-31T", "2026-01-31T15:04:05+1", "1.x", "m", "."] {
        if wrong == "10" {
            assert_eq!(time(wrong).unix_timestamp(), 10);
            continue;
        }
        let error = parse_time(wrong, now).unwrap_err().to_string();
        assert!(error.starts_with("failed to parse value as time or duration"), "{wrong}: {error}");
    }
}

#[test]
fn a_tail_that_is_no_number_is_everything() {
    assert_eq!(Tail::parse("all"), Tail::All);
    assert_eq!(Tail::parse("-1"), Tail::All);
    assert_eq!(Tail::parse("12"), Tail::Records(12));
}
