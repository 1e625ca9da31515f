//! gzip, RFC 1952: members in a row are one stream.
//!
//! Layers that Cove compressed consist of small members that tell their own size in an extra field `CV`. Such a member
//! is decoded whole, which is twice as fast as streaming. The field is only a hint: whatever does not fit in the
//! least is decoded again as a stream.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;

use super::{BUFFER, DecompressError};

/// The largest member that is decoded whole, and the most that may come out of it.
const LARGEST_MEMBER: usize = 2 * 1024 * 1024;

/// The longest header: fixed part, extra field, and name and comment within reason.
const LARGEST_HEADER: usize = 256 * 1024;

/// Decodes a gzip stream.
pub(super) struct Decoder<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    state: State,
    stream: Decompress,
    checksum: crc32fast::Hasher,
    length: u32,
    whole: Decompressor,
    /// What came out of a member that was decoded whole.
    output: Vec<u8>,
    output_start: usize,
    members: u64,
    /// Whether members have told the truth about their size so far. Looking at one whole that lies costs as much as
    /// decoding hundreds of small ones.
    trusted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Stream,
    Output,
    End,
}

struct Header {
    length: usize,
    /// Size of the whole member, if it says so and is small enough.
    member: Option<usize>,
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(input: R) -> Self {
        Decoder {
            input,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            ended: false,
            state: State::Header,
            stream: Decompress::new(false),
            checksum: crc32fast::Hasher::new(),
            length: 0,
            whole: Decompressor::new(),
            output: Vec::new(),
            output_start: 0,
            members: 0,
            trusted: true,
        }
    }

    /// Has at least `count` bytes in the buffer, unless the input ends before.
    fn ensure(&mut self, count: usize) -> io::Result<bool> {
        while self.end - self.start < count && !self.ended {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.buffer.len() < count {
                self.buffer.resize(count.next_multiple_of(BUFFER), 0);
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end - self.start >= count)
    }

    /// Begins the next member, if there is one.
    fn begin(&mut self) -> io::Result<State> {
        if !self.ensure(1)? {
            return if self.members > 0 { Ok(State::End) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let header = self.header()?;
        self.members += 1;
        if let Some(member) = header.member.filter(|_| self.trusted) {
            if self.ensure(member)? && self.decode_whole(header.length, member) {
                self.start += member;
                self.output_start = 0;
                return Ok(State::Output);
            }
            self.trusted = false;
        }
        self.start += header.length;
        self.stream.reset(false);
        self.checksum.reset();
        self.length = 0;
        Ok(State::Stream)
    }

    fn header(&mut self) -> io::Result<Header> {
        let mut wanted = 10;
        loop {
            let complete = self.ensure(wanted)?;
            let available = &self.buffer[self.start..self.end];
            match parse_header(available)? {
                Some(header) => return Ok(header),
                None if !complete => return Err(io::ErrorKind::UnexpectedEof.into()),
                None if available.len() > LARGEST_HEADER => return Err(DecompressError::NotGzip.into()),
                None => wanted = available.len() + 1,
            }
        }
    }

    /// Decodes a member that is in the buffer; `false` if anything about it is not as its extra field makes believe.
    fn decode_whole(&mut self, header: usize, member: usize) -> bool {
        let bytes = &self.buffer[self.start..self.start + member];
        let Some((body, trailer)) = bytes.split_last_chunk::<8>() else { return false };
        let [.., l0, l1, l2, l3] = *trailer;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > LARGEST_MEMBER || header > body.len() {
            return false;
        }
        self.output.resize(length, 0);
        // libdeflate checks the trailer that follows the deflate stream, but does not tell where that was. It was at
        // the end of the member, as the extra field says, if the same eight bytes are nowhere else.
        self.whole.gzip_decompress(bytes, &mut self.output).is_ok_and(|count| count == length)
            && memchr::memmem::find(&bytes[header..], trailer) == Some(body.len() - header)
    }

    /// Streams; gives 0 only when the member has ended.
    fn inflate(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ensure(1)?;
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let input = &self.buffer[self.start..self.end];
            let status = self.stream.decompress(input, buffer, FlushDecompress::None);
            let status = status.map_err(|_| DecompressError::Damaged)?;
            self.start += usize::try_from(self.stream.total_in() - before_in).unwrap_or_default();
            let count = usize::try_from(self.stream.total_out() - before_out).unwrap_or_default();
            self.checksum.update(&buffer[..count]);
            self.length = self.length.wrapping_add(count as u32);
            match status {
                Status::StreamEnd => {
                    self.trailer()?;
                    self.state = State::Header;
                    return Ok(count);
                }
                _ if count > 0 => return Ok(count),
                _ if self.ended && self.start == self.end => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    fn trailer(&mut self) -> io::Result<()> {
        if !self.ensure(8)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut expected = [0; 8];
        expected[..4].copy_from_slice(&self.checksum.clone().finalize().to_le_bytes());
        expected[4..].copy_from_slice(&self.length.to_le_bytes());
        if self.buffer[self.start..self.start + 8] != expected {
            return Err(DecompressError::Damaged.into());
        }
        self.start += 8;
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Header => self.state = self.begin()?,
                State::Stream => {
                    let count = self.inflate(buffer)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
                State::Output => {
                    let rest = &self.output[self.output_start..];
                    if rest.is_empty() {
                        self.state = State::Header;
                        continue;
                    }
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.output_start += count;
                    return Ok(count);
                }
                State::End => return Ok(0),
            }
        }
    }
}

/// Length of the header and what it says; `None` while more bytes are needed.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, DecompressError> {
    const HEADER_CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let magic = [0x1f, 0x8b, 8];
    if bytes.iter().zip(magic).any(|(found, expected)| *found != expected) {
        return Err(DecompressError::NotGzip);
    }
    let Some((fixed, mut rest)) = bytes.split_at_checked(10) else { return Ok(None) };
    let flags = fixed[3];
    if flags & 0xe0 != 0 {
        return Err(DecompressError::NotGzip);
    }
    let mut member = None;
    if flags & EXTRA != 0 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let Some((fields, after)) = after.split_at_checked(usize::from(u16::from_le_bytes(*length))) else {
            return Ok(None);
        };
        member = member_size(fields);
        rest = after;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { return Ok(None) };
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        let length = bytes.len() - rest.len();
        let Some((checksum, after)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        if crc32fast::hash(&bytes[..length]) as u16 != u16::from_le_bytes(*checksum) {
            return Err(DecompressError::Damaged);
        }
        rest = after;
    }
    let length = bytes.len() - rest.len();
    let member = member.filter(|member| (length + 8..=LARGEST_MEMBER).contains(member));
    Ok(Some(Header { length, member }))
}

/// The size of the member as Cove's subfield tells it.
fn member_size(mut fields: &[u8]) -> Option<usize> {
    while let Some(([first, second, low, high], rest)) = fields.split_first_chunk::<4>() {
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
        if (*first, *second) == (b'C', b'V') {
            return Some(u32::from_le_bytes(value.try_into().ok()?) as usize);
        }
        fields = rest;
    }
    None
}
