//! From a compressed layer to its tar archive: gzip, zstd, or nothing to do.
//!
//! Several gzip members or zstd frames in a row are one stream. Memory is bounded, and so is the ratio: a small file
//! that becomes endless is refused.

mod gzip;
mod read_ahead;

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use cove_oci::Codec;

pub use read_ahead::read_ahead;

use crate::unpack::UnpackLimits;

/// How much is read of the compressed layer at once.
const BUFFER: usize = 256 * 1024;

/// Why a layer cannot be decompressed; travels inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// No gzip.
    #[error("the layer is no gzip stream")]
    NotGzip,
    /// The deflate stream, checksum or length is wrong.
    #[error("the gzip stream is damaged")]
    Damaged,
    /// Far too many bytes out of few.
    #[error("the layer becomes more than {ratio} times as large: raise `unpack.ratio` if you trust it")]
    Ratio {
        /// The limit.
        ratio: u64,
    },
    /// A zstd frame that wants more memory than it may have.
    #[error("the layer's zstd window is larger than 2^{log} bytes: raise `unpack.zstd-window-log` if you trust it")]
    Window {
        /// The limit.
        log: u32,
    },
}

impl From<DecompressError> for io::Error {
    fn from(error: DecompressError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Decompresses a layer. The reader that comes back is best read with large buffers; it checks checksums and lengths,
/// and refuses streams that are cut off.
pub fn decompress<'a>(
    codec: Codec,
    compressed: impl Read + 'a,
    limits: &UnpackLimits,
) -> io::Result<Box<dyn Read + 'a>> {
    capped(compressed, limits, |compressed| {
        Ok(match codec {
            Codec::Identity => Box::new(compressed),
            Codec::Gzip => Box::new(gzip::Decoder::new(compressed)),
            Codec::Zstd => {
                let input = BufReader::with_capacity(BUFFER, compressed);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(limits.zstd_window_log)?;
                Box::new(Windowed { inner: decoder, log: limits.zstd_window_log })
            }
        })
    })
}

/// What `open` makes of something compressed, as long as that does not become too large.
pub(crate) fn capped<'a, R: Read + 'a>(
    compressed: R,
    limits: &UnpackLimits,
    open: impl FnOnce(Counted<R>) -> io::Result<Box<dyn Read + 'a>>,
) -> io::Result<Box<dyn Read + 'a>> {
    let read = Rc::new(Cell::new(0));
    let inner = open(Counted { inner: compressed, count: Rc::clone(&read) })?;
    Ok(Box::new(Capped { inner, read, written: 0, ratio: limits.ratio, from: limits.ratio_from }))
}

/// Says what a zstd decoder means.
struct Windowed<R> {
    inner: R,
    log: u32,
}

impl<R: Read> Read for Windowed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.to_string().contains("too much memory") {
            true => DecompressError::Window { log: self.log }.into(),
            false => error,
        })
    }
}

/// Counts what is read of something compressed.
pub(crate) struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Refuses to become too large.
struct Capped<R> {
    inner: R,
    read: Rc<Cell<u64>>,
    written: u64,
    ratio: u64,
    from: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.written += count as u64;
        if self.written > self.from && self.written / self.ratio.max(1) > self.read.get() {
            return Err(DecompressError::Ratio { ratio: self.ratio }.into());
        }
        Ok(count)
    }
}
