//! nf_tables over netlink: the messages and expressions that Cove's rules are made of.
//!
//! Changes go out as transactions: all of it holds, or nothing. A transaction that fails costs the kernel a grace
//! period (11 to 16 ms), so nothing is tried out by failing; what is asked, dumped or looked up is quick.

mod expression;
mod read;

pub(crate) use expression::{DESTINATION_CHANGED, ESTABLISHED_OR_RELATED, Expressions, INVALID, Register, Verdict};
pub(crate) use read::{Rule, rules};

use crate::netlink::{ACKNOWLEDGE, APPEND, Attributes, Batch, CREATE, DUMP};

const SUBSYSTEM: u16 = 10;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_POSITION: u16 = 6;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_ID: u16 = 10;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;

/// How many elements go into one message: an attribute ends below 64 KiB.
const ELEMENTS_AT_ONCE: usize = 500;

/// `struct nfgenmsg` for IPv4.
const IPV4: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];
/// `struct nfgenmsg` that begins and ends a transaction of nf_tables.
const TRANSACTION: [u8; 4] = [0, 0, 0, SUBSYSTEM as u8];

fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// A change of the packet filter that holds whole or not at all.
pub(crate) struct Transaction {
    batch: Batch,
}

/// Where the kernel hands packets to a chain.
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// An element of a map: key and value, padded as registers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// What a map is of: the kinds (numbers of libnftables, for whoever lists it) and lengths of keys and values.
pub(crate) struct Shape {
    pub(crate) key: &'static [u32],
    pub(crate) value: &'static [u32],
}

impl Shape {
    /// An address, as libnftables counts.
    pub(crate) const ADDRESS: u32 = 7;
    /// A protocol.
    pub(crate) const PROTOCOL: u32 = 12;
    /// A port.
    pub(crate) const PORT: u32 = 13;

    /// Several kinds in one number, as libnftables writes them.
    fn kind(parts: &[u32]) -> u32 {
        parts.iter().fold(0, |all, part| all << 6 | part)
    }

    /// Every part takes one register of four bytes.
    fn length(parts: &[u32]) -> u32 {
        parts.iter().map(|_| 4).sum()
    }
}

impl Transaction {
    /// Begins one.
    pub(crate) fn new() -> Self {
        let mut batch = Batch::default();
        batch.message(BEGIN, 0, &TRANSACTION, |_| {});
        Transaction { batch }
    }

    /// Whether nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    /// Ends it; what is left is to send it.
    pub(crate) fn finish(mut self) -> Batch {
        self.batch.message(END, 0, &TRANSACTION, |_| {});
        self.batch
    }

    fn message(&mut self, message: u16, flags: u16, build: impl FnOnce(&mut Attributes<'_>)) {
        self.batch.message(kind(message), flags, &IPV4, build);
    }

    /// Makes a table. One that is there is left as it is.
    pub(crate) fn add_table(&mut self, table: &str, comment: Option<&str>) {
        self.message(NEW_TABLE, CREATE, |values| {
            values.text(TABLE_NAME, table);
            if let Some(comment) = comment {
                values.bytes(TABLE_USERDATA, &userdata(comment));
            }
        });
    }

    /// Removes a table with all that is in it.
    pub(crate) fn delete_table(&mut self, table: &str) {
        self.message(DELETE_TABLE, 0, |values| values.text(TABLE_NAME, table));
    }

    /// Makes a chain of this type (`filter`, `nat`) that accepts what none of its rules decides.
    pub(crate) fn add_chain(&mut self, table: &str, chain: &str, kind: &str, hook: Hook, priority: i32) {
        const ACCEPT: u32 = 1;
        let number = match hook {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        };
        self.message(NEW_CHAIN, CREATE, |values| {
            values.text(CHAIN_TABLE, table);
            values.text(CHAIN_NAME, chain);
            values.nest(CHAIN_HOOK, |hook| {
                hook.number_to_network(HOOK_NUMBER, number);
                hook.bytes(HOOK_PRIORITY, &priority.to_be_bytes());
            });
            values.number_to_network(CHAIN_POLICY, ACCEPT);
            values.text(CHAIN_TYPE, kind);
        });
    }

    /// Makes a map. `id` is another for each map of the transaction.
    pub(crate) fn add_map(&mut self, table: &str, map: &str, shape: &Shape, id: u32) {
        const MAP: u32 = 0x8;
        self.message(NEW_SET, CREATE, |values| {
            values.text(SET_TABLE, table);
            values.text(SET_NAME, map);
            values.number_to_network(SET_FLAGS, MAP);
            values.number_to_network(SET_KEY_TYPE, Shape::kind(shape.key));
            values.number_to_network(SET_KEY_LENGTH, Shape::length(shape.key));
            values.number_to_network(SET_DATA_TYPE, Shape::kind(shape.value));
            values.number_to_network(SET_DATA_LENGTH, Shape::length(shape.value));
            values.number_to_network(SET_ID, id);
        });
    }

    /// Adds a rule behind the others of its chain.
    pub(crate) fn append_rule(&mut self, table: &str, chain: &str, build: impl FnOnce(&mut Expressions<'_, '_>)) {
        self.rule(table, chain, APPEND, None, build);
    }

    /// Adds a rule before all others of its chain.
    pub(crate) fn insert_rule(&mut self, table: &str, chain: &str, build: impl FnOnce(&mut Expressions<'_, '_>)) {
        self.rule(table, chain, 0, None, build);
    }

    /// Adds a rule right behind the one with this handle.
    pub(crate) fn insert_rule_behind(
        &mut self,
        table: &str,
        chain: &str,
        handle: u64,
        build: impl FnOnce(&mut Expressions<'_, '_>),
    ) {
        self.rule(table, chain, APPEND, Some(handle), build);
    }

    fn rule(
        &mut self,
        table: &str,
        chain: &str,
        flags: u16,
        position: Option<u64>,
        build: impl FnOnce(&mut Expressions<'_, '_>),
    ) {
        self.message(NEW_RULE, CREATE | flags, |values| {
            values.text(RULE_TABLE, table);
            values.text(RULE_CHAIN, chain);
            if let Some(handle) = position {
                values.bytes(RULE_POSITION, &handle.to_be_bytes());
            }
            values.nest(RULE_EXPRESSIONS, |list| build(&mut Expressions::new(list)));
        });
    }

    /// Removes the rule with this handle.
    pub(crate) fn delete_rule(&mut self, table: &str, chain: &str, handle: u64) {
        self.message(DELETE_RULE, 0, |values| {
            values.text(RULE_TABLE, table);
            values.text(RULE_CHAIN, chain);
            values.bytes(RULE_HANDLE, &handle.to_be_bytes());
        });
    }

    /// Adds elements to a map. One that is there already is no error if its value is the same.
    pub(crate) fn add_elements(&mut self, table: &str, map: &str, elements: &[Element]) {
        self.elements(NEW_ELEMENT, CREATE, table, map, elements);
    }

    /// Removes elements from a map, by their keys. One that is not there fails the transaction.
    pub(crate) fn delete_elements(&mut self, table: &str, map: &str, elements: &[Element]) {
        self.elements(DELETE_ELEMENT, 0, table, map, elements);
    }

    fn elements(&mut self, message: u16, flags: u16, table: &str, map: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_AT_ONCE) {
            self.message(message, flags, |values| {
                values.text(ELEMENTS_TABLE, table);
                values.text(ELEMENTS_SET, map);
                values.nest(ELEMENTS_LIST, |list| {
                    for element in some {
                        list.nest(LIST_ELEMENT, |parts| {
                            parts.nest(ELEMENT_KEY, |key| key.bytes(DATA_VALUE, &element.key));
                            if message == NEW_ELEMENT {
                                parts.nest(ELEMENT_DATA, |value| value.bytes(DATA_VALUE, &element.value));
                            }
                        });
                    }
                });
            });
        }
    }
}

/// Asks for a table.
pub(crate) fn get_table(batch: &mut Batch, table: &str) {
    batch.message(kind(GET_TABLE), ACKNOWLEDGE, &IPV4, |values| values.text(TABLE_NAME, table));
}

/// Whether a table, as it was found, has this comment.
pub(crate) fn has_comment(found: &[u8], comment: &str) -> bool {
    found.get(4..).and_then(|values| crate::netlink::attribute(values, TABLE_USERDATA)) == Some(&userdata(comment))
}

/// Asks for a chain.
pub(crate) fn get_chain(batch: &mut Batch, table: &str, chain: &str) {
    batch.message(kind(GET_CHAIN), ACKNOWLEDGE, &IPV4, |values| {
        values.text(CHAIN_TABLE, table);
        values.text(CHAIN_NAME, chain);
    });
}

/// Asks for the rules of a chain. One that is not there has none.
pub(crate) fn list_rules(batch: &mut Batch, table: &str, chain: &str) {
    batch.message(kind(GET_RULE), DUMP, &IPV4, |values| {
        values.text(RULE_TABLE, table);
        values.text(RULE_CHAIN, chain);
    });
}

/// Asks for the elements of a map.
pub(crate) fn list_elements(batch: &mut Batch, table: &str, map: &str) {
    batch.message(kind(GET_ELEMENT), DUMP, &IPV4, |values| {
        values.text(ELEMENTS_TABLE, table);
        values.text(ELEMENTS_SET, map);
    });
}

/// Reads the elements out of the answers to that.
pub(crate) fn elements(messages: &[(u16, Vec<u8>)]) -> Vec<Element> {
    use crate::netlink::{attribute, attributes};
    let value = |parts: &[u8], part| attribute(attribute(parts, part)?, DATA_VALUE).map(<[u8]>::to_vec);
    let bodies = messages.iter().filter_map(|(_, body)| attribute(body.get(4..)?, ELEMENTS_LIST));
    let parts = bodies.flat_map(|list| attributes(list).map(|(_, parts)| parts));
    parts
        .filter_map(|parts| Some(Element { key: value(parts, ELEMENT_KEY)?, value: value(parts, ELEMENT_DATA)? }))
        .collect()
}

/// A comment in the form in which libnftables shows it.
fn userdata(comment: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&comment.as_bytes()[..comment.len().min(127)]);
    bytes.push(0);
    bytes[1] = (bytes.len() - 2) as u8;
    bytes
}
