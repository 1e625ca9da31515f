//! DNS messages (RFC 1035), as far as a resolver needs them that passes most of them on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const HEADER: usize = 12;
/// The longest message without EDNS over UDP.
pub(super) const PLAIN_LIMIT: usize = 512;
/// As docker's.
const TTL: u32 = 600;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_MX: u16 = 15;
pub(super) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
pub(super) const TYPE_SVCB: u16 = 64;
pub(super) const TYPE_HTTPS: u16 = 65;
pub(super) const CLASS_IN: u16 = 1;

const RESPONSE: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;

/// The result that a response carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NotImplemented = 4,
    Refused = 5,
}

/// A query that is well formed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    message: &'a [u8],
    /// The name as it is in the message, its last empty label included.
    name: &'a [u8],
    pub kind: u16,
    pub class: u16,
    /// The size of datagrams that the asker takes, where it speaks EDNS.
    datagram: Option<u16>,
}

/// What is no query that could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Not worth an answer.
    Dropped,
    /// A header that can be answered with this.
    Answered(Code),
}

fn number(message: &[u8], place: usize) -> Option<u16> {
    message.get(place..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Where the name that begins here ends. Labels only: a pointer is an error, as is a name of more than 255 bytes.
fn name_end(message: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return (at - begin <= 255).then_some(at),
            1..=63 => at += length,
            _ => return None,
        }
        if at - begin > 255 {
            return None;
        }
    }
}

impl<'a> Query<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let (Some(flags), Some(questions), Some(answers)) =
            (number(message, 2), number(message, 4), number(message, 6))
        else {
            return Err(Malformed::Dropped);
        };
        if message.len() < HEADER || flags & RESPONSE != 0 {
            // An answer to an answer is how two servers keep each other busy for ever.
            return Err(Malformed::Dropped);
        }
        if flags & OPERATION != 0 {
            return Err(Malformed::Answered(Code::NotImplemented));
        }
        let wrong = Malformed::Answered(Code::FormatError);
        if questions != 1 || answers != 0 {
            return Err(wrong);
        }
        let end = name_end(message, HEADER).ok_or(wrong)?;
        let kind = number(message, end).ok_or(wrong)?;
        let class = number(message, end + 2).ok_or(wrong)?;
        // EDNS is a record of the additional section, by custom its first: an empty name, its type, and the size of
        // datagrams in the place of a class. One that stands elsewhere is passed on, but not seen.
        let rest = &message[end + 4..];
        let is_edns = rest.first() == Some(&0) && number(rest, 1) == Some(TYPE_OPT) && number(message, 10) != Some(0);
        let datagram = if is_edns { number(rest, 3) } else { None };
        Ok(Self { message, name: &message[HEADER..end], kind, class, datagram })
    }

    /// The name in lower case without a last point; `None` where it is none that a container could have.
    pub fn name(&self) -> Option<String> {
        let mut text = String::new();
        let mut rest = self.name;
        while let Some((&length, after)) = rest.split_first()
            && length > 0
        {
            let (label, after) = after.split_at_checked(usize::from(length))?;
            if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            rest = after;
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Whether this is a response to this query, sent with that id. The name's letters may have another case.
    pub fn is_answered_by(&self, id: u16, response: &[u8]) -> bool {
        let question = &self.message[HEADER..HEADER + self.name.len() + 4];
        let Some(flags) = number(response, 2) else { return false };
        number(response, 0) == Some(id)
            && flags & (RESPONSE | OPERATION) == RESPONSE
            && number(response, 4) == Some(1)
            // Lengths of labels are below the letters, so that the whole can be compared without regard to case.
            && response.get(HEADER..HEADER + question.len()).is_some_and(|other| {
                let (name, rest) = question.split_at(self.name.len());
                let (other_name, other_rest) = other.split_at(self.name.len());
                name.eq_ignore_ascii_case(other_name) && rest == other_rest
            })
    }

    fn header(&self, code: Code, answers: u16) -> Vec<u8> {
        let mut out = header(self.message, code);
        out[4..6].copy_from_slice(&1_u16.to_be_bytes());
        out[6..8].copy_from_slice(&answers.to_be_bytes());
        out.extend_from_slice(&self.message[HEADER..HEADER + self.name.len() + 4]);
        out
    }

    fn end(&self, mut out: Vec<u8>) -> Vec<u8> {
        if self.datagram.is_some() {
            // Who asks with EDNS is answered with it (RFC 6891 section 6.1.1): our own size, and nothing else.
            out[10..12].copy_from_slice(&1_u16.to_be_bytes());
            out.push(0);
            out.extend_from_slice(&TYPE_OPT.to_be_bytes());
            out.extend_from_slice(&1232_u16.to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
        out
    }

    /// A response without records.
    pub fn response(&self, code: Code) -> Vec<u8> {
        self.end(self.header(code, 0))
    }

    /// A response with these addresses, those of the family that was asked for; as many as fit into a datagram if it is
    /// one, and then told to be cut.
    pub fn addresses(&self, addresses: &[IpAddr], datagram: bool) -> Vec<u8> {
        let limit = match (datagram, self.datagram) {
            (true, size) => usize::from(size.unwrap_or(0)).max(PLAIN_LIMIT),
            (false, _) => usize::from(u16::MAX),
        };
        let mut out = self.header(Code::NoError, 0);
        let mut count = 0_u16;
        let edns = if self.datagram.is_some() { 11 } else { 0 };
        for address in addresses {
            let data: &[u8] = match address {
                IpAddr::V4(address) if self.kind == TYPE_A => &address.octets(),
                IpAddr::V6(address) if self.kind == TYPE_AAAA => &address.octets(),
                _ => continue,
            };
            if out.len() + 12 + data.len() + edns > limit {
                let flags = number(&out, 2).unwrap_or(0) | TRUNCATED;
                out[2..4].copy_from_slice(&flags.to_be_bytes());
                break;
            }
            push_record(&mut out, self.kind, data);
            count += 1;
        }
        out[6..8].copy_from_slice(&count.to_be_bytes());
        self.end(out)
    }

    /// A response with a name. `None` if the name cannot be written.
    pub fn pointer(&self, name: &str) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        for label in name.trim_end_matches('.').split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            data.push(length);
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        if data.len() > 255 {
            return None;
        }
        let mut out = self.header(Code::NoError, 1);
        push_record(&mut out, TYPE_PTR, &data);
        Some(self.end(out))
    }

    /// The address that a question for a name (PTR) is about.
    pub fn reversed_address(&self) -> Option<IpAddr> {
        let name = self.name()?;
        if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
            let mut bytes = [0; 4];
            let mut parts = digits.split('.');
            for byte in bytes.iter_mut().rev() {
                *byte = parts.next()?.parse().ok()?;
            }
            return parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(bytes)));
        }
        let digits = name.strip_suffix(".ip6.arpa")?;
        let mut value = 0_u128;
        let mut count = 0;
        for (place, digit) in digits.split('.').enumerate() {
            if place >= 32 || digit.len() != 1 {
                return None;
            }
            value |= u128::from(char::from(digit.as_bytes()[0]).to_digit(16)?) << (4 * place);
            count += 1;
        }
        (count == 32).then_some(IpAddr::V6(Ipv6Addr::from(value)))
    }
}

/// The header of a response to a message that has at least one.
fn header(message: &[u8], code: Code) -> Vec<u8> {
    let asked = number(message, 2).unwrap_or(0);
    let flags =
        RESPONSE | asked & (OPERATION | RECURSION_DESIRED | CHECKING_DISABLED) | RECURSION_AVAILABLE | code as u16;
    let mut out = Vec::with_capacity(PLAIN_LIMIT);
    out.extend_from_slice(&message[..2]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out
}

/// A response to what is only known to begin with a header.
pub(super) fn refusal(message: &[u8], code: Code) -> Option<Vec<u8>> {
    (message.len() >= HEADER).then(|| header(message, code))
}

fn push_record(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    // The name: the question's, by a pointer to where it always is.
    out.extend_from_slice(&[0xC0, HEADER as u8]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    // All data is shorter than 256 bytes.
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// The result of a response.
pub(super) fn code(response: &[u8]) -> Option<u16> {
    number(response, 2).map(|flags| flags & 0xF)
}
