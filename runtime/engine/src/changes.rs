//! `--change` of `import` and `commit`: instructions in a Dockerfile's words that alter how an image is run.
//!
//! Docker takes `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`,
//! `VOLUME` and `WORKDIR` here.

use std::time::Duration;

use cove_oci::{Empty, Healthcheck, RunConfig};

use crate::Error;

/// Carries out the instructions in their order, as `docker commit --change` does.
///
/// An `ENTRYPOINT` takes away a command that was meant for another one, unless these instructions set it. Emptying both
/// leaves what there was.
pub fn apply_changes(config: &mut RunConfig, instructions: &[String]) -> Result<(), Error> {
    let mut changed = config.clone();
    let mut has_command = false;
    for instruction in instructions {
        let word = apply(&mut changed, instruction)?;
        has_command |= word == "CMD";
        if word == "ENTRYPOINT" && !has_command {
            changed.cmd = None;
        }
    }
    let is_empty = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&changed.entrypoint) && is_empty(&changed.cmd) {
        changed.cmd.clone_from(&config.cmd);
        changed.entrypoint.clone_from(&config.entrypoint);
    }
    *config = changed;
    Ok(())
}

/// Carries out one instruction and gives its word.
fn apply(config: &mut RunConfig, instruction: &str) -> Result<String, Error> {
    let text = instruction.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    if rest.is_empty() {
        match word.as_str() {
            "CMD" => config.cmd = Some(command(config, rest)),
            "ENTRYPOINT" => config.entrypoint = None,
            "USER" | "WORKDIR" | "STOPSIGNAL" => {
                return Err(bad(text, &format!("{word} requires exactly one argument")));
            }
            "ENV" | "LABEL" | "EXPOSE" | "VOLUME" | "ONBUILD" | "HEALTHCHECK" => {
                return Err(bad(text, &format!("{word} requires at least one argument")));
            }
            _ => return Err(unknown(text, &word)),
        }
        return Ok(word);
    }
    match word.as_str() {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "ENV" => {
            for (name, value) in pairs(text, &word, rest)? {
                let new = format!("{name}={value}");
                let is_it = |old: &&mut String| old.split_once('=').map_or(old.as_str(), |(old, _)| old) == name;
                match config.env.iter_mut().find(is_it) {
                    Some(old) => *old = new,
                    None => config.env.push(new),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs(text, &word, rest)?),
        "EXPOSE" => {
            for port in words(text, rest)? {
                for port in ports(&port).map_err(|reason| bad(text, &reason))? {
                    config.exposed_ports.insert(port, Empty {});
                }
            }
        }
        "VOLUME" => {
            let list = json_list(rest).map_or_else(|| words(text, rest), Ok)?;
            if list.is_empty() {
                return Err(bad(text, "VOLUME requires at least one argument"));
            }
            if list.iter().any(|path| path.trim().is_empty()) {
                return Err(bad(text, "VOLUME specified can not be an empty string"));
            }
            config.volumes.extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => config.working_dir = joined(&config.working_dir, rest),
        "STOPSIGNAL" => config.stop_signal = rest.to_owned(),
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match trigger.as_str() {
                "ONBUILD" => return Err(bad(text, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
                "FROM" | "MAINTAINER" => {
                    return Err(bad(text, &format!("{trigger} isn't allowed as an ONBUILD trigger")));
                }
                _ => config.on_build.push(rest.to_owned()),
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(config, text, rest)?),
        _ => return Err(unknown(text, &word)),
    }
    Ok(word)
}

fn unknown(instruction: &str, word: &str) -> Error {
    bad(instruction, &format!("{} is not a valid change command", word.to_lowercase()))
}

fn bad(instruction: &str, reason: &str) -> Error {
    Error::Change(format!(
        "the change `{instruction}` cannot be made: {reason}: write it like `CMD [\"sh\"]`, `ENV NAME=VALUE` or `EXPOSE 80/tcp`"
    ))
}

/// `["a","b"]`, or a line for the shell.
fn command(config: &RunConfig, text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| {
        let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        shell.into_iter().chain([text.to_owned()]).collect()
    })
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A relative folder is below the one before.
fn joined(before: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{before}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Splits at spaces that are neither quoted nor escaped, and removes quotes and escapes.
fn words(instruction: &str, text: &str) -> Result<Vec<String>, Error> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some('"') | None, '\\') => {
                let escaped = characters.next().unwrap_or('\\');
                let word = word.get_or_insert_default();
                // Within quotes only what would end or begin something is escaped.
                if quote.is_some() && !matches!(escaped, '"' | '\\' | '$') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            (Some(open), character) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, character) if character.is_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(bad(instruction, "a quote is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// `NAME=VALUE …`, or the old form `NAME VALUE`, whose value is the rest of the line.
fn pairs(instruction: &str, command: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| bad(instruction, &format!("{command} must have two arguments")))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let split = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(bad(instruction, &format!("{command} names can not be blank"))),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => {
            Err(bad(instruction, &format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")))
        }
    };
    words(instruction, text)?.into_iter().map(split).collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`: every port by itself, with its protocol; else docker's words.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let lower = protocol.to_ascii_lowercase();
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first..=last).map(|port| format!("{port}/{lower}")).collect()),
        _ => Err(format!("Invalid containerPort: {range}")),
    }
}

fn healthcheck(config: &RunConfig, instruction: &str, text: &str) -> Result<Healthcheck, Error> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Healthcheck { test: Some(vec!["NONE".to_owned()]), ..Healthcheck::default() });
    }
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').ok_or_else(|| bad(instruction, "an option is --NAME=VALUE"))?;
        let duration = || {
            let duration = nanoseconds(value).ok_or_else(|| bad(instruction, "a duration is like 30s or 1m30s"));
            duration.map(Some)
        };
        match name {
            "interval" => check.interval = duration()?,
            "timeout" => check.timeout = duration()?,
            "start-period" => check.start_period = duration()?,
            "start-interval" => check.start_interval = duration()?,
            "retries" => {
                let retries = value.parse::<i64>().map_err(|_| bad(instruction, "retries is a number"))?;
                check.retries = Some(retries);
            }
            _ => return Err(bad(instruction, &format!("Unknown flag: {name}"))),
        }
        rest = after.trim_start();
    }
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if !word.eq_ignore_ascii_case("cmd") {
        let word = word.to_ascii_uppercase();
        return Err(bad(instruction, &format!("Unknown type {word:?} in HEALTHCHECK (try CMD)")));
    }
    if rest.trim().is_empty() {
        return Err(bad(instruction, "Missing command after HEALTHCHECK CMD"));
    }
    check.test = Some(match json_list(rest.trim()) {
        Some(list) => [vec!["CMD".to_owned()], list].concat(),
        None if config.shell.is_some() => [vec!["CMD".to_owned()], command(config, rest.trim())].concat(),
        None => vec!["CMD-SHELL".to_owned(), rest.trim().to_owned()],
    });
    Ok(check)
}

/// A duration in Go's form, such as `1m30s` or `500ms`.
fn nanoseconds(text: &str) -> Option<i64> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = after;
    }
    i64::try_from(total.as_nanos()).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> RunConfig {
        let mut config = RunConfig::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(&mut config, &changes).unwrap();
        config
    }

    #[test]
    fn instructions_are_read_as_in_a_dockerfile() {
        let config = changed(&[
            r#"CMD ["sh", "-x"]"#,
            "entrypoint run this",
            r#"ENV A=1 B="two words" C=it\ is"#,
            "ENV A again and again",
            "EXPOSE 80 53/udp 8000-8001",
            r#"LABEL a.b="c d" e=f"#,
            "VOLUME /data /logs",
            r#"VOLUME ["/more"]"#,
            "USER nobody:nogroup",
            "WORKDIR /srv",
            "WORKDIR app/../www",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f localhost",
        ]);
        assert_eq!(config.cmd.unwrap(), ["sh", "-x"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run this"]);
        assert_eq!(config.env, ["A=again and again", "B=two words", "C=it is"]);
        assert!(config.exposed_ports.keys().eq(["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]));
        assert_eq!(config.labels["a.b"], "c d");
        assert!(config.volumes.keys().eq(["/data", "/logs", "/more"]));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("nobody:nogroup", "/srv/www"));
        assert_eq!((config.stop_signal.as_str(), config.on_build[0].as_str()), ("SIGQUIT", "RUN make"));
        let check = config.healthcheck.unwrap();
        assert_eq!(check.test.unwrap(), ["CMD-SHELL", "curl -f localhost"]);
        assert_eq!((check.interval, check.retries), (Some(90_000_000_000), Some(3)));
    }

    #[test]
    fn an_entrypoint_takes_away_the_command_of_another_one() {
        let before = RunConfig { cmd: Some(vec!["old".to_owned()]), ..RunConfig::default() };
        for (changes, entrypoint, command) in [
            (&[r#"ENTRYPOINT ["e"]"#][..], Some("e"), None),
            (&[r#"CMD ["c"]"#, r#"ENTRYPOINT ["e"]"#], Some("e"), Some("c")),
            (&[r#"ENTRYPOINT ["e"]"#, r#"CMD ["c"]"#], Some("e"), Some("c")),
            (&["CMD []"], None, Some("old")),
            (&["ENTRYPOINT"], None, Some("old")),
        ] {
            let mut config = before.clone();
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            apply_changes(&mut config, &changes).unwrap();
            let one = |word: Option<&str>| word.map(|word| vec![word.to_owned()]);
            assert_eq!((config.entrypoint, config.cmd), (one(entrypoint), one(command)), "{changes:?}");
        }
    }

    /// Docker's words after its `Error response from daemon: `.
    #[test]
    fn other_instructions_are_refused_in_dockers_words() {
        for (change, words) in [
            ("", "is not a valid change command"),
            ("RUN make", "run is not a valid change command"),
            ("FROM x", "from is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV =x", "ENV names can not be blank"),
            ("ENV A=1 B", "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
            ("LABEL a", "LABEL must have two arguments"),
            ("LABEL a=\"b", "a quote is not closed"),
            ("EXPOSE x", "Invalid containerPort: x"),
            ("EXPOSE 2-1", "Invalid containerPort: 2-1"),
            ("EXPOSE 1/icmp", "Invalid proto: icmp"),
            ("VOLUME []", "VOLUME requires at least one argument"),
            ("USER", "USER requires exactly one argument"),
            ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK curl", "Unknown type \"CURL\" in HEALTHCHECK (try CMD)"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK --interval=5 CMD x", "a duration is like 30s"),
            ("HEALTHCHECK --what=5 CMD x", "Unknown flag: what"),
        ] {
            let error = apply_changes(&mut RunConfig::default(), &[change.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(words), "{change}: {error}");
        }
    }
}
