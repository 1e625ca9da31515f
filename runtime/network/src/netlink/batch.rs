//! Writes netlink messages, several into one buffer.

use super::REQUEST;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Says that an attribute holds attributes. nf_tables and new kinds of route attributes insist on it.
const NESTED: u16 = 0x8000;

/// Messages that go out together, in one system call. They are numbered from zero in the order in which they were
/// written.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    /// A message: its type, its flags, the fixed structure that it begins with, and its attributes. Gives its number.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        build: impl FnOnce(&mut Attributes<'_>),
    ) -> usize {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        build(&mut Attributes(&mut self.bytes));
        // A message is far below 4 GiB: all that is written is bounded by names and numbers.
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.starts.len() - 1
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Asks for an answer to this message also when it went well.
    pub(crate) fn acknowledge(&mut self, number: usize) {
        let at = self.starts[number] + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | super::ACKNOWLEDGE;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The bytes to send, the messages' sequence numbers beginning with this one.
    pub(super) fn numbered(&mut self, first: u32) -> &[u8] {
        for (number, start) in (0u32..).zip(&self.starts) {
            self.bytes[start + 8..start + 12].copy_from_slice(&first.wrapping_add(number).to_ne_bytes());
        }
        &self.bytes
    }
}

/// Writes attributes at the end of a message.
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// An attribute of these bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        // Values are names, addresses and numbers; the longest is a comment of less than 256 bytes.
        self.0.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(self.0);
    }

    /// A string, with the zero that ends it.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// A number in this machine's byte order, as the route family wants it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in the network's byte order, as netfilter wants it.
    pub(crate) fn number_to_network(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, build: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_behind(kind, &[], build);
    }

    /// An attribute that holds a fixed structure and then attributes, such as the other end of a veth pair.
    pub(crate) fn nest_behind(&mut self, kind: u16, header: &[u8], build: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.0.extend_from_slice(header);
        pad(self.0);
        build(&mut Attributes(self.0));
        // An attribute ends below 64 KiB: elements of maps, the only long lists, are written in pieces.
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
