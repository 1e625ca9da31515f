//! Reading in one thread what another one uses: for large layers, where inflating alone fills a core.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

const PIECE: usize = 256 * 1024;
const PIECES: usize = 8;

/// Runs `consume` on what `open` gives, which is opened and read in a thread of its own, a few pieces ahead. `open` runs
/// in that thread because decoders need not be `Send`. If `consume` stops early, the thread ends at its next piece.
pub fn read_ahead<'a, T>(
    open: impl FnOnce() -> io::Result<Box<dyn Read + 'a>> + Send,
    consume: impl FnOnce(&mut dyn Read) -> T,
) -> T {
    let (full, filled) = sync_channel(PIECES);
    let (recycle, recycled) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(error) = fill(open, &full, &recycled) {
                // Nobody listens any more: then nobody needs the error either.
                let _ = full.send(Err(error));
            }
        });
        consume(&mut Ahead { filled, recycle, piece: Vec::new(), start: 0 })
    })
}

fn fill<'a>(
    open: impl FnOnce() -> io::Result<Box<dyn Read + 'a>>,
    full: &SyncSender<io::Result<Vec<u8>>>,
    recycled: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut input = open()?;
    loop {
        let mut piece = recycled.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut length = 0;
        while length < PIECE {
            match input.read(&mut piece[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    piece.truncate(length);
                    let _ = full.send(Ok(piece));
                    return Err(error);
                }
            }
        }
        piece.truncate(length);
        // An empty piece is the end.
        if full.send(Ok(piece)).is_err() || length == 0 {
            return Ok(());
        }
    }
}

struct Ahead {
    filled: Receiver<io::Result<Vec<u8>>>,
    recycle: Sender<Vec<u8>>,
    piece: Vec<u8>,
    start: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.start == self.piece.len() {
            // The thread ends without an empty piece only after an error, which was told, or a panic.
            let next = self.filled.recv().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))??;
            if next.is_empty() && self.start == self.piece.len() {
                // Stay at the end.
                let (full, filled) = sync_channel(1);
                let _ = full.send(Ok(Vec::new()));
                self.filled = filled;
                return Ok(0);
            }
            let used = std::mem::replace(&mut self.piece, next);
            self.start = 0;
            let _ = self.recycle.send(used);
        }
        let count = buffer.len().min(self.piece.len() - self.start);
        buffer[..count].copy_from_slice(&self.piece[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}
