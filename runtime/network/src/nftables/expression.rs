//! Expressions: what the rules of nf_tables are made of.
//!
//! Comparisons of interface names, the counters and the verdicts are written just as iptables-nft writes its own, so
//! that it can still list and save a chain in which they stand.

use crate::netlink::Attributes;

const LIST_ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// One of the first four-byte registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    First,
    Second,
    Third,
}

impl Register {
    fn number(self) -> u32 {
        // NFT_REG32_00 and the following.
        8 + match self {
            Register::First => 0,
            Register::Second => 1,
            Register::Third => 2,
        }
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
}

/// States of a connection (bits of `ct state`).
pub(crate) const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// The connection's destination was changed (a bit of `ct status`).
pub(crate) const DESTINATION_CHANGED: u32 = 1 << 5;

/// The expressions of one rule. Each is a condition or does something; a condition that does not hold ends the rule.
pub(crate) struct Expressions<'a, 'b>(&'a mut Attributes<'b>);

impl<'a, 'b> Expressions<'a, 'b> {
    pub(super) fn new(list: &'a mut Attributes<'b>) -> Self {
        Expressions(list)
    }

    fn add(&mut self, name: &str, build: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(LIST_ELEMENT, |expression| {
            expression.text(NAME, name);
            expression.nest(DATA, build);
        });
    }

    fn meta(&mut self, key: u32, register: Register) {
        self.add("meta", |values| {
            values.number_to_network(1, register.number());
            values.number_to_network(2, key);
        });
    }

    fn compare(&mut self, is_equal: bool, value: &[u8]) {
        self.add("cmp", |values| {
            // The 16-byte register that begins where the first four-byte one does, as iptables-nft names it.
            values.number_to_network(1, 1);
            values.number_to_network(2, u32::from(!is_equal));
            values.nest(3, |data| data.bytes(DATA_VALUE, value));
        });
    }

    /// The packet came in through this interface.
    pub(crate) fn comes_through(&mut self, interface: &str) {
        self.interface(6, true, interface);
    }

    /// The packet goes out through this interface.
    pub(crate) fn goes_through(&mut self, interface: &str) {
        self.interface(7, true, interface);
    }

    /// The packet goes out through another interface.
    pub(crate) fn does_not_go_through(&mut self, interface: &str) {
        self.interface(7, false, interface);
    }

    fn interface(&mut self, key: u32, is_equal: bool, name: &str) {
        self.add("meta", |values| {
            values.number_to_network(2, key);
            values.number_to_network(1, 1);
        });
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        self.compare(is_equal, &value);
    }

    /// The packet goes out through an interface whose name begins so.
    pub(crate) fn goes_through_some(&mut self, prefix: &str) {
        self.meta(7, Register::First);
        self.compare(true, prefix.as_bytes());
    }

    /// Some of these bits of the connection's state are set.
    pub(crate) fn state_is(&mut self, bits: u32) {
        self.connection(0, bits);
    }

    /// Some of these bits of the connection's status are set.
    pub(crate) fn status_has(&mut self, bits: u32) {
        self.connection(2, bits);
    }

    fn connection(&mut self, key: u32, bits: u32) {
        self.add("ct", |values| {
            values.number_to_network(1, Register::First.number());
            values.number_to_network(2, key);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(false, &[0; 4]);
    }

    fn mask(&mut self, mask: &[u8; 4]) {
        self.add("bitwise", |values| {
            values.number_to_network(1, Register::First.number());
            values.number_to_network(2, Register::First.number());
            values.number_to_network(3, 4);
            values.nest(4, |data| data.bytes(DATA_VALUE, mask));
            values.nest(5, |data| data.bytes(DATA_VALUE, &[0; 4]));
        });
    }

    /// The packet is for this machine, by its destination address.
    pub(crate) fn is_for_this_machine(&mut self) {
        const DESTINATION: u32 = 2;
        const TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        self.add("fib", |values| {
            values.number_to_network(1, Register::First.number());
            values.number_to_network(2, TYPE);
            values.number_to_network(3, DESTINATION);
        });
        self.compare(true, &LOCAL.to_ne_bytes());
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: Register) {
        self.add("payload", |values| {
            values.number_to_network(1, register.number());
            values.number_to_network(2, base);
            values.number_to_network(3, offset);
            values.number_to_network(4, length);
        });
    }

    /// The packet's source address lies in this range (address and mask), or does not lie there.
    pub(crate) fn source_is_within(&mut self, address: [u8; 4], mask: [u8; 4]) {
        self.payload(1, 12, 4, Register::First);
        self.mask(&mask);
        self.compare(true, &address);
    }

    /// The packet's destination address does not lie in this range.
    pub(crate) fn destination_is_not_within(&mut self, address: [u8; 4], mask: [u8; 4]) {
        self.payload(1, 16, 4, Register::First);
        self.mask(&mask);
        self.compare(false, &address);
    }

    /// The packet is for this address.
    pub(crate) fn destination_is(&mut self, address: [u8; 4]) {
        self.load_destination(Register::First);
        self.compare(true, &address);
    }

    /// The packet is of this protocol.
    pub(crate) fn protocol_is(&mut self, protocol: u8) {
        self.load_protocol(Register::First);
        self.compare(true, &[protocol]);
    }

    /// The packet is for this port.
    pub(crate) fn destination_port_is(&mut self, port: u16) {
        self.load_destination_port(Register::First);
        self.compare(true, &port.to_be_bytes());
    }

    /// Puts a value into a register.
    pub(crate) fn set(&mut self, register: Register, value: &[u8]) {
        self.add("immediate", |values| {
            values.number_to_network(1, register.number());
            values.nest(2, |data| data.bytes(DATA_VALUE, value));
        });
    }

    /// Loads the packet's destination address.
    pub(crate) fn load_destination(&mut self, register: Register) {
        self.payload(1, 16, 4, register);
    }

    /// Loads the packet's protocol.
    pub(crate) fn load_protocol(&mut self, register: Register) {
        self.meta(16, register);
    }

    /// Loads the port that the packet is for.
    pub(crate) fn load_destination_port(&mut self, register: Register) {
        self.payload(2, 2, 2, register);
    }

    /// Looks the key, which begins in the first register, up in a map; the value is then there. A condition: that there
    /// is such a key.
    pub(crate) fn look_up(&mut self, map: &str) {
        self.add("lookup", |values| {
            values.text(1, map);
            values.number_to_network(2, Register::First.number());
            values.number_to_network(3, Register::First.number());
        });
    }

    /// Changes the destination to the address in the first register and the port in the second.
    pub(crate) fn change_destination(&mut self) {
        const DESTINATION: u32 = 1;
        const IPV4: u32 = 2;
        self.add("nat", |values| {
            values.number_to_network(1, DESTINATION);
            values.number_to_network(2, IPV4);
            values.number_to_network(3, Register::First.number());
            values.number_to_network(5, Register::Second.number());
        });
    }

    /// Changes the source to the address of the interface through which the packet goes out.
    pub(crate) fn masquerade(&mut self) {
        self.add("masq", |_| {});
    }

    /// Counts packets and bytes.
    pub(crate) fn count(&mut self) {
        self.add("counter", |values| {
            values.bytes(1, &[0; 8]);
            values.bytes(2, &[0; 8]);
        });
    }

    /// Decides.
    pub(crate) fn decide(&mut self, verdict: Verdict) {
        let code = match verdict {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
        };
        self.add("immediate", |values| {
            values.number_to_network(1, 0);
            values.nest(2, |data| data.nest(DATA_VERDICT, |verdict| verdict.number_to_network(VERDICT_CODE, code)));
        });
    }
}
