//! Hardware addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A hardware address, written like `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub(crate) [u8; 6]);

impl MacAddress {
    /// The one that belongs to an address. A later container with the same address has the same one, so what
    /// neighbours remember stays true.
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        MacAddress([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = Error;

    /// Colons or hyphens between the bytes. A group's address (odd first byte) and all zeros are no device's.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::MacAddress(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part =
                parts.next().filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(refused)?;
        }
        let is_possible = parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6];
        if is_possible { Ok(MacAddress(bytes)) } else { Err(refused()) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_comes_from_the_address_and_is_read_as_it_is_written() {
        let address = MacAddress::of(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(address.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:AC:11:00:02".parse::<MacAddress>().unwrap(), address);
        assert_eq!("02-42-ac-11-00-02".parse::<MacAddress>().unwrap(), address);
        for wrong in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "01:42:ac:11:00:02",
            "00:00:00:00:00:00",
            "02:42:ac:11:00:+2",
        ] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}
