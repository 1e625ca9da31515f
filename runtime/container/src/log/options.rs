//! `--log-opt` of the json-file driver.

use std::collections::BTreeMap;

use super::LogError;

/// What is kept of a log, and what its records also say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// A file of this size is full; `None` for no limit (`max-size=-1`). Docker has no limit unless told; here the default
    /// is 20 MB, five times: logs that fill the disk are docker's oldest complaint.
    pub max_size: Option<u64>,
    /// How many files there are at most, the one that is written included.
    pub max_file: u32,
    /// Names of labels of the container that each record carries.
    pub labels: Vec<String>,
    /// Names of variables of the container that each record carries.
    pub environment: Vec<String>,
    /// A tag that each record carries, with fields as `{{.Name}}`.
    pub tag: Option<String>,
}

/// What a tag can speak of.
#[derive(Debug, Clone, Copy, Default)]
pub struct TagFacts<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The container's name, without a slash.
    pub name: &'a str,
    /// The image as it was asked for.
    pub image_name: &'a str,
    /// The image's id, `sha256:` before it.
    pub image_id: &'a str,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { max_size: Some(20_000_000), max_file: 5, labels: Vec::new(), environment: Vec::new(), tag: None }
    }
}

impl LogOptions {
    /// The options in docker's words. With a `max-size` and no `max-file` there is one file, as docker has it: who names
    /// a size means all that the log may take.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, LogError> {
        let mut options = Self::default();
        let (mut size_given, mut files) = (false, None);
        for (key, value) in pairs {
            match key {
                "max-size" => {
                    options.max_size = size(value)?;
                    size_given = true;
                }
                "max-file" => files = Some(file_count(value)?),
                "compress" => {
                    if truth(value)? {
                        return Err(LogError::NotSupported {
                            option: "compress",
                            advice: "leave it out and set `max-size` and `max-file` to what the disk can hold",
                        });
                    }
                }
                "labels" => options.labels = names(value),
                "env" => options.environment = names(value),
                "tag" => options.tag = Some(value.to_owned()).filter(|tag| !tag.is_empty()),
                "labels-regex" => {
                    return Err(LogError::NotSupported {
                        option: "labels-regex",
                        advice: "name the labels in `labels`",
                    });
                }
                "env-regex" => {
                    return Err(LogError::NotSupported { option: "env-regex", advice: "name the variables in `env`" });
                }
                unknown => return Err(LogError::UnknownOption(unknown.to_owned())),
            }
        }
        match files {
            Some(files) => options.max_file = files,
            None if size_given => options.max_file = 1,
            None => {}
        }
        // A field that nobody knows is said when the container is made, not when it starts.
        options.tag_text(&TagFacts::default())?;
        Ok(options)
    }

    /// The attributes of each record: the labels and variables that were named and are there, and the tag.
    pub fn attributes<'a>(
        &self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: impl IntoIterator<Item = &'a str>,
        facts: &TagFacts<'_>,
    ) -> Result<BTreeMap<String, String>, LogError> {
        let mut attributes = BTreeMap::new();
        for (key, value) in labels {
            if self.labels.iter().any(|name| name == key) {
                attributes.insert(key.to_owned(), value.to_owned());
            }
        }
        for (key, value) in environment.into_iter().filter_map(|variable| variable.split_once('=')) {
            if self.environment.iter().any(|name| name == key) {
                attributes.insert(key.to_owned(), value.to_owned());
            }
        }
        if let Some(tag) = self.tag_text(facts)? {
            attributes.insert("tag".to_owned(), tag);
        }
        Ok(attributes)
    }

    fn tag_text(&self, facts: &TagFacts<'_>) -> Result<Option<String>, LogError> {
        let Some(tag) = &self.tag else { return Ok(None) };
        let wrong = || LogError::Tag(tag.clone());
        let short = |id: &str| id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        let mut text = String::new();
        let mut rest = tag.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            text.push_str(before);
            let (field, after) = after.split_once("}}").ok_or_else(wrong)?;
            match field.trim() {
                ".ID" => text.push_str(&short(facts.id)),
                ".FullID" => text.push_str(facts.id),
                ".Name" => text.push_str(facts.name),
                ".ImageName" => text.push_str(facts.image_name),
                ".ImageID" => text.push_str(&short(facts.image_id)),
                ".ImageFullID" => text.push_str(facts.image_id),
                ".DaemonName" => text.push_str("cove"),
                _ => return Err(wrong()),
            }
            rest = after;
        }
        text.push_str(rest);
        Ok(Some(text))
    }
}

/// A size as docker reads it: `k`, `m`, `g`, `t` and `p` are powers of 1000.
fn size(text: &str) -> Result<Option<u64>, LogError> {
    let wrong = || LogError::Size(text.to_owned());
    if text == "-1" {
        return Ok(None);
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "p" => 1e15,
        _ => return Err(wrong()),
    };
    let digits = digits.strip_suffix(' ').unwrap_or(digits);
    if !digits.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit()) {
        return Err(wrong());
    }
    let bytes = digits.parse::<f64>().map_err(|_| wrong())? * factor;
    if bytes < 1.0 {
        return Err(LogError::SizeNotPositive);
    }
    Ok(Some(bytes as u64))
}

fn file_count(text: &str) -> Result<u32, LogError> {
    match text.parse::<i64>().map_err(|_| LogError::Number(text.to_owned()))? {
        // More would only be names that nobody looks at; and readers open all of them.
        count @ 1..=10_000 => Ok(count as u32),
        count if count < 1 => Err(LogError::TooFewFiles),
        _ => Ok(10_000),
    }
}

/// The words that Go's ParseBool knows.
fn truth(text: &str) -> Result<bool, LogError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(LogError::Truth(text.to_owned())),
    }
}

fn names(value: &str) -> Vec<String> {
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
