//! What the reader finds: tail, times, damage.

use std::fs;
use std::os::unix::fs::FileExt as _;

use time::Duration;

use super::super::{LogOptions, LogReader, Query, Stream, Tail};
use super::{open, options, records, text};

fn tail(path: &std::path::Path, count: u64) -> Vec<String> {
    text(&records(path, Query { tail: Tail::Records(count), ..Query::default() }))
}

#[test]
fn tail_counts_records_over_all_files() {
    let folder = tempfile::tempdir().unwrap();
    for size in [300, 5000, 1_000_000] {
        let path = folder.path().join(format!("{size}-json.log"));
        let mut log = open(&path, &options(size, 1000));
        let lines: Vec<String> = (0..200).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            log.write(Stream::Stdout, line.as_bytes());
        }
        for count in [0, 1, 2, 3, 50, 199, 200, 201, 1000] {
            assert_eq!(tail(&path, count), lines[200_usize.saturating_sub(count as usize)..], "{count} of {size}");
        }
    }
}

#[test]
fn tail_does_not_read_the_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &LogOptions::default());
    log.write(Stream::Stdout, b"first\n");
    // A hole of a terabyte: reading it would never end.
    let file = fs::File::options().write(true).open(&path).unwrap();
    let size = file.metadata().unwrap().len();
    if file.set_len(1 << 40).is_err() {
        file.set_len(1 << 36).unwrap();
    }
    let end = file.metadata().unwrap().len();
    let first = fs::File::open(&path).unwrap();
    let mut record = vec![0; size as usize];
    first.read_exact_at(&mut record, 0).unwrap();
    record.insert(0, b'\n');
    file.write_all_at(&record, end).unwrap();
    assert_eq!(tail(&path, 1), ["first\n"]);
}

#[test]
fn since_and_until_choose_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &options(200, 100));
    for number in 0..20 {
        log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let all = records(&path, Query::default());
    let (since, until) = (Some(all[5].time), Some(all[8].time));
    let chosen = |since, until, tail| text(&records(&path, Query { since, until, tail }));
    assert_eq!(chosen(since, None, Tail::All), text(&all[5..]));
    assert_eq!(chosen(since, until, Tail::All), text(&all[5..9]));
    assert_eq!(chosen(None, until, Tail::All), text(&all[..9]));
    assert_eq!(chosen(since, None, Tail::Records(4)), text(&all[16..]));
    assert!(chosen(Some(all[19].time + Duration::hours(1)), None, Tail::All).is_empty());
    assert_eq!(chosen(Some(all[0].time - Duration::hours(1)), None, Tail::All).len(), 20);
}

#[test]
fn damage_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let record =
        |text: &str| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-24T03:04:05.5Z\"}}\n");
    let damaged = [
        record("one"),
        "{\"log\":\"half".to_owned() + &record("two"),
        "\n\0\0\0\0".to_owned() + &record("three"),
        "not json\n{}\n[1,2]\n{\"log\":5}\n".to_owned(),
        "y".repeat(3_000_000) + "\n",
        record("four"),
        "{\"log\":\"torn".to_owned(),
    ];
    fs::write(&path, damaged.concat()).unwrap();
    assert_eq!(text(&records(&path, Query::default())), ["one\n", "two\n", "three\n", "four\n"]);
    assert_eq!(tail(&path, 1), ["four\n"]);
}

#[test]
fn a_log_of_docker_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    fs::write(
        &path,
        concat!(
            r#"{"log":"\u003ca\u003e \u0009\ufffd é\n","stream":"stderr","attrs":{"tag":"t"},"time":"2026-11-24T03:04:05.000000001Z"}"#,
            "\n"
        ),
    )
    .unwrap();
    let record = &records(&path, Query::default())[0];
    assert_eq!((record.stream, record.time.nanosecond()), (Stream::Stderr, 1));
    assert_eq!(String::from_utf8(record.bytes.clone()).unwrap(), "<a> \t\u{fffd} é\n");
    assert_eq!(record.attributes["tag"], "t");
}

#[test]
fn no_log_is_an_empty_log_and_no_folder_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(records(&folder.path().join("none"), Query::default()).is_empty());
    let error = LogReader::open(&folder.path().join("no/log"), Query::default()).err().unwrap().to_string();
    assert!(error.contains("no/log` cannot be used"), "{error}");
}
