//! `cove events`

use std::time::Duration;

use cove_container::events::Event;
use cove_container::log::parse_time;
use serde_json::json;
use time::OffsetDateTime;

use crate::arguments::Events;
use crate::context::Context;
use crate::error::Error;
use crate::filter::Filter;
use crate::listing::label;
use crate::template::Template;

const FILTERS: [&str; 10] =
    ["container", "daemon", "event", "image", "label", "network", "plugin", "scope", "type", "volume"];

/// How events are printed.
enum Look {
    Lines,
    Json,
    Template(Box<Template>),
}

/// Prints what happens, and with `--since` what has happened, until it is told to end or `--until` has come.
pub fn run(context: &Context, arguments: &Events) -> Result<(), Error> {
    Filter::check(&arguments.filter, &FILTERS)?;
    let now = OffsetDateTime::now_utc();
    let moment = |text: &Option<String>| {
        text.as_deref().filter(|text| !text.is_empty()).map(|text| parse_time(text, now)).transpose()
    };
    let since = moment(&arguments.since)?.unwrap_or(now);
    let until = moment(&arguments.until)?;
    let format = arguments.format.as_deref().map(str::trim).filter(|format| !format.is_empty());
    let look = match format {
        None => Look::Lines,
        Some("json" | "{{json .}}") => Look::Json,
        Some(template) => Look::Template(Box::new(Template::parse(template)?)),
    };
    let mut reader = context.events().read()?;
    loop {
        while let Some(event) = reader.next_event()? {
            let at = happened(&event);
            if until.is_some_and(|until| at > until) {
                return Ok(());
            }
            if at >= since && fits(&arguments.filter, &event) {
                context.printer.line(shown(&look, &event)?)?;
            }
        }
        let left = match until {
            None => None,
            Some(until) => match Duration::try_from(until - OffsetDateTime::now_utc()) {
                Ok(left) if !left.is_zero() => Some(left),
                _ => return Ok(()),
            },
        };
        reader.wait(left)?;
    }
}

fn happened(event: &Event) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(event.nanoseconds.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn shown(look: &Look, event: &Event) -> Result<String, Error> {
    match look {
        Look::Lines => Ok(line(event)),
        Look::Json => Ok(serde_json::to_string(event).map_err(std::io::Error::from)?),
        // By the names of Go's fields, which are others than those of the JSON.
        Look::Template(template) => Ok(template.execute_document(&json!({
            "Status": event.status,
            "ID": event.id,
            "From": event.from,
            "Type": event.kind,
            "Action": event.action,
            "Actor": event.actor,
            "Scope": event.scope,
            "Time": event.time,
            "TimeNano": event.nanoseconds,
        }))?),
    }
}

/// `2026-11-24T15:12:32.442676932Z container start ID (image=debian:12, name=web)`
fn line(event: &Event) -> String {
    let at = happened(event);
    let form = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z");
    let at = at.format(form).unwrap_or_default();
    let mut text = format!("{at} {} {} {}", event.kind, event.action, event.actor.id);
    let attributes: Vec<String> =
        event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !attributes.is_empty() {
        text.push_str(&format!(" ({})", attributes.join(", ")));
    }
    text
}

/// Of conditions with one name any, of several names all must fit.
fn fits(filters: &[Filter], event: &Event) -> bool {
    filters.iter().all(|filter| match filter.name.as_str() {
        // All labels must be there, as with docker.
        "label" => fits_one(filter, event),
        name => filters.iter().filter(|other| other.name == name).any(|other| fits_one(other, event)),
    })
}

fn fits_one(filter: &Filter, event: &Event) -> bool {
    let value = filter.value.as_str();
    let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
    let is = |kind: &str| {
        event.kind == kind
            && !value.is_empty()
            && (event.actor.id.starts_with(value) || attribute("name") == Some(value.trim_start_matches('/')))
    };
    // A name without a tag stands for all tags.
    let is_image = |name: &str| name == value || name.rsplit_once(':').is_some_and(|(name, _)| name == value);
    match filter.name.as_str() {
        "container" | "network" | "volume" => is(&filter.name),
        // `exec_create` is meant with every command.
        "event" => event.action == value || event.action.split(": ").next() == Some(value),
        "image" => match event.kind.as_str() {
            "image" => is("image") || is_image(&event.actor.id) || attribute("name").is_some_and(is_image),
            _ => attribute("image").is_some_and(is_image),
        },
        "label" => {
            let (name, wanted) = label(value);
            attribute(&name).is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
        }
        "scope" => event.scope == value,
        "type" => event.kind == value,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event() -> Event {
        let text = r#"{"status":"exec_create: true ","id":"000a","from":"debian:12","Type":"container",
            "Action":"exec_create: true ","Actor":{"ID":"000a","Attributes":{"image":"debian:12","name":"web","tier":"front"}},
            "scope":"local","time":1795533152,"timeNano":1795533152682361517}"#;
        serde_json::from_str(text).unwrap()
    }

    /// What docker 20.10 printed.
    #[test]
    fn a_line_as_docker_writes_it() {
        let expected =
            "2026-11-24T15:12:32.682361517Z container exec_create: true  000a (image=debian:12, name=web, tier=front)";
        assert_eq!(line(&event()), expected);
    }

    #[test]
    fn conditions_choose_events() {
        let is_chosen = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            fits(&filters, &event())
        };
        for chosen in [
            &["event=exec_create"][..],
            &["event=die", "event=exec_create", "type=container"],
            &["container=web", "label=tier"],
            &["container=000", "label=tier=front"],
            &["image=debian"],
            &["image=debian:12", "scope=local"],
        ] {
            assert!(is_chosen(chosen), "{chosen:?}");
        }
        for refused in [
            &["event=exec"][..],
            &["type=image"],
            &["container=we"],
            &["event=exec_create", "type=image"],
            &["label=tier", "label=other"],
            &["image=deb"],
            &["network=web"],
        ] {
            assert!(!is_chosen(refused), "{refused:?}");
        }
    }
}
