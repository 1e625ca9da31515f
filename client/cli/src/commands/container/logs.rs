//! `cove logs`

use std::io::{BufWriter, Write};

use cove_container::log::{End, Format, LogReader, Query, Stream, Tail, parse_time};
use cove_container::protocol::Connection;
use time::OffsetDateTime;

use crate::arguments::Logs;
use crate::context::Context;
use crate::error::Error;

/// Prints what a container has written, and with `-f` what it writes.
pub fn run(context: &Context, arguments: &Logs) -> Result<(), Error> {
    let container = super::find(context, &arguments.container)?;
    let record = container.record()?;
    if record.host_config.log_config.kind == "none" {
        return Err(Error::Refused("configured logging driver does not support reading".to_owned()));
    }
    let now = OffsetDateTime::now_utc();
    let moment = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        let bad = |text: &str| {
            Error::Local(format!("invalid value for {name:?}: failed to parse value as time or duration: {text:?}"))
        };
        text.map(|text| parse_time(text, now).map_err(|_| bad(text))).transpose()
    };
    let query = Query {
        since: moment("since", &arguments.since)?,
        until: moment("until", &arguments.until)?,
        tail: arguments.tail.as_deref().map_or(Tail::All, Tail::parse),
    };
    let format = Format { timestamps: arguments.timestamps, details: arguments.details };
    // The connection ends with the monitor, and the monitor when everything is written.
    let monitor = if arguments.follow { Connection::to(&container.socket()).map_err(Error::Io)? } else { None };
    let follows = monitor.is_some();
    let reader = match monitor {
        Some(monitor) => LogReader::follow(&container.log(), query, End::Descriptor(monitor.into())),
        None => LogReader::open(&container.log(), query),
    };
    let mut reader = reader.map_err(|error| match container.record() {
        // It was removed in this moment.
        Err(gone @ cove_container::Error::NoSuchContainer(_)) => Error::from(gone),
        _ => error.into(),
    })?;
    // Who follows wants to see each line at once.
    let capacity = if follows { 0 } else { 64 * 1024 };
    let mut out = BufWriter::with_capacity(capacity, std::io::stdout().lock());
    let mut error = BufWriter::with_capacity(capacity, std::io::stderr().lock());
    let mut text = Vec::new();
    while let Some(record) = reader.next_record()? {
        text.clear();
        record.push_to(&mut text, format);
        match record.stream {
            Stream::Stdout => out.write_all(&text)?,
            Stream::Stderr => error.write_all(&text)?,
        }
    }
    out.flush()?;
    Ok(error.flush()?)
}
