//! The body of an answer that carries a blob.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};

use super::mapped::MappedFile;

/// Bytes of a blob, of known number. A body that ends early is an error, so the connection is cut and no client
/// takes the part for the whole.
pub struct BlobBody {
    source: Source,
    remaining: u64,
}

enum Source {
    Memory(Option<Bytes>),
    Mapped(MappedFile),
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

impl BlobBody {
    pub(super) fn empty() -> Self {
        BlobBody { source: Source::Memory(None), remaining: 0 }
    }

    /// Bytes that are in memory.
    pub fn memory(bytes: Bytes) -> Self {
        BlobBody { remaining: bytes.len() as u64, source: Source::Memory(Some(bytes)) }
    }

    pub(super) fn mapped(file: MappedFile) -> Self {
        BlobBody { remaining: file.remaining(), source: Source::Mapped(file) }
    }

    pub(super) fn stream(stream: BoxStream<'static, io::Result<Bytes>>, length: u64) -> Self {
        BlobBody { source: Source::Stream(stream), remaining: length }
    }

    /// Number of bytes still to come.
    pub fn len(&self) -> u64 {
        self.remaining
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = match &mut self.source {
            Source::Memory(bytes) => bytes.take().map(Ok),
            Source::Mapped(file) => file.next(),
            Source::Stream(stream) => match stream.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            },
        };
        Poll::Ready(match next {
            Some(Ok(bytes)) => {
                self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => Some(Err(error)),
            None if self.remaining > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
