//! `--security-opt`.

use super::OptionError;

/// The options that are kept, and whether all of `/proc` and `/sys` is shown.
pub fn security(texts: &[String]) -> Result<(Vec<String>, bool), OptionError> {
    let mut kept = Vec::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None if text == "no-new-privileges" => (text.as_str(), None),
            None => text.split_once(':').map_or((text.as_str(), None), |(name, value)| (name, Some(value))),
        };
        if name != "no-new-privileges" && value.is_none_or(str::is_empty) {
            return Err(OptionError::Security(text.clone()));
        }
        match (name, value) {
            ("seccomp", Some(path)) if !matches!(path, "builtin" | "unconfined") => {
                kept.push(format!("seccomp={}", profile(path)?));
            }
            _ => kept.push(text.clone()),
        }
    }
    let before = kept.len();
    kept.retain(|text| text != "systempaths=unconfined");
    let shows_all = kept.len() < before;
    Ok((kept, shows_all))
}

/// The text of a profile, without spaces between its parts: docker keeps the profile, not its name.
fn profile(path: &str) -> Result<String, OptionError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| OptionError::Profile { path: path.to_owned(), source })?;
    let wrong = |source| OptionError::ProfileJson { path: path.to_owned(), source };
    serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(wrong)?;
    Ok(compact(&text))
}

/// JSON without the spaces between its parts, in the order in which it was written.
fn compact(text: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(text.len()), false, false);
    for letter in text.chars() {
        if quoted {
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
        } else if letter.is_ascii_whitespace() {
            continue;
        } else {
            quoted = letter == '"';
        }
        out.push(letter);
    }
    out
}
