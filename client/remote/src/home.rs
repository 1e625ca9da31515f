//! The home folder of whoever runs this: where their files of configuration and credentials lie.

use std::path::PathBuf;

/// The home folder: `HOME`, else what `/etc/passwd` says, as docker finds it where a service has no variables.
pub fn home_folder() -> Option<PathBuf> {
    if let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        return Some(home.into());
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    home_in(&passwd, rustix::process::getuid().as_raw())
}

/// The sixth field of the user's line: passwd(5).
fn home_in(passwd: &str, id: u32) -> Option<PathBuf> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut own = fields.filter(|fields| fields.get(2).and_then(|field| field.parse().ok()) == Some(id));
    own.find_map(|fields| fields.get(5).filter(|home| home.starts_with('/')).map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_knows_homes() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nbroken\nnobody:x:65534:65534::\nalice:x:1000:1000:,,,:/home/alice:";
        assert_eq!(home_in(passwd, 0), Some("/root".into()));
        assert_eq!(home_in(passwd, 1000), Some("/home/alice".into()));
        assert_eq!(home_in(passwd, 65534), None);
        assert_eq!(home_in(passwd, 7), None);
    }
}
