//! `--format`: Go templates with docker's functions, run by the crate gotmpl.

use std::sync::Arc;

use gotmpl::{MissingKey, Template as GoTemplate, TemplateError as GoError, Value};
use serde::Serialize;

use crate::field_order::FieldOrder;

/// Why a template cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is not written as Go templates are, or fails on the data: the text after docker's first words is gotmpl's.
    #[error("template parsing error: {0}")]
    Template(#[from] GoError),
    /// It names a field that is not there.
    #[error(
        "template parsing error: template: map has no entry for key \"{0}\": `json` as the format shows all of them"
    )]
    Field(String),
}

/// A template that was read.
pub struct Template {
    rows: GoTemplate,
    header: GoTemplate,
    order: FieldOrder,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        // As docker: a shell's '\t' and '\n' are meant as what they stand for.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        // A method of docker's rows; here it is a function in a field.
        let text = text.replace(".Label \"", "call .Label \"");
        let order = FieldOrder::default();
        let rows = functions(GoTemplate::new("").missing_key(MissingKey::Error), &order).parse(&text)?;
        let header = header_functions(GoTemplate::new("").missing_key(MissingKey::Invalid)).parse(&text)?;
        Ok(Template { rows, header, order })
    }

    /// Runs it on a value.
    pub fn execute(&self, value: &Value) -> Result<String, TemplateError> {
        self.rows.execute_to_string(value).map_err(|error| match error {
            GoError::MissingKey { key } => TemplateError::Field(key),
            other => TemplateError::Template(other),
        })
    }

    /// Runs it on a document, whose fields `json` prints in the document's own order.
    pub fn execute_document(&self, document: &impl Serialize) -> Result<String, TemplateError> {
        self.order.learn(document).map_err(|error| GoError::Exec(error.to_string()))?;
        self.execute(&gotmpl::to_value(document)?)
    }

    /// Runs it on the titles of columns: its functions leave them as they are, but for their case.
    pub fn execute_header(&self, titles: &Value) -> Result<String, TemplateError> {
        Ok(self.header.execute_to_string(titles)?)
    }
}

/// Docker's functions (its `templates` package).
fn functions(template: GoTemplate, order: &FieldOrder) -> GoTemplate {
    let order = order.clone();
    template
        .func("json", move |arguments| Ok(string(json(argument(arguments, 0)?, &order)?)))
        .func("split", |arguments| {
            let (text, separator) = (text(arguments, 0)?, text(arguments, 1)?);
            let parts: Vec<Value> = match separator.is_empty() {
                true => text.chars().map(|c| string(c.to_string())).collect(),
                false => text.split(&*separator).map(string).collect(),
            };
            Ok(Value::List(parts.into()))
        })
        .func("join", |arguments| {
            let separator = text(arguments, 1)?;
            match argument(arguments, 0)? {
                Value::List(parts) => {
                    let parts: Result<Vec<_>, _> =
                        (0..parts.len()).map(|index| text(parts, index).map(|part| part.to_string())).collect();
                    Ok(string(parts?.join(&separator)))
                }
                Value::Nil => Ok(string("")),
                other => Err(GoError::TypeMismatch { expected: "list", got: other.type_name() }),
            }
        })
        .func("title", |arguments| Ok(string(title(&text(arguments, 0)?))))
        .func("lower", |arguments| Ok(string(text(arguments, 0)?.to_lowercase())))
        .func("upper", |arguments| Ok(string(text(arguments, 0)?.to_uppercase())))
        .func("pad", |arguments| {
            let (text, before, after) = (text(arguments, 0)?, number(arguments, 1)?, number(arguments, 2)?);
            match text.is_empty() {
                true => Ok(string("")),
                false => Ok(string(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)))),
            }
        })
        .func("truncate", |arguments| {
            let (text, length) = (text(arguments, 0)?, number(arguments, 1)?);
            Ok(string(text.chars().take(length).collect::<String>()))
        })
}

/// The functions of a header: docker keeps the padding and the case, and nothing else.
fn header_functions(template: GoTemplate) -> GoTemplate {
    let mut template = functions(template, &FieldOrder::default());
    for name in ["json", "split", "join", "truncate"] {
        template = template.func(name, |arguments| argument(arguments, 0).cloned());
    }
    template
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(Arc::from(text.as_ref()))
}

fn argument(arguments: &[Value], index: usize) -> gotmpl::Result<&Value> {
    let missing =
        || GoError::Exec(format!("not enough arguments: want at least {}, got {}", index + 1, arguments.len()));
    arguments.get(index).ok_or_else(missing)
}

fn text(arguments: &[Value], index: usize) -> gotmpl::Result<Arc<str>> {
    match argument(arguments, index)? {
        Value::String(text) => Ok(Arc::clone(text)),
        other => Err(GoError::TypeMismatch { expected: "string", got: other.type_name() }),
    }
}

/// More than this is no padding that anybody means.
const LONGEST_PADDING: usize = 10_000;

fn number(arguments: &[Value], index: usize) -> gotmpl::Result<usize> {
    let value = argument(arguments, index)?;
    let number = value.as_int().ok_or(GoError::TypeMismatch { expected: "int", got: value.type_name() })?;
    Ok(usize::try_from(number).unwrap_or(0).min(LONGEST_PADDING))
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut inside = false;
    let upper_first = |c: char| {
        let starts = c.is_alphanumeric() && !inside;
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
        if starts { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(upper_first).collect()
}

fn json(value: &Value, order: &FieldOrder) -> gotmpl::Result<String> {
    let broken = |error: serde_json::Error| GoError::Exec(error.to_string());
    Ok(match value {
        Value::Nil => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Float(value) => serde_json::to_string(value).map_err(broken)?,
        Value::String(text) => serde_json::to_string(&**text).map_err(broken)?,
        Value::List(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(|value| json(value, order)).collect();
            format!("[{}]", values?.join(","))
        }
        Value::Map(entries) => {
            let shown = entries.iter().filter(|(_, value)| !value.is_function());
            let names = order.of(shown.map(|(name, _)| name.to_string()).collect());
            let entry = |name: &String| {
                let value = json(entries.get(name.as_str()).unwrap_or(&Value::Nil), order)?;
                Ok(format!("{}:{value}", serde_json::to_string(name).map_err(broken)?))
            };
            let entries: gotmpl::Result<Vec<_>> = names.iter().map(entry).collect();
            format!("{{{}}}", entries?.join(","))
        }
        Value::Function(_) => return Err(GoError::Exec("a function cannot be written as JSON".to_owned())),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run(template: &str) -> String {
        let value = gotmpl::to_value(&serde_json::json!({
            "Tag": "bar", "ID": "37525e71b0ca", "Size": 3, "RepoTags": ["baz:latest", "foo:bar"], "None": null,
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"a.b": "c"}, "Cmd": null}, "Quote": "<\"&\n"
        }));
        Template::parse(template)
            .and_then(|template| template.execute(&value.unwrap()))
            .unwrap_or_else(|e| e.to_string())
    }

    /// The right sides are what docker 28.2.2 printed for templates of these forms.
    #[test]
    fn templates_do_what_docker_does_with_them() {
        for (template, printed) in [
            ("{{pad .Tag 2 3}}|{{truncate .ID 3}}|{{title .Tag}}", "  bar   |375|Bar"),
            ("{{upper .Tag}}{{lower \"ABC\"}}", "BARabc"),
            ("{{index .RepoTags 0}}", "baz:latest"),
            ("{{join .RepoTags \",\"}}", "baz:latest,foo:bar"),
            ("{{index (split .Tag \"a\") 1}}", "r"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
            ("{{with .Config.Cmd}}yes{{else}}no{{end}}", "no"),
            ("{{if gt .Size 2}}big{{end}} {{len .RepoTags}}", "big 2"),
            ("{{index .Config.Labels \"a.b\"}}", "c"),
            ("{{.Config.Labels}} {{.RepoTags}}", "map[a.b:c] [baz:latest foo:bar]"),
            ("{{printf \"%.5s|%5d|%-4s|%q\" .ID .Size .Tag .Tag}}", "37525|    3|bar |\"bar\""),
            ("{{json .Config}}", r#"{"Cmd":null,"Env":["A=1","B=2"],"Labels":{"a.b":"c"}}"#),
            ("{{.ID | printf \"%s!\" | upper}}", "37525E71B0CA!"),
            ("{{json .Quote}}", r#""<\"&\n""#),
            ("{{.Tag}}\\t{{.ID}}", "bar\t37525e71b0ca"),
            ("{{- /* nothing */ -}} {{.Tag -}} ", "bar"),
        ] {
            assert_eq!(run(template), printed, "{template}");
        }
    }

    #[test]
    fn fields_keep_the_order_of_their_document() {
        #[derive(Serialize)]
        struct Document {
            zebra: u8,
            ant: Option<Inner>,
            labels: std::collections::BTreeMap<&'static str, f64>,
        }
        #[derive(Serialize)]
        struct Inner {
            y: [bool; 1],
            x: (),
        }
        let labels = [("b", 1.5), ("a", -1.0)].into();
        let document = Document { zebra: 1, ant: Some(Inner { y: [true], x: () }), labels };
        let template = Template::parse("{{json .}} {{json .ant}}").unwrap();
        let printed = template.execute_document(&document).unwrap();
        let ant = r#"{"y":[true],"x":null}"#;
        assert_eq!(printed, format!(r#"{{"zebra":1,"ant":{ant},"labels":{{"a":-1.0,"b":1.5}}}} {ant}"#));
    }

    #[test]
    fn mistakes_are_told_in_dockers_words() {
        assert!(run("{{.ID").starts_with("template parsing error: template: "), "{}", run("{{.ID"));
        assert!(run("{{.ID").contains("unclosed action"), "{}", run("{{.ID"));
        assert!(run("{{.Foo}}").contains("map has no entry for key \"Foo\""), "{}", run("{{.Foo}}"));
        assert!(run("{{nosuch .ID}}").starts_with("template parsing error: "));
        assert!(run("{{index .RepoTags 7}}").starts_with("template parsing error: "));
    }
}
