//! The text of the unit.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The first words of a unit of ours: another file is not touched.
pub const MARK: &str = "# Written by `cove system service`";

/// What a unit is made of.
#[derive(Debug)]
pub struct Unit {
    /// Whether it is for a user's systemd.
    pub user: bool,
    /// The program.
    pub program: PathBuf,
    /// What the program is told before the command: places that are not the usual ones.
    pub options: Vec<String>,
    /// Folders that must be there first.
    pub folders: Vec<PathBuf>,
    /// Where the runtime is, if not beside the program.
    pub runtime: Option<PathBuf>,
}

impl Unit {
    /// The file.
    pub fn text(&self) -> String {
        let mut words = vec![quoted(self.program.as_os_str())];
        // Only there are variables put in.
        words.extend(self.options.iter().map(|option| quoted(OsStr::new(&option.replace('$', "$$")))));
        let command = words.join(" ");
        let folders: String =
            self.folders.iter().map(|folder| format!("RequiresMountsFor={}\n", quoted(folder.as_os_str()))).collect();
        let environment = self.runtime.as_deref().map_or_else(String::new, |runtime: &Path| {
            let mut setting = std::ffi::OsString::from("COVE_RUNTIME=");
            setting.push(runtime);
            format!("Environment={}\n", quoted(&setting))
        });
        // A user's systemd knows nothing of the system's units.
        let (after, target) = match self.user {
            true => (String::new(), "default.target"),
            // Who sets up a packet filter afterwards throws our rules away.
            false => (
                "Wants=network-online.target\n\
                 After=network-online.target nss-lookup.target nftables.service firewalld.service\n"
                    .to_owned(),
                "multi-user.target",
            ),
        };
        format!(
            "{MARK}; written anew when that is called again.\n\
             [Unit]\n\
             Description=Containers of Cove\n\
             {after}{folders}\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             Type=notify\n\
             # Without root a second process tells, in its user namespace.\n\
             NotifyAccess=all\n\
             {environment}\
             ExecStart={command} system watch\n\
             Restart=on-failure\n\
             RestartSec=2\n\
             # It starts containers before it says that it is ready, and says how long stopping them may take.\n\
             TimeoutStartSec=infinity\n\
             # Containers outlive its death; it stops them itself when it is asked to end.\n\
             KillMode=process\n\
             Delegate=yes\n\
             LimitNOFILE=1048576\n\
             TasksMax=infinity\n\
             \n\
             [Install]\n\
             WantedBy={target}\n"
        )
    }
}

/// A word as systemd reads it, systemd.syntax(7): in quotes where it must be; `%` stands for itself.
fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy().replace('\\', "\\\\").replace('%', "%%");
    if text.chars().any(|c| c.is_whitespace() || c == '"' || c == '\'' || c == ';') || text.is_empty() {
        format!("\"{}\"", text.replace('"', "\\\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        let quoted = |word: &str| quoted(OsStr::new(word));
        assert_eq!(quoted("/usr/local/bin/cove"), "/usr/local/bin/cove");
        assert_eq!(quoted("/a b/%n"), "\"/a b/%%n\"");
        assert_eq!(quoted("a\"b\\$HOME"), "\"a\\\"b\\\\$HOME\"");
    }

    #[test]
    fn a_user_has_another_target_and_other_places_are_kept() {
        let mut unit = Unit {
            user: true,
            program: "/opt/cove".into(),
            options: vec!["--root".to_owned(), "/my $disk".to_owned()],
            folders: vec!["/my disk".into()],
            runtime: Some("/opt/other".into()),
        };
        let text = unit.text();
        for line in [
            "WantedBy=default.target",
            "ExecStart=/opt/cove --root \"/my $$disk\" system watch",
            "Environment=COVE_RUNTIME=/opt/other",
            "RequiresMountsFor=\"/my disk\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("network-online"));
        unit.user = false;
        assert!(unit.text().contains("WantedBy=multi-user.target"));
    }
}
