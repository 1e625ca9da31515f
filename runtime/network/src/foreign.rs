//! The firewall of the host, beside ours.
//!
//! A packet goes through the chains of all tables, and one that drops it is enough: what our table accepts, the host's
//! can still drop. Where dockerd or an administrator works with iptables, the chain in question is `FORWARD` of the table
//! `ip filter`; dockerd sets its policy to drop where it turned forwarding on. iptables of today is nf_tables
//! underneath, so two rules are put there over netlink, in exactly the form in which it writes its own: all that comes
//! from the bridge, and all that goes to it. They may be that wide because our own table drops what is not meant.
//!
//! Where there is no such chain, it is made, just as iptables-nft would make it, with these two rules and the policy to
//! accept: it changes nothing until somebody uses it. For if dockerd starts later and sets the policy to drop, containers
//! that run already must not notice.
//!
//! They stand behind the jump to `DOCKER-USER`, where administrators say what docker's users may not; without such a
//! jump before all others. dockerd leaves them alone, whichever of both is started first: it writes its rules one by
//! one. Whoever loads a whole set of rules removes them; so every start of a container looks again.

use std::fmt;

use crate::netlink::{Batch, Socket};
use crate::nftables::{self, Expressions, Hook, Rule, Transaction, Verdict};
use crate::{Error, Networks, firewall};

/// Where iptables-nft has what may be forwarded.
pub(crate) const TABLE: &str = "filter";
/// The chain for it.
pub(crate) const CHAIN: &str = "FORWARD";
/// Where dockerd leaves room for the administrator.
const DOCKER_USER: &[u8] = b"DOCKER-USER";

/// What stands in a network's way that Cove does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The host's firewall is the old iptables, and drops what is to be forwarded.
    LegacyIptables {
        /// The bridge's interface.
        interface: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning::LegacyIptables { interface } = self;
        write!(
            formatter,
            "the firewall of this machine is `iptables-legacy` and drops what is forwarded, so containers reach nothing; \
             run `iptables-legacy -I FORWARD -i {interface} -j ACCEPT` and `iptables-legacy -I FORWARD -o {interface} -j \
             ACCEPT`, or change over to `iptables-nft`"
        )
    }
}

/// Which of the two rules are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Admitted {
    /// The chain is there.
    has_chain: bool,
    from: bool,
    to: bool,
    /// The handle of the jump behind which they belong.
    behind: Option<u64>,
}

/// Has the host's firewall let the packets of a bridge pass, if it does not yet.
pub(crate) fn admit(networks: &Networks, socket: &mut Socket, interface: &str) -> Result<(), Error> {
    if is_admitted(&look(socket, interface)?) {
        return Ok(());
    }
    let _lock = networks.lock()?;
    let found = look(socket, interface)?;
    if is_admitted(&found) {
        return Ok(());
    }
    let mut transaction = Transaction::new();
    if !found.has_chain {
        transaction.add_table(TABLE, None);
        transaction.add_chain(TABLE, CHAIN, "filter", Hook::Forward, firewall::FILTER);
    }
    let mut add = |is_there: bool, build: &dyn Fn(&mut Expressions<'_, '_>)| {
        let build = |rule: &mut Expressions<'_, '_>| {
            build(rule);
            rule.count();
            rule.decide(Verdict::Accept);
        };
        match found.behind {
            _ if is_there => {}
            Some(handle) => transaction.insert_rule_behind(TABLE, CHAIN, handle, build),
            None => transaction.insert_rule(TABLE, CHAIN, build),
        }
    };
    add(found.to, &|rule| rule.goes_through(interface));
    add(found.from, &|rule| rule.comes_through(interface));
    socket.commit(&mut transaction.finish()).map_err(firewall::failed)
}

/// Adds to a transaction that the rules for a bridge go.
pub(crate) fn forget(socket: &mut Socket, transaction: &mut Transaction, interface: &str) -> Result<(), Error> {
    let mut batch = Batch::default();
    nftables::list_rules(&mut batch, TABLE, CHAIN);
    let answer = socket.ask(&mut batch).map_err(firewall::failed)?.pop().unwrap_or_default();
    // No chain, no rules.
    let found = if answer.error == libc::ENOENT { Vec::new() } else { answer.messages().map_err(firewall::failed)? };
    let is_ours = |asked: &Option<Vec<u8>>| asked.as_deref() == Some(interface.as_bytes());
    for rule in nftables::rules(&found).iter().filter(|rule| rule.accepts && !rule.has_more) {
        if is_ours(&rule.comes_through) || is_ours(&rule.goes_through) {
            transaction.delete_rule(TABLE, CHAIN, rule.handle);
        }
    }
    Ok(())
}

fn is_admitted(found: &Admitted) -> bool {
    found.from && found.to
}

fn look(socket: &mut Socket, interface: &str) -> Result<Admitted, Error> {
    let mut batch = Batch::default();
    nftables::get_chain(&mut batch, TABLE, CHAIN);
    nftables::list_rules(&mut batch, TABLE, CHAIN);
    let mut answers = socket.ask(&mut batch).map_err(firewall::failed)?;
    let rules = answers.pop().unwrap_or_default().messages().map_err(firewall::failed)?;
    match answers.pop().unwrap_or_default().found().map_err(firewall::failed)? {
        Some(_) => Ok(admitted(&nftables::rules(&rules), interface.as_bytes())),
        None => Ok(Admitted::default()),
    }
}

fn admitted(rules: &[Rule], interface: &[u8]) -> Admitted {
    let accepts = |rule: &&Rule| rule.accepts && !rule.has_more;
    let is_ours = |asked: &Option<Vec<u8>>| asked.as_deref() == Some(interface);
    let from = |rule: &Rule| is_ours(&rule.comes_through) && rule.goes_through.is_none();
    let to = |rule: &Rule| is_ours(&rule.goes_through) && rule.comes_through.is_none();
    Admitted {
        has_chain: true,
        from: rules.iter().filter(accepts).any(from),
        to: rules.iter().filter(accepts).any(to),
        behind: rules.iter().find(|rule| rule.jumps_to.as_deref() == Some(DOCKER_USER)).map(|rule| rule.handle),
    }
}
