//! Reads rules of others, as far as one must to find one's own among them.

use crate::netlink::{attribute, attributes, number_from_network, text};

const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// What is understood of a rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its number in its table.
    pub(crate) handle: u64,
    /// It asks for nothing but that the packet comes in through this interface.
    pub(crate) comes_through: Option<Vec<u8>>,
    /// It asks for nothing but that the packet goes out through this interface.
    pub(crate) goes_through: Option<Vec<u8>>,
    /// It accepts.
    pub(crate) accepts: bool,
    /// It jumps to this chain.
    pub(crate) jumps_to: Option<Vec<u8>>,
    /// It asks or does more than is understood.
    pub(crate) has_more: bool,
}

/// The rules in the answers to a dump.
pub(crate) fn rules(messages: &[(u16, Vec<u8>)]) -> Vec<Rule> {
    messages.iter().filter_map(|(_, body)| read(body.get(4..)?)).collect()
}

fn read(values: &[u8]) -> Option<Rule> {
    let handle = attribute(values, RULE_HANDLE)?.try_into().map(u64::from_be_bytes).ok()?;
    let mut rule = Rule { handle, ..Rule::default() };
    let mut key = None;
    for (_, expression) in attributes(attribute(values, RULE_EXPRESSIONS).unwrap_or_default()) {
        let name = text(attribute(expression, NAME).unwrap_or_default());
        let data = attribute(expression, DATA).unwrap_or_default();
        match name {
            b"counter" => {}
            b"meta" => key = attribute(data, 2).and_then(number_from_network),
            b"cmp" => {
                let is_equal = attribute(data, 2).and_then(number_from_network) == Some(0);
                let value = attribute(data, 3).and_then(|value| attribute(value, DATA_VALUE)).unwrap_or_default();
                match (key.take(), is_equal) {
                    (Some(6), true) => rule.comes_through = Some(text(value).to_vec()),
                    (Some(7), true) => rule.goes_through = Some(text(value).to_vec()),
                    _ => rule.has_more = true,
                }
            }
            b"immediate" => {
                let verdict = attribute(data, 2).and_then(|data| attribute(data, DATA_VERDICT)).unwrap_or_default();
                rule.accepts = attribute(verdict, VERDICT_CODE).and_then(number_from_network) == Some(1);
                rule.jumps_to = attribute(verdict, VERDICT_CHAIN).map(|chain| text(chain).to_vec());
            }
            _ => rule.has_more = true,
        }
    }
    Some(rule)
}
