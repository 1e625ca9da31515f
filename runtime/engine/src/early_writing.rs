//! Starting to write out while there is still work for the processor.
//!
//! The system keeps what is written in memory for half a minute; the `syncfs` before anything is published would then
//! write all of it while the processor waits. A thread that asks for it a few times a second lets both work at once.
//! It decides nothing: the one `syncfs` before publishing is what counts, on a descriptor of its own.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Often enough that little is left for the end, seldom enough that a file is not written in many small pieces.
const PAUSE: Duration = Duration::from_millis(250);

/// Goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct EarlyWriting {
    /// Nothing is ever sent: its end is the sign to stop.
    _ends_with_us: Sender<()>,
}

impl EarlyWriting {
    /// Begins for the file system that holds this folder. Opens it itself: an error of writing is told once for each
    /// open file, and must not be lost to whoever asks at the end.
    pub(crate) fn begin(folder: &Path) -> io::Result<Self> {
        let disk: File = fs_err::File::open(folder)?.into_parts().0;
        let (ends_with_us, end) = mpsc::channel();
        let go_on = move || {
            while end.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                // What fails here fails again at the end, where it is told.
                let _ = rustix::fs::syncfs(&disk);
            }
        };
        thread::Builder::new().name("early-writing".to_owned()).spawn(go_on)?;
        Ok(Self { _ends_with_us: ends_with_us })
    }
}
