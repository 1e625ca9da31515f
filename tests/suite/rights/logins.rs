//! Logins that fail are slowed, by account and by address; nobody is locked out.
//!
//! A pause cannot be shorter on a busy machine; where there must be none, the limit is far from both.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cove_tests::{Login, Registry, Server};

/// More failures than the pause needs to be at its longest.
const FAILURES: usize = 9;
/// The pause is then 2 seconds.
const NOTICEABLE: Duration = Duration::from_millis(1500);

fn log_in(registry: &Registry, login: &Login, from: &str) -> (u16, Duration) {
    let basic = format!("Basic {}", STANDARD.encode(login.pair()));
    let start = Instant::now();
    let answer = registry.send("GET", "/v2/", &[("Authorization", &basic), ("X-Forwarded-For", from)], ());
    (answer.status, start.elapsed())
}

#[test]
fn failed_logins_are_slowed_by_account_and_by_address() {
    let server = Server::builder().args(["--trusted-proxy", "127.0.0.1"]).start();
    let (alice, bob) = (server.add_user("alice"), server.add_user("bob"));
    let registry = server.as_anonymous();
    let (attacker, elsewhere) = ("198.51.100.7", "203.0.113.9");
    assert_eq!(log_in(&registry, &alice, elsewhere).0, 200);

    let guess = Login::new("alice", "a wrong password");
    for _ in 0..FAILURES {
        assert_eq!(log_in(&registry, &guess, attacker).0, 401);
    }
    let slowed = |login: &Login, from: &str, expected: u16| {
        let (status, took) = log_in(&registry, login, from);
        assert_eq!(status, expected, "{} from {from}", login.user);
        assert!(took >= NOTICEABLE, "{} from {from} was not slowed: {took:?}", login.user);
    };
    slowed(&guess, elsewhere, 401); // the account, from another address
    slowed(&Login::new("nobody", "a wrong password"), attacker, 401); // the address, another account
    slowed(&Login::new("alice", "cove_pat_AAAA"), elsewhere, 401); // tokens are not for guessing either
    slowed(&bob, attacker, 200); // right, and not locked out

    // A right password that was remembered a moment ago is not: slowed, all of these would take 20 seconds.
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(log_in(&registry, &alice, attacker).0, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "a remembered password was slowed");
}
