//! Tables and lists of properties, aligned for people and plain enough for `grep` and `awk`.

use std::io::{self, IsTerminal, Write};

use clap::builder::styling::{Effects, Style};
use unicode_width::UnicodeWidthStr;

use crate::show::harmless;

/// Rows under headings. Columns of numbers are aligned to the right.
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [Column; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

/// A heading and how the cells below it are aligned.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(columns: [Column; COLUMNS]) -> Table<COLUMNS> {
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row. What could steer a terminal is written out, and a line break would break the table.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| harmless(&cell).replace(['\n', '\t'], " ")));
    }

    /// Writes it to stdout, or `nothing` if it has no rows.
    pub(crate) fn print(&self, nothing: &str) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.rows.is_empty() {
            true => writeln!(out, "{nothing}")?,
            false => self.write(&mut out, heading_style())?,
        }
        out.flush()
    }

    fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let headings = self.columns.map(|(Column::Text(name) | Column::Number(name))| name.to_owned());
        let mut widths = [0; COLUMNS];
        for row in std::iter::once(&headings).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        writeln!(out, "{style}{}{style:#}", self.line(&headings, &widths))?;
        self.rows.iter().try_for_each(|row| writeln!(out, "{}", self.line(row, &widths)))
    }

    fn line(&self, cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
        let mut line = String::new();
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            match column {
                Column::Text(_) => line.extend([cell, pad.as_str(), GAP]),
                Column::Number(_) => line.extend([pad.as_str(), cell, GAP]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Properties by name, in sections.
pub(crate) struct Sheet {
    title: String,
    lines: Vec<Line>,
}

enum Line {
    Section(&'static str),
    Property(String, String),
}

impl Sheet {
    pub(crate) fn new(title: impl Into<String>) -> Sheet {
        Sheet { title: title.into(), lines: Vec::new() }
    }

    pub(crate) fn section(&mut self, name: &'static str) {
        self.lines.push(Line::Section(name));
    }

    /// Adds a property.
    pub(crate) fn say(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.lines.push(Line::Property(name.into(), value.into()));
    }

    /// Adds a property unless its value is empty.
    pub(crate) fn say_if(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.say(name, value);
        }
    }

    /// Writes it to stdout.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        self.write(&mut out, heading_style())?;
        out.flush()
    }

    fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let names = self.lines.iter().filter_map(|line| match line {
            Line::Property(name, _) => Some(name.width()),
            Line::Section(_) => None,
        });
        let width = names.max().unwrap_or(0);
        writeln!(out, "{style}{}{style:#}", harmless(&self.title))?;
        for line in &self.lines {
            match line {
                Line::Section(name) => writeln!(out, "\n{style}{name}{style:#}")?,
                Line::Property(name, value) => {
                    let pad = " ".repeat(width.saturating_sub(name.width()));
                    writeln!(out, "  {}{pad}{GAP}{}", harmless(name), harmless(value))?;
                }
            }
        }
        Ok(())
    }
}

/// Bold on a terminal whose user wants colours.
fn heading_style() -> Style {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match io::stdout().is_terminal() && wanted {
        true => Style::new().effects(Effects::BOLD),
        false => Style::new(),
    }
}

const GAP: &str = "  ";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table =
            Table::new([Column::Text("NAME"), Column::Number("MESSAGES"), Column::Text("SUBJECTS")]);
        table.row(["über".into(), "1,204".into(), "a.>".into()]);
        table.row(["温度計".into(), "7".into(), "b\x1b[2J\nc".into()]);
        let text = written(|out| table.write(out, Style::new()));
        assert_eq!(
            text,
            "NAME    MESSAGES  SUBJECTS\nüber       1,204  a.>\n温度計         7  b\\u{1b}[2J c\n"
        );
    }

    #[test]
    fn properties_are_aligned_over_all_sections() {
        let mut sheet = Sheet::new("Stream A");
        sheet.section("State");
        sheet.say("Messages", "1");
        sheet.say_if("Description", "");
        sheet.say("Size", "2 B");
        let text = written(|out| sheet.write(out, Style::new()));
        assert_eq!(text, "Stream A\n\nState\n  Messages  1\n  Size      2 B\n");
    }
}
