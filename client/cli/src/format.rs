//! Lists: as a table, as JSON a line each, or by a template, chosen by `--format`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use gotmpl::Value;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::printer::Printer;
use crate::table::Table;
use crate::template::{Template, TemplateError};

/// Why a list cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Nobody takes the output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// A field of a row, as docker's templates name it, and the title of its column.
pub struct Column {
    /// Name in templates.
    pub name: &'static str,
    /// Title above the column.
    pub title: &'static str,
}

/// A kind of list.
pub struct List {
    /// Everything that a row has.
    pub columns: &'static [Column],
    /// Those that the usual table shows, and whether they give way on a narrow terminal.
    pub usual: Vec<(&'static str, bool)>,
}

/// A row: field name to text.
pub type Row = Map<String, Json>;

/// Makes a row of pairs.
pub fn row<const N: usize>(fields: [(&str, String); N]) -> Row {
    fields.into_iter().map(|(name, text)| (name.to_owned(), Json::String(text))).collect()
}

/// The field of a row that has its labels by name: `{{.Label "name"}}` reads it, nothing else shows it.
pub const LABELS: &str = "Label";

/// A text as Go's `strconv.Quote` writes it.
pub fn go_quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            letter if letter.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

impl List {
    /// Prints rows. `format` is the option's value; nothing and `table` mean the usual table. With `only`, nothing but
    /// that field is printed, unless a template says otherwise.
    pub fn print(
        &self,
        printer: &Printer,
        format: Option<&str>,
        only: Option<&'static str>,
        full_width: bool,
        rows: &[Row],
    ) -> Result<(), FormatError> {
        Ok(printer.text(&self.render(printer, format, only, full_width, rows)?)?)
    }

    /// What [`List::print`] would print.
    pub fn render(
        &self,
        printer: &Printer,
        format: Option<&str>,
        only: Option<&'static str>,
        full_width: bool,
        rows: &[Row],
    ) -> Result<String, FormatError> {
        let format = format.map(str::trim).filter(|format| !format.is_empty()).unwrap_or("table");
        let width = printer.width().filter(|_| !full_width);
        match (format.strip_prefix("table"), only) {
            (Some(""), Some(only)) => lines(&format!("{{{{.{only}}}}}"), rows),
            (Some(""), None) => Ok(self.usual_table(rows).render(width)),
            (Some(template), _) => {
                let template = Template::parse(template.trim_matches(' '))?;
                let titles = self.columns.iter().map(|column| (column.name.to_owned(), Json::from(column.title)));
                let mut table = Table::new(&[]);
                let mut titles = fields(&titles.collect())?;
                // The title of a label is its name.
                titles.insert(
                    LABELS.into(),
                    Value::Function(Arc::new(|names| Ok(names.first().cloned().unwrap_or(Value::Nil)))),
                );
                table.text(&template.execute_header(&Value::Map(Arc::new(titles)))?);
                for row in rows {
                    table.text(&template.execute(&value(row)?)?);
                }
                Ok(table.render(width))
            }
            (None, _) if format == "json" => lines("{{json .}}", rows),
            (None, _) => lines(format, rows),
        }
    }

    fn usual_table(&self, rows: &[Row]) -> Table {
        let flexible: Vec<usize> =
            self.usual.iter().enumerate().filter_map(|(index, (_, gives_way))| gives_way.then_some(index)).collect();
        let mut table = Table::new(&flexible);
        let title = |name: &str| {
            self.columns.iter().find(|column| column.name == name).map_or("", |column| column.title).to_owned()
        };
        table.line(self.usual.iter().map(|(name, _)| title(name)));
        for row in rows {
            // Line breaks and tabs of a description would break the table, and escape sequences the terminal.
            let cell = |name: &str| {
                row.get(name)
                    .and_then(Json::as_str)
                    .unwrap_or_default()
                    .replace(|character: char| character.is_control(), " ")
            };
            table.line(self.usual.iter().map(|(name, _)| cell(name)));
        }
        table
    }
}

fn lines(template: &str, rows: &[Row]) -> Result<String, FormatError> {
    let template = Template::parse(template)?;
    let mut out = String::new();
    for row in rows {
        out.push_str(&template.execute(&value(row)?)?);
        out.push('\n');
    }
    Ok(out)
}

fn value(row: &Row) -> Result<Value, TemplateError> {
    let mut fields = fields(row)?;
    if let Some(Value::Map(labels)) = fields.remove(LABELS) {
        let of = move |names: &[Value]| match names {
            [Value::String(name)] => Ok(labels.get(name).cloned().unwrap_or(Value::String("".into()))),
            _ => Err(gotmpl::TemplateError::Exec("Label wants one name".to_owned())),
        };
        fields.insert(LABELS.into(), Value::Function(Arc::new(of)));
    }
    Ok(Value::Map(Arc::new(fields)))
}

fn fields(row: &Row) -> Result<BTreeMap<Arc<str>, Value>, TemplateError> {
    let value = |value: &Json| gotmpl::to_value(value).map_err(TemplateError::from);
    row.iter().map(|(name, found)| Ok((name.as_str().into(), value(found)?))).collect()
}

/// Prints one document: by a template, or as JSON.
pub fn print_document(printer: &Printer, format: &str, document: &impl Serialize) -> Result<(), FormatError> {
    let value = gotmpl::to_value(document).map_err(TemplateError::from)?;
    match format.trim() {
        "json" => {
            let json = serde_json::to_string(document).map_err(io::Error::from)?;
            Ok(printer.line(json)?)
        }
        template => Ok(printer.line(Template::parse(template)?.execute(&value)?)?),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::printer::Heard;

    const COLUMNS: &[Column] = &[
        Column { name: "ID", title: "IMAGE ID" },
        Column { name: "Repository", title: "REPOSITORY" },
        Column { name: "Tag", title: "TAG" },
    ];

    fn printed(format: Option<&str>, only: Option<&'static str>) -> String {
        let list = List { columns: COLUMNS, usual: vec![("Repository", true), ("Tag", false), ("ID", false)] };
        let image = |id: &str, repository: &str, tag: &str| {
            row([("ID", id.to_owned()), ("Repository", repository.to_owned()), ("Tag", tag.to_owned())])
        };
        let rows = [image("d12c433258a3", "reg.example:5000/x/y", "v1"), image("37525e71b0ca", "foo", "bar")];
        let out = Heard::default();
        let printer = Printer::to(Box::new(out.clone()), Box::new(io::sink()));
        match list.print(&printer, format, only, false, &rows) {
            Ok(()) => out.text(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn cells_hold_no_escape_sequences() {
        let list = List { columns: COLUMNS, usual: vec![("Repository", true), ("Tag", false)] };
        let rows = [row([("Repository", "a\x1b[2Jb\nc".to_owned()), ("Tag", "\u{9d}x".to_owned())])];
        let out = Heard::default();
        let printer = Printer::to(Box::new(out.clone()), Box::new(io::sink()));
        list.print(&printer, None, None, false, &rows).unwrap();
        assert!(out.text().ends_with("a [2Jb c      x\n"), "{:?}", out.text());
    }

    /// The right sides are what docker 28.2.2 printed.
    #[test]
    fn lists_are_printed_as_docker_prints_them() {
        let usual = "\
REPOSITORY             TAG       IMAGE ID
reg.example:5000/x/y   v1        d12c433258a3
foo                    bar       37525e71b0ca
";
        assert_eq!(printed(None, None), usual);
        assert_eq!(printed(Some("table"), None), usual);
        assert_eq!(printed(None, Some("ID")), "d12c433258a3\n37525e71b0ca\n");
        assert_eq!(
            printed(Some("table {{.Repository}}:{{upper .Tag}}"), None),
            "REPOSITORY:TAG\nreg.example:5000/x/y:V1\nfoo:BAR\n"
        );
        assert_eq!(
            printed(Some("table {{.ID}}\\t{{.Repository}}"), None),
            "IMAGE ID       REPOSITORY\nd12c433258a3   reg.example:5000/x/y\n37525e71b0ca   foo\n"
        );
        assert_eq!(
            printed(Some("table {{pad .Tag 2 3}}|{{truncate .ID 3}}"), None),
            "  TAG   |IMAGE ID\n  v1   |d12\n  bar   |375\n"
        );
        assert_eq!(
            printed(Some("json"), None).lines().next(),
            Some(r#"{"ID":"d12c433258a3","Repository":"reg.example:5000/x/y","Tag":"v1"}"#)
        );
        assert_eq!(printed(Some("{{.ID}} {{.Tag}}"), Some("ID")), "d12c433258a3 v1\n37525e71b0ca bar\n");
        assert!(printed(Some("{{.Foo}}"), None).contains("\"Foo\""));
    }
}
