//! `--volume` and `--tmpfs`: which of them are bound and which are anonymous. What stands between the colons is read when the
//! container is checked (`cove_container::mounts`).

use std::collections::BTreeMap;

use cove_container::config::Empty;

use super::OptionError;
use super::mount::from_here;

/// Values with a source, and the places of anonymous volumes.
pub fn volumes(texts: &[String]) -> Result<(Vec<String>, BTreeMap<String, Empty>), OptionError> {
    let (mut binds, mut anonymous) = (Vec::new(), BTreeMap::new());
    for text in texts {
        if text.is_empty() {
            return Err(OptionError::EmptyVolume);
        }
        match source_and_rest(text)? {
            Some((source, rest)) => {
                let bind = format!("{}:{rest}", from_here(source));
                if !binds.contains(&bind) {
                    binds.push(bind);
                }
            }
            None => drop(anonymous.insert(text.clone(), Empty {})),
        }
    }
    Ok((binds, anonymous))
}

/// The source, if there is one, and what follows its colon.
fn source_and_rest(text: &str) -> Result<Option<(&str, &str)>, OptionError> {
    // Docker takes texts this short for a place.
    if text.len() <= 2 {
        return Ok(None);
    }
    let parts: Vec<&str> = text.split(':').collect();
    // One letter before the first colon may be a drive of Windows, which docker lets the daemon judge.
    let drive = parts[0].len() == 1 && parts[0].starts_with(|letter: char| letter.is_ascii_alphabetic());
    if drive && parts.len() == 2 {
        return Ok(None);
    }
    let wrong = |reason| OptionError::Volume { spec: text.to_owned(), reason };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong("empty section between colons"));
    }
    if parts.len() > 3 + usize::from(drive) {
        return Err(wrong("too many colons"));
    }
    Ok(text.split_once(':').filter(|_| parts.len() > 1))
}

/// Path and options of memory that is mounted.
pub fn tmpfs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), options.to_owned())
    };
    texts.iter().map(pair).collect()
}
