//! Text in columns.

use std::fmt::Write as _;

use super::format::harmless;

/// Rows of equally many cells, the first of them the heading.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Table { rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| harmless(&cell)).collect());
    }

    /// The rows as lines, each column as wide as its widest cell, two spaces apart.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |cell: &String| cell.chars().count();
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(width).max();
        let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["büro-7".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME    X\na       1\nbüro-7\n");
    }
}
