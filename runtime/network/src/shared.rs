//! The network namespace that an ordinary user's containers share: what its way out needs of the packet filter.

use crate::Error;
use crate::firewall::{FILTER, Filter, failed};
use crate::netlink::Batch;
use crate::nftables::{self, Hook, INVALID, Transaction, Verdict};

const TABLE: &str = "cove-shared";

/// Drops what the packet filter knows no connection for. `pasta` sends segments without any flag: they pass its address
/// translation, so this namespace, for which they are not, would answer with a reset.
pub fn drop_invalid() -> Result<(), Error> {
    Filter::with(|socket| {
        let mut batch = Batch::default();
        nftables::get_table(&mut batch, TABLE);
        let found = socket.ask(&mut batch).map_err(failed)?.pop().unwrap_or_default().found().map_err(failed)?;
        if found.is_some() {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        transaction.add_table(TABLE, None);
        transaction.add_chain(TABLE, "input", "filter", Hook::Input, FILTER);
        transaction.append_rule(TABLE, "input", |rule| {
            rule.state_is(INVALID);
            rule.decide(Verdict::Drop);
        });
        socket.commit(&mut transaction.finish()).map_err(failed)
    })
}
