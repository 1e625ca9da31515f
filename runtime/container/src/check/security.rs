//! `--security-opt`, as it is kept in `HostConfig.SecurityOpt`.

use super::CheckError;

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// Whether programs with the set-uid bit get nothing by it.
    pub no_new_privileges: bool,
    /// `unconfined`, `builtin`, or the profile itself in JSON; `None` for the default.
    pub seccomp: Option<String>,
    /// Profile of AppArmor; `None` for the default.
    pub apparmor: Option<String>,
    /// Labels of SELinux.
    pub labels: Vec<String>,
}

/// Reads the options.
pub fn security(options: &[String]) -> Result<Security, CheckError> {
    let mut read = Security::default();
    for option in options {
        let wrong = || CheckError::Security(option.clone());
        if option == "no-new-privileges" {
            read.no_new_privileges = true;
            continue;
        }
        let (name, value) = option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(wrong)?;
        match name {
            "label" => read.labels.push(value.to_owned()),
            "apparmor" => read.apparmor = Some(value.to_owned()),
            "seccomp" => read.seccomp = Some(value.to_owned()),
            "no-new-privileges" => {
                read.no_new_privileges = match value {
                    "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
                    "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(read)
}
