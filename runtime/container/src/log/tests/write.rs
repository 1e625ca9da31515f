//! What the writer leaves in the file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use super::super::{LINE_LIMIT, Log, LogOptions, Query, Stream};
use super::{Numbers, bytes, open, options, records, text};

#[test]
fn lines_become_records_of_docker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let attributes = BTreeMap::from([("tag".to_owned(), "a<b".to_owned()), ("env".to_owned(), "x\"y".to_owned())]);
    let mut log = Log::open(&path, &LogOptions::default(), &attributes).unwrap();
    log.write(Stream::Stdout, b"hello <wor");
    log.write(Stream::Stderr, b"error\n");
    log.write(Stream::Stdout, b"ld>\n\nrest");
    log.close();
    let file = fs::read_to_string(&path).unwrap();
    let lines: Vec<(&str, &str)> = file.lines().map(|line| line.split_once("\"time\":").unwrap()).collect();
    let attributes = r#""attrs":{"env":"x\"y","tag":"a\u003cb"},"#;
    let expected = [
        format!(r#"{{"log":"error\n","stream":"stderr",{attributes}"#),
        format!(r#"{{"log":"hello \u003cworld\u003e\n","stream":"stdout",{attributes}"#),
        format!(r#"{{"log":"\n","stream":"stdout",{attributes}"#),
        format!(r#"{{"log":"rest","stream":"stdout",{attributes}"#),
    ];
    assert!(lines.iter().map(|(before, _)| *before).eq(expected.iter()), "{file}");
    for (_, time) in lines {
        assert!(time.starts_with("\"2") && time.ends_with("Z\"}") && time.as_bytes()[11] == b'T', "{time}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn long_lines_are_split_as_docker_does() {
    let folder = tempfile::tempdir().unwrap();
    for (length, expected) in [
        (LINE_LIMIT - 1, vec![LINE_LIMIT]),
        // The line is full before its end is seen, which is then a record of its own.
        (LINE_LIMIT, vec![LINE_LIMIT, 1]),
        (LINE_LIMIT + 1, vec![LINE_LIMIT, 2]),
        (3 * LINE_LIMIT + 5, vec![LINE_LIMIT, LINE_LIMIT, LINE_LIMIT, 6]),
    ] {
        for chunk in [1, 1000, 4096, 65536, 1 << 20] {
            let path = folder.path().join(format!("{length}-{chunk}"));
            let mut log = open(&path, &LogOptions::default());
            let line = [vec![b'x'; length], b"\nnext\n".to_vec()].concat();
            for part in line.chunks(chunk) {
                log.write(Stream::Stdout, part);
            }
            log.close();
            let records = records(&path, Query::default());
            let lengths: Vec<usize> = records.iter().map(|record| record.bytes.len()).collect();
            assert_eq!(lengths, [expected.clone(), vec![5]].concat(), "{length} in chunks of {chunk}");
            // The parts of a line have the time of the first.
            let (line, next) = records.split_at(expected.len());
            assert!(line.iter().all(|record| record.time == line[0].time) && next[0].time >= line[0].time);
        }
    }
}

#[test]
fn random_chunks_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 1..20 {
        let mut numbers = Numbers(seed);
        let path = folder.path().join(seed.to_string());
        let mut log = open(&path, &options(20_000 + numbers.below(200_000) as u64, 10_000));
        let mut written = BTreeMap::from([(Stream::Stdout, Vec::new()), (Stream::Stderr, Vec::new())]);
        for _ in 0..numbers.below(60) {
            let stream = if numbers.below(3) == 0 { Stream::Stderr } else { Stream::Stdout };
            let limit = [10, 300, 40_000][numbers.below(3)];
            let rarity = [3, 80, 100_000][numbers.below(3)];
            let chunk: Vec<u8> = (0..numbers.below(limit))
                .map(|_| if numbers.below(rarity) == 0 { b'\n' } else { numbers.below(0x80) as u8 })
                .collect();
            log.write(stream, &chunk);
            written.entry(stream).or_default().extend_from_slice(&chunk);
            if numbers.below(20) == 0 {
                // Another monitor goes on: it finds the end of what is there.
                log.close();
                log = open(&path, &options(20_000 + numbers.below(200_000) as u64, 10_000));
            }
        }
        log.close();
        let records = records(&path, Query::default());
        for (stream, written) in written {
            assert!(bytes(&records, stream) == written, "seed {seed}, {stream:?}");
        }
    }
}

#[test]
fn files_are_turned_when_full_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &options(1000, 3));
    for number in 0..100 {
        log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
    }
    log.close();
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["id-json.log", "id-json.log.1", "id-json.log.2"]);
    for name in &names[1..] {
        let size = fs::metadata(folder.path().join(name)).unwrap().len();
        assert!((1000..1200).contains(&size), "{size}");
    }
    let kept = text(&records(&path, Query::default()));
    let first = 100 - kept.len();
    assert!(kept.len() > 20 && kept.iter().enumerate().all(|(at, line)| *line == format!("line {}\n", first + at)));
}

#[test]
fn one_chunk_of_many_lines_keeps_to_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &options(10_000, 4));
    log.write(Stream::Stdout, &b"\n".repeat(60_000));
    log.close();
    let sizes = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() < 4 * 10_200);
}

#[test]
fn a_torn_record_is_cut_off_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id-json.log");
    let mut log = open(&path, &LogOptions::default());
    log.write(Stream::Stdout, b"one\n");
    drop(log);
    for torn in ["{", "{\"log\":\"half of i", &"x".repeat(20_000)] {
        fs::File::options().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        let mut log = open(&path, &LogOptions::default());
        log.write(Stream::Stdout, b"next\n");
    }
    assert_eq!(text(&records(&path, Query::default())), ["one\n", "next\n", "next\n", "next\n"]);
    fs::write(&path, "only half").unwrap();
    open(&path, &LogOptions::default()).write(Stream::Stdout, b"first\n");
    assert_eq!(text(&records(&path, Query::default())), ["first\n"]);
}

/// A file system of 64 KiB, in a mount namespace of the calling thread.
fn small_disk(folder: &std::path::Path) {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    #[allow(unsafe_code)]
    // SAFETY: only this thread's mounts (and with FS its working folder) part from the others'; no descriptor table does.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS).unwrap();
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
}

#[test]
fn what_a_full_disk_loses_is_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_owned();
    std::thread::spawn(move || {
        small_disk(&folder);
        let path = folder.join("id-json.log");
        let mut log = open(&path, &LogOptions { max_size: None, ..LogOptions::default() });
        let ballast = folder.join("ballast");
        fs::write(&ballast, vec![1; 40_000]).unwrap();
        for number in 0..2000 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        let lost = log.lost();
        assert!(lost > 1500, "{lost}");
        let kept = records(&path, Query::default());
        assert_eq!(kept.len() as u64, 2000 - lost);
        // Whole records only.
        assert!(fs::read(&path).unwrap().ends_with(b"}\n"));
        fs::remove_file(ballast).unwrap();
        log.write(Stream::Stdout, b"space again\nand more\n");
        assert_eq!(log.lost(), 0);
        let all = text(&records(&path, Query::default()));
        let reason = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(
            all[kept.len()..],
            [
                format!("cove: {lost} records of this log could not be written and are lost: {reason}\n"),
                "space again\n".to_owned(),
                "and more\n".to_owned()
            ]
        );
        // Nothing is told twice.
        log.write(Stream::Stdout, b"after\n");
        assert_eq!(text(&records(&path, Query::default())).last().unwrap(), "after\n");
        assert_eq!(records(&path, Query::default()).len(), kept.len() + 4);
    })
    .join()
    .unwrap();
}

#[test]
fn a_full_disk_that_takes_a_part_of_a_chunk_keeps_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_owned();
    std::thread::spawn(move || {
        small_disk(&folder);
        let path = folder.join("id-json.log");
        let mut log = open(&path, &options(20_000, 9));
        let lines: String = (0..3000).map(|number| format!("line {number}\n")).collect();
        for chunk in lines.as_bytes().chunks(5000) {
            log.write(Stream::Stderr, chunk);
        }
        let lost = log.lost();
        let kept = text(&records(&path, Query::default()));
        assert_eq!(kept.len() as u64 + lost, 3000);
        assert!(kept.iter().enumerate().all(|(number, line)| *line == format!("line {number}\n")));
    })
    .join()
    .unwrap();
}
