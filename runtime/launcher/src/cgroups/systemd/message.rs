//! Messages of D-Bus as bytes (D-Bus specification, "Message Protocol"): what calls to systemd need, and what it answers.
//!
//! Numbers are little endian in ours; answers may be either way. Every value begins at a multiple of its size, counted
//! from the beginning of the message.

use super::bus::BusError;

/// A value with its type, as the properties of units have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroups) enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Number(_) => "t",
            Value::Numbers(_) => "au",
            Value::Bytes(_) => "ay",
            Value::Texts(_) => "as",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// Bytes under construction.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, size: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(size), 0);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.number(u32::from(flag));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// An array: its length in bytes is known only afterwards. `size` is what its elements are aligned to.
    fn array<T>(&mut self, size: usize, elements: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.number(0);
        let place = self.bytes.len() - 4;
        self.align(size);
        let begin = self.bytes.len();
        for element in elements {
            write(self, element);
        }
        let written = length(self.bytes.len() - begin);
        self.bytes[place..place + 4].copy_from_slice(&written.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Number(number) => {
                self.align(8);
                self.bytes.extend(number.to_le_bytes());
            }
            Value::Numbers(numbers) => self.array(4, numbers, |writer, number| writer.number(*number)),
            Value::Bytes(bytes) => self.array(1, bytes, |writer, byte| writer.bytes.push(*byte)),
            Value::Texts(texts) => self.array(4, texts, |writer, text| writer.text(text)),
            Value::Pairs(pairs) => self.array(8, pairs, |writer, (first, second)| {
                writer.align(8);
                writer.text(first);
                writer.text(second);
            }),
        }
    }

    /// `a(sv)`: properties.
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, properties, |writer, (name, value)| {
            writer.align(8);
            writer.text(name);
            writer.variant(value);
        });
    }

    /// `a(sa(sv))` without elements: units that a unit brings with it.
    pub(super) fn no_units(&mut self) {
        self.array::<()>(8, &[], |_, ()| ());
    }
}

fn length(length: usize) -> u32 {
    // Messages have at most 128 MiB; ours have some hundred bytes.
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) signature: &'a str,
}

// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A call as bytes.
pub(super) fn call(call: &Call<'_>, serial: u32, body: Writer) -> Vec<u8> {
    let mut message = Writer { bytes: vec![b'l', 1, 0, 1] };
    message.number(length(body.bytes.len()));
    message.number(serial);
    let mut fields = vec![
        (PATH, "o", call.path),
        (INTERFACE, "s", call.interface),
        (MEMBER, "s", call.member),
        (DESTINATION, "s", call.destination),
    ];
    if !call.signature.is_empty() {
        fields.push((SIGNATURE, "g", call.signature));
    }
    message.array(8, &fields, |writer, (field, kind, text)| {
        writer.align(8);
        writer.bytes.push(*field);
        writer.signature(kind);
        match *kind {
            "g" => writer.signature(text),
            _ => writer.text(text),
        }
    });
    message.align(8);
    message.bytes.extend(body.bytes);
    message.bytes
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroups) enum Kind {
    Call,
    Reply,
    Error,
    Signal,
}

/// A message that was received.
#[derive(Debug)]
pub(in crate::cgroups) struct Message {
    pub(in crate::cgroups) kind: Kind,
    /// Which one of its sender's it is.
    #[cfg(test)]
    pub(in crate::cgroups) serial: u32,
    pub(in crate::cgroups) reply_to: u32,
    pub(in crate::cgroups) member: String,
    pub(in crate::cgroups) error: String,
    pub(in crate::cgroups) signature: String,
    bytes: Vec<u8>,
    body: usize,
    is_big: bool,
}

/// Length of the part that tells how long the rest is.
pub(super) const PREAMBLE: usize = 16;
/// The longest message that is read. The bus has no reason to send us long ones.
const LONGEST: usize = 1 << 20;

/// The length of a whole message, from its first [`PREAMBLE`] bytes.
pub(super) fn whole_length(preamble: &[u8; PREAMBLE]) -> Result<usize, BusError> {
    let is_big = preamble[0] == b'B';
    let number = |at: usize| {
        let bytes = [preamble[at], preamble[at + 1], preamble[at + 2], preamble[at + 3]];
        (if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }) as usize
    };
    let whole = (PREAMBLE + number(12).min(LONGEST)).next_multiple_of(8) + number(4).min(LONGEST);
    if whole > LONGEST { Err(BusError::Message("it is too long")) } else { Ok(whole) }
}

impl Message {
    /// Reads the header of a whole message.
    pub(in crate::cgroups) fn parse(bytes: Vec<u8>) -> Result<Message, BusError> {
        let is_big = match bytes.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            _ => return Err(BusError::Message("its byte order is unknown")),
        };
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Reply,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(BusError::Message("its kind is unknown")),
        };
        let mut reader = Reader { bytes: &bytes, at: 8, is_big };
        let _serial = reader.number()?;
        let end = reader.number()? as usize + PREAMBLE;
        let (mut reply_to, mut member, mut error, mut signature) = (0, String::new(), String::new(), String::new());
        while reader.at < end {
            reader.align(8);
            let field = reader.byte()?;
            let text = match reader.signature()?.as_str() {
                "u" => {
                    let number = reader.number()?;
                    if field == REPLY_SERIAL {
                        reply_to = number;
                    }
                    continue;
                }
                "g" => reader.signature()?,
                "s" | "o" => reader.text()?,
                _ => return Err(BusError::Message("its header has a field of an unknown type")),
            };
            match field {
                MEMBER => member = text,
                ERROR_NAME => error = text,
                SIGNATURE => signature = text,
                _ => {}
            }
        }
        let body = end.next_multiple_of(8);
        Ok(Message {
            kind,
            #[cfg(test)]
            serial: _serial,
            reply_to,
            member,
            error,
            signature,
            bytes,
            body,
            is_big,
        })
    }

    /// Reads the body.
    pub(in crate::cgroups) fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.bytes, at: self.body, is_big: self.is_big }
    }
}

/// Reads values, one after the other.
#[derive(Debug)]
pub(in crate::cgroups) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl Reader<'_> {
    pub(in crate::cgroups) fn align(&mut self, size: usize) {
        self.at = self.at.next_multiple_of(size);
    }

    fn take(&mut self, count: usize) -> Result<&[u8], BusError> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        self.at += count.min(self.bytes.len());
        taken.ok_or(BusError::Message("it ends too early"))
    }

    pub(in crate::cgroups) fn byte(&mut self) -> Result<u8, BusError> {
        Ok(self.take(1)?[0])
    }

    pub(in crate::cgroups) fn number(&mut self) -> Result<u32, BusError> {
        self.align(4);
        let is_big = self.is_big;
        let bytes = self.take(4)?;
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        Ok(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    #[cfg(test)]
    pub(in crate::cgroups) fn long(&mut self) -> Result<u64, BusError> {
        self.align(8);
        let low = self.number()?;
        Ok(u64::from(low) | u64::from(self.number()?) << 32)
    }

    #[cfg(test)]
    pub(in crate::cgroups) fn position(&self) -> usize {
        self.at
    }

    pub(in crate::cgroups) fn text(&mut self) -> Result<String, BusError> {
        let length = self.number()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Ok(text)
    }

    pub(in crate::cgroups) fn signature(&mut self) -> Result<String, BusError> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Ok(text)
    }
}
