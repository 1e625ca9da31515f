//! `--mount`: fields in the manner of a table's line.

use std::path::Path;

use cove_container::config::{BindOptions, Mount, MountKind, TmpfsOptions, VolumeOptions};

use super::ValueError;
use super::sizes::size;
use crate::filter::go_bool;

/// The fields of one line of a table; a field with commas stands in quotes.
pub fn csv(line: &str) -> Result<Vec<String>, ValueError> {
    if line.is_empty() {
        return Err(ValueError::Nothing);
    }
    let (mut fields, mut letters, mut at) = (Vec::new(), line.chars().peekable(), 0_usize);
    loop {
        let mut field = String::new();
        if letters.next_if_eq(&'"').is_some() {
            at += 1;
            loop {
                at += 1;
                match letters.next() {
                    Some('"') if letters.next_if_eq(&'"').is_some() => {
                        at += 1;
                        field.push('"');
                    }
                    Some('"') if matches!(letters.peek(), None | Some(',')) => break,
                    Some('"') | None => return Err(ValueError::OpenQuote(at)),
                    Some(letter) => field.push(letter),
                }
            }
        }
        while let Some(letter) = letters.next_if(|letter| *letter != ',') {
            at += 1;
            if letter == '"' {
                return Err(ValueError::BareQuote(at));
            }
            field.push(letter);
        }
        fields.push(field);
        at += 1;
        if letters.next().is_none() {
            return Ok(fields);
        }
    }
}

/// A source that begins with a dot is a path from here.
pub fn from_here(source: &str) -> String {
    match (source.starts_with('.'), std::env::current_dir()) {
        (true, Ok(here)) => super::devices::clean(&here.join(Path::new(source)).to_string_lossy()),
        _ => source.to_owned(),
    }
}

/// `type=bind,source=…,target=…,readonly` and so on.
pub fn mount(text: &str) -> Result<Mount, ValueError> {
    let mut mount = Mount::default();
    for field in csv(text)? {
        read_field(&mut mount, &field)?;
    }
    if mount.target.is_empty() {
        return Err(ValueError::NoTarget);
    }
    let mixed = |options| Err(ValueError::MixedMount { options, kind: mount.kind.to_string() });
    if mount.volume_options.is_some() && mount.kind != MountKind::Volume {
        return mixed("volume");
    }
    if mount.bind_options.is_some() && mount.kind != MountKind::Bind {
        return mixed("bind");
    }
    if mount.tmpfs_options.is_some() && mount.kind != MountKind::Tmpfs {
        return mixed("tmpfs");
    }
    if let Some(options) = &mount.bind_options {
        if options.read_only_non_recursive && !mount.read_only {
            return Err(ValueError::RecursiveWritable("writable"));
        }
        if options.read_only_force_recursive && !mount.read_only {
            return Err(ValueError::RecursiveWritable("readonly"));
        }
        if options.read_only_force_recursive
            && options.propagation != Some(cove_container::config::Propagation::Rprivate)
        {
            return Err(ValueError::RecursivePropagation);
        }
    }
    Ok(mount)
}

fn read_field(mount: &mut Mount, field: &str) -> Result<(), ValueError> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key.to_ascii_lowercase(), value),
        None => match field.to_ascii_lowercase() {
            key if matches!(key.as_str(), "readonly" | "ro" | "volume-nocopy") => (key, "true"),
            _ => return Err(ValueError::MountField(field.to_owned())),
        },
    };
    let wrong = || ValueError::MountValue { key: key.clone(), value: value.to_owned() };
    match key.as_str() {
        "type" => {
            let kind = value.to_ascii_lowercase();
            mount.kind = kind.parse().map_err(|_| ValueError::MountKind(kind))?;
        }
        "source" | "src" => mount.source = from_here(value),
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = go_bool(value).ok_or_else(wrong)?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => {
            let word = value.to_ascii_lowercase();
            bind(mount).propagation = Some(word.parse().map_err(|_| ValueError::Propagation(word))?);
        }
        "bind-nonrecursive" => bind(mount).non_recursive = go_bool(value).ok_or_else(wrong)?,
        "bind-create-src" => bind(mount).create_mountpoint = go_bool(value).ok_or_else(wrong)?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => return Err(ValueError::Recursive { key, value: value.to_owned() }),
        },
        "volume-nocopy" => volume(mount).no_copy = go_bool(value).ok_or_else(wrong)?,
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-label" => insert(&mut volume(mount).labels, value),
        "volume-driver" => volume(mount).driver_config.get_or_insert_default().name = value.to_owned(),
        "volume-opt" => insert(&mut volume(mount).driver_config.get_or_insert_default().options, value),
        "tmpfs-size" => tmpfs(mount).size_bytes = size(value).map_err(|_| wrong())?,
        "tmpfs-mode" => tmpfs(mount).mode = u32::from_str_radix(value, 8).map_err(|_| wrong())?,
        _ => return Err(ValueError::UnexpectedKey { key, field: field.to_owned() }),
    }
    Ok(())
}

fn insert(pairs: &mut std::collections::BTreeMap<String, String>, text: &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if !name.is_empty() {
        pairs.insert(name.to_owned(), value.to_owned());
    }
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    let options = mount.volume_options.get_or_insert_default();
    // Docker always writes it, even if empty.
    options.driver_config.get_or_insert_default();
    options
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}
