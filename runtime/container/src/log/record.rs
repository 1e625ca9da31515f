//! A record of a log as it is read, and as `logs` prints it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Stream;
use super::encode::push_fixed_time;

/// One record of a log: a line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it came.
    pub time: OffsetDateTime,
    /// Where it came from.
    pub stream: Stream,
    /// What came, with the line's end if it had one.
    pub bytes: Vec<u8>,
    /// The labels, variables and tag that the log was told to carry.
    pub attributes: BTreeMap<String, String>,
}

/// How `logs` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    /// `--timestamps`
    pub timestamps: bool,
    /// `--details`
    pub details: bool,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

impl Record {
    /// Reads a line of the file. `None` for what is no record: what a killed writer or a full disk left. If a record was
    /// written right behind such a rest, it is found.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        Self::parse_whole(line).or_else(|| {
            let begin = memchr::memmem::rfind(line, b"{\"log\":")?;
            if begin == 0 { None } else { Self::parse_whole(&line[begin..]) }
        })
    }

    fn parse_whole(line: &[u8]) -> Option<Self> {
        let stored: Stored<'_> = serde_json::from_slice(line).ok()?;
        Some(Self {
            time: OffsetDateTime::parse(&stored.time, &Rfc3339).ok()?,
            stream: if stored.stream == Stream::Stderr.name() { Stream::Stderr } else { Stream::Stdout },
            bytes: stored.log.into_owned().into_bytes(),
            attributes: stored.attrs,
        })
    }

    /// Appends the record as `logs` prints it.
    pub fn push_to(&self, out: &mut Vec<u8>, format: Format) {
        if format.timestamps {
            push_fixed_time(out, self.time);
            out.push(b' ');
        }
        if format.details {
            for (place, (key, value)) in self.attributes.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                push_query(out, key);
                out.push(b'=');
                push_query(out, value);
            }
            out.push(b' ');
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// As in the query of a URL: so docker writes keys and values, which may hold commas and blanks.
fn push_query(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}
