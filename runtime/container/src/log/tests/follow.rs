//! Following a log: nothing lost, nothing twice, and an end.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;

use super::super::{End, LogOptions, LogReader, Query, Record, Stream, Tail};
use super::{Numbers, open, options, text};

/// An end that is told by closing a pipe.
fn ending() -> (std::io::PipeWriter, End) {
    let (reader, writer) = std::io::pipe().unwrap();
    (writer, End::Descriptor(reader.into()))
}

fn follow(path: &Path, end: End) -> LogReader {
    LogReader::follow(path, Query::default(), end).unwrap()
}

#[test]
fn a_reader_that_follows_a_racing_writer_gets_every_line_once() {
    let folder = tempfile::tempdir().unwrap();
    for (round, pause) in [0, 0, 50, 300].into_iter().enumerate() {
        let path = folder.path().join(format!("{round}-json.log"));
        // Files enough that even a reader that is far behind finds them; see the next test for the other case.
        let mut log = open(&path, &options(6000, 10_000));
        let (stop, end) = ending();
        let reader = follow(&path, end);
        let writer = thread::spawn(move || {
            let mut numbers = Numbers(round as u64 + 1);
            let lines: Vec<u8> = (0..5000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
            let mut rest = lines.as_slice();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(rest.len().min(1 + numbers.below(2000)));
                log.write(Stream::Stdout, chunk);
                if numbers.below(10) == 0 {
                    thread::sleep(Duration::from_micros(pause));
                }
                rest = after;
            }
            log.close();
            drop(stop);
        });
        let mut slow = Numbers(99);
        for (number, record) in reader.enumerate() {
            if pause > 0 && slow.below(200) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            let line = String::from_utf8(record.unwrap().bytes).unwrap();
            assert_eq!(line, format!("line {number}\n"), "round {round}");
            if number == 4999 {
                break;
            }
            assert!(number < 4999);
        }
        writer.join().unwrap();
    }
}

#[test]
fn a_reader_that_is_too_slow_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &options(150, 2));
    let (stop, end) = ending();
    let mut reader = follow(&path, end);
    let mut number = 0;
    let mut line = || {
        log.write(Stream::Stdout, format!("line {number:03} {}\n", "x".repeat(100)).as_bytes());
        number += 1;
    };
    // A file takes one record.
    line();
    let first = reader.next_record().unwrap().unwrap();
    assert!(first.bytes.starts_with(b"line 000"));
    for _ in 0..6 {
        line();
    }
    drop(stop);
    let rest: Vec<String> = reader.map(|record| String::from_utf8(record.unwrap().bytes).unwrap()).collect();
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert!(rest[0].starts_with("cove: 4 files of this log went before they were read"), "{rest:?}");
    assert!(rest[1].starts_with("line 005") && rest[2].starts_with("line 006"), "{rest:?}");
}

#[test]
fn one_file_that_is_replaced_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &options(10, 1));
    let (stop, end) = ending();
    let mut reader = follow(&path, end);
    for number in 0..50 {
        log.write(Stream::Stdout, format!("{number}\n").as_bytes());
        assert_eq!(reader.next_record().unwrap().unwrap().bytes, format!("{number}\n").as_bytes());
    }
    drop((stop, log));
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn a_log_that_begins_later_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let (stop, end) = ending();
    let reader = follow(&path, end);
    let writer = thread::spawn({
        let path = path.clone();
        move || {
            thread::sleep(Duration::from_millis(30));
            let mut log = open(&path, &LogOptions::default());
            log.write(Stream::Stdout, b"one\ntwo");
            thread::sleep(Duration::from_millis(30));
            log.close();
            drop(stop);
        }
    });
    let records: Vec<Record> = reader.map(Result::unwrap).collect();
    assert_eq!(text(&records), ["one\n", "two"]);
    writer.join().unwrap();
}

#[test]
fn an_end_can_be_asked_for_and_until_ends_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &LogOptions::default());
    log.write(Stream::Stdout, b"old\none\n");
    let ended = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ended);
    let query = Query { tail: Tail::Records(1), ..Query::default() };
    let end = End::Asked(Box::new(move || asked.load(Ordering::SeqCst)));
    let mut reader = LogReader::follow(&path, query, end).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().bytes, b"one\n");
    log.write(Stream::Stdout, b"two\n");
    ended.store(true, Ordering::SeqCst);
    assert_eq!(reader.next_record().unwrap().unwrap().bytes, b"two\n");
    assert!(reader.next_record().unwrap().is_none());

    let until = Some(OffsetDateTime::now_utc() + Duration::from_millis(50));
    let query = Query { until, ..Query::default() };
    let records: Vec<Record> = LogReader::follow(&path, query, End::Never).unwrap().map(Result::unwrap).collect();
    assert_eq!(text(&records), ["old\n", "one\n", "two\n"]);
}

#[test]
fn a_torn_record_is_waited_for_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &LogOptions::default());
    log.write(Stream::Stdout, b"one\n");
    let size = std::fs::metadata(&path).unwrap().len();
    let (stop, end) = ending();
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"{\"log\":\"a long torn record that is taken back").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = follow(&path, end);
    let thread = thread::spawn(move || {
        for record in reader {
            sender.send(String::from_utf8(record.unwrap().bytes).unwrap()).unwrap();
        }
    });
    assert_eq!(receiver.recv().unwrap(), "one\n");
    thread::sleep(Duration::from_millis(50));
    file.set_len(size).unwrap();
    log.write(Stream::Stdout, b"2\n");
    assert_eq!(receiver.recv().unwrap(), "2\n");
    drop(stop);
    thread.join().unwrap();
    assert!(receiver.recv().is_err());
}
