//! The log, where callers look for the reason of a failure.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::arguments::Global;
use crate::output;

/// Where it goes: to a file, if there is one, and errors to standard error in any case.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
    quiet: bool,
}

/// A line, as logrus writes it: podman, containerd and dockerd read it.
#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

impl Log {
    pub(crate) fn open(global: &Global) -> io::Result<Self> {
        let file = global.log.as_ref().map(|path| OpenOptions::new().append(true).create(true).open(path));
        Ok(Self { file: file.transpose()?, json: global.json, debug: global.debug, quiet: global.quiet })
    }

    /// Why the command fails.
    pub(crate) fn error(&self, text: &str) {
        if self.file.is_none() || !self.quiet {
            output::error(text);
        }
        self.write("error", text);
    }

    /// What the user should know.
    pub(crate) fn warning(&self, text: &str) {
        if self.file.is_none() {
            output::error(&format!("warning: {text}"));
        }
        self.write("warning", text);
    }

    /// What only who looks for an error wants to know.
    pub(crate) fn debug(&self, text: &str) {
        if self.debug {
            self.write("debug", text);
        }
    }

    fn write(&self, level: &str, text: &str) {
        let Some(mut file) = self.file.as_ref() else { return };
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let line = Line { level, msg: text, time: &time };
        let line = match (self.json, serde_json::to_string(&line)) {
            (true, Ok(line)) => line,
            _ => format!("time={time:?} level={level} msg={text:?}"),
        };
        // In one piece: others may write to it as well.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
