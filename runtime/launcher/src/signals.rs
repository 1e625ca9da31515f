//! Signals by their names and numbers (signal(7)).
#![allow(unsafe_code)]

use rustix::process::Signal;

/// From SIGHUP = 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// As the kernel and glibc's programs count them.
const REAL_TIME: (i32, i32) = (34, 64);

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn named(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse() {
        return numbered(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return numbered(i32::try_from(at).ok()? + 1);
    }
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => numbered(REAL_TIME.0 + offset(rest)?).filter(|signal| signal.as_raw() >= REAL_TIME.0),
        (_, Some(rest)) => numbered(REAL_TIME.1 + offset(rest)?).filter(|signal| signal.as_raw() >= REAL_TIME.0),
        _ => matches!(name, "POLL").then_some(Signal::IO),
    }
}

/// By its number.
pub(crate) fn numbered(number: i32) -> Option<Signal> {
    let exists = (1..=31).contains(&number) || (REAL_TIME.0..=REAL_TIME.1).contains(&number);
    // SAFETY: it is sent to others, never handled here; 32 and 33, which libc keeps for itself, are not among them.
    exists.then(|| unsafe { Signal::from_raw_unchecked(number) })
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn names_and_numbers() {
        let number = |text| named(text).map(rustix::process::Signal::as_raw);
        assert_eq!(number("TERM"), Some(15));
        assert_eq!(number("sigkill"), Some(9));
        assert_eq!(number("SIGSYS"), Some(31));
        assert_eq!(number("9"), Some(9));
        assert_eq!(number("RTMIN+3"), Some(37));
        assert_eq!(number("SIGRTMAX-1"), Some(63));
        assert_eq!(number("RTMIN-1"), None);
        assert_eq!(number("65"), None);
        assert_eq!(number("0"), None);
        assert_eq!(number("NOPE"), None);
    }
}
