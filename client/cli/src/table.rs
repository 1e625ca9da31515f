//! Tables: columns three spaces apart and at least ten wide, as docker's; narrower only where a terminal is too
//! narrow for them.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Space between two columns.
const PADDING: usize = 3;
/// Least width of a column, padding included.
const LEAST: usize = 10;
/// What a column that gives way keeps.
const NARROWEST: usize = 12;

/// Lines of cells. The first one is the header.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<Vec<String>>,
    /// Columns that may be cut where the terminal is too narrow.
    flexible: Vec<usize>,
}

impl Table {
    /// A table whose columns of these numbers give way on a narrow terminal.
    pub fn new(flexible: &[usize]) -> Self {
        Table { lines: Vec::new(), flexible: flexible.to_vec() }
    }

    /// Adds a line of cells.
    pub fn line(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.lines.push(cells.into_iter().map(Into::into).collect());
    }

    /// Adds text whose cells are separated by tabs.
    pub fn text(&mut self, text: &str) {
        for line in text.split('\n') {
            self.line(line.split('\t'));
        }
    }

    /// Writes the table, at most so many characters wide where flexible columns allow it.
    pub fn render(&self, width: Option<usize>) -> String {
        let mut padding = PADDING;
        let mut widths = self.widths();
        if let Some(width) = width {
            let total = |widths: &[usize], padding: usize| occupied(widths, padding, LEAST);
            if total(&widths, padding) > width {
                padding = 2;
            }
            // The widest gives way first, so that no column is cut more than it must be.
            while total(&widths, padding) > width {
                let widest = self.flexible.iter().copied().filter(|column| *column < widths.len());
                match widest.max_by_key(|column| widths[*column]) {
                    Some(column) if widths[column] > NARROWEST => widths[column] -= 1,
                    _ => break,
                }
            }
        }
        let mut out = String::new();
        for line in &self.lines {
            for (column, cell) in line.iter().enumerate() {
                let cell = cut(cell, widths[column]);
                out.push_str(&cell);
                if column + 1 < line.len() {
                    let full = (widths[column] + padding).max(LEAST);
                    out.extend(std::iter::repeat_n(' ', full.saturating_sub(cell.width())));
                }
            }
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for line in &self.lines {
            for (column, cell) in line.iter().enumerate() {
                if column == widths.len() {
                    widths.push(0);
                }
                widths[column] = widths[column].max(cell.width());
            }
        }
        widths
    }
}

/// How wide a line of such columns is. The last one has nothing after it.
fn occupied(widths: &[usize], padding: usize, least: usize) -> usize {
    match widths.split_last() {
        Some((last, others)) => last + others.iter().map(|width| (width + padding).max(least)).sum::<usize>(),
        None => 0,
    }
}

/// The beginning of a text, ended by `…` where something was left out.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut short, mut used) = (String::new(), 0);
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        short.push(character);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Table {
        let mut table = Table::new(&[0]);
        table.text("REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE");
        table.text("reg.example:5000/x/y\tv1\td12c433258a3\tLess than a second ago\t3B");
        table.text("baz\tlatest\t37525e71b0ca\t1 second ago\t3B");
        table
    }

    #[test]
    fn columns_stand_where_docker_puts_them() {
        let docker = "\
REPOSITORY             TAG       IMAGE ID       CREATED                  SIZE
reg.example:5000/x/y   v1        d12c433258a3   Less than a second ago   3B
baz                    latest    37525e71b0ca   1 second ago             3B
";
        assert_eq!(images().render(None), docker);
        let mut empty = Table::new(&[]);
        empty.text("REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE");
        assert_eq!(empty.render(None), "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_what_may_be_cut() {
        let narrow = images().render(Some(70));
        assert!(narrow.lines().all(|line| line.width() <= 70), "{narrow}");
        assert!(narrow.contains("reg.example") && narrow.contains('…'), "{narrow}");
        assert!(narrow.contains("d12c433258a3"), "ids are never cut: {narrow}");
        assert_eq!(cut("日本語", 5), "日本…");
    }
}
