//! `--env-file` and `--label-file`: a line a value.

use std::path::{Path, PathBuf};

use super::OptionError;

/// The lines of the files, then the values that were given by themselves.
///
/// `here` says what a name without a value stands for; without an answer the name is left out.
pub fn lines(
    files: &[PathBuf],
    values: &[String],
    here: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, OptionError> {
    let mut all = Vec::new();
    for path in files {
        let bytes = std::fs::read(path).map_err(|source| OptionError::File { path: path.clone(), source })?;
        read(path, &bytes, &here, &mut all)?;
    }
    all.extend(values.iter().cloned());
    Ok(all)
}

/// What `--env-file` and `--env` say together.
pub fn of_options(files: &[PathBuf], values: &[String]) -> Result<Vec<String>, OptionError> {
    let here = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    lines(files, &last_of_each(values), here)
}

fn read(
    path: &Path,
    bytes: &[u8],
    here: &impl Fn(&str) -> Option<String>,
    all: &mut Vec<String>,
) -> Result<(), OptionError> {
    let wrong = |reason: String| OptionError::Lines { path: path.to_owned(), reason };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line =
            std::str::from_utf8(line).map_err(|_| wrong(format!("invalid utf8 bytes at line {}: {line:?}", at + 1)))?;
        // What stands behind a value belongs to it; only the end of a line of Windows does not.
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, has_value) = line.split_once('=').map_or((line, false), |(name, _)| (name, true));
        if name.is_empty() {
            return Err(wrong(format!("no variable name on line '{line}'")));
        }
        if name.contains([' ', '\t']) {
            return Err(wrong(format!("variable '{name}' contains whitespaces")));
        }
        match (has_value, here(name)) {
            (true, _) => all.push(line.to_owned()),
            (false, Some(value)) => all.push(format!("{name}={value}")),
            (false, None) => {}
        }
    }
    Ok(())
}

/// Of several values of one name only the last.
pub fn last_of_each(values: &[String]) -> Vec<String> {
    let name = |value: &String| value.split('=').next().unwrap_or_default().to_owned();
    let is_last = |at: usize| values[at + 1..].iter().all(|later| name(later) != name(&values[at]));
    (0..values.len()).filter(|at| is_last(*at)).map(|at| values[at].clone()).collect()
}
