//! Reads sections field by field: what nobody asked for is what does not exist.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::problem::{Fault, Position, Problem, Warning};
use super::suggest::closest;
use super::yaml::{Entry, Node, Value};

/// What was found out while reading.
#[derive(Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// Parts of a Talos configuration that are not for Span.
    pub(super) ignored: Vec<String>,
}

impl Report {
    pub(super) fn problem(&mut self, at: Position, field: &str, fault: Fault) {
        self.problems.push(Problem::new(at, field, fault));
    }

    pub(super) fn warn(&mut self, field: &Field<'_>, text: &'static str) {
        self.warnings.push(Warning { at: field.at, field: field.path.clone(), text });
    }
}

/// A section and which of its fields were asked for.
pub(super) struct Section<'t> {
    /// Its full name; empty for a document.
    path: String,
    entries: &'t [Entry],
    asked: Vec<&'static str>,
}

/// A field that has a value.
pub(super) struct Field<'t> {
    pub(super) path: String,
    /// Where its name stands.
    pub(super) at: Position,
    pub(super) node: &'t Node,
}

impl<'t> Section<'t> {
    /// The fields of `node`, if it has fields.
    pub(super) fn new(node: &'t Node, path: &str, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Section { path: path.to_owned(), entries, asked: Vec::new() }),
            Value::Scalar(_) | Value::List(_) => {
                let fault = Fault::Shape { expected: "a section with fields", found: node.kind() };
                report.problem(node.at, path, fault);
                None
            }
        }
    }

    /// The field called `name`, if it is there and not empty.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Field<'t>> {
        self.asked.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        let field = Field { path: self.name_of(name), at: entry.at, node: &entry.value };
        (!entry.value.is_null()).then_some(field)
    }

    /// The section called `name`, if it is there.
    pub(super) fn section(&mut self, name: &'static str, report: &mut Report) -> Option<Section<'t>> {
        let field = self.get(name)?;
        Section::new(field.node, &field.path, report)
    }

    /// Every other field is a mistake.
    pub(super) fn finish(self, report: &mut Report) {
        for entry in self.others() {
            let suggestion = closest(&entry.key, &self.asked).map(str::to_owned);
            let mut known = self.asked.clone();
            known.sort_unstable();
            let fault = Fault::UnknownField { suggestion, known };
            report.problem(entry.at, &self.name_of(&entry.key), fault);
        }
    }

    /// Other fields are Talos' and none of Span's business, unless they look like a slip.
    pub(super) fn finish_beside(self, talos: &[&str], report: &mut Report) {
        for entry in self.others() {
            let name = self.name_of(&entry.key);
            let suggestion =
                closest(&entry.key, &self.asked).filter(|_| !talos.contains(&entry.key.as_str()));
            // A merge key may bring any field with it.
            if suggestion.is_some() || entry.key == "<<" {
                let fault = Fault::UnknownField {
                    suggestion: suggestion.map(str::to_owned),
                    known: self.asked.clone(),
                };
                report.problem(entry.at, &name, fault);
            } else {
                report.ignored.push(name);
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = &'t Entry> {
        self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str()))
    }

    fn name_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }
}

impl<'t> Field<'t> {
    /// The value as it is written.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'t str> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Map(_) => {
                self.shape("a single value", report);
                None
            }
        }
    }

    /// The value as `parse` has it, which says what is wrong and what to write instead.
    pub(super) fn parse_with<T>(
        &self,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(report)?;
        let fault = |reason| Fault::Value { value: Some(text.to_owned()), reason };
        self.checked(parse(text).map_err(fault), report)
    }

    /// As [`parse_with`](Field::parse_with), without the value in the error.
    pub(super) fn secret_with<T>(
        &self,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(report)?;
        self.checked(parse(text).map_err(|reason| Fault::Value { value: None, reason }), report)
    }

    /// A truth value, in the words Talos takes.
    pub(super) fn boolean(&self, report: &mut Report) -> Option<bool> {
        let quoted = matches!(&self.node.value, Value::Scalar(scalar) if !scalar.plain);
        self.parse_with(report, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" if !quoted => Ok(true),
            "false" | "no" | "off" | "n" if !quoted => Ok(false),
            _ => Err("is no truth value; write true or false, without quotes".to_owned()),
        })
    }

    /// A whole number of `range`; `else_say` what is wrong with others.
    pub(super) fn integer<T>(
        &self,
        report: &mut Report,
        range: RangeInclusive<T>,
        else_say: &'static str,
    ) -> Option<T>
    where
        T: FromStr + PartialOrd,
    {
        self.parse_with(report, |text| match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            Ok(_) | Err(_) => Err(else_say.to_owned()),
        })
    }

    /// Every item of a list; items that are wrong are reported and left out.
    pub(super) fn list<T>(
        &self,
        report: &mut Report,
        mut item: impl FnMut(&Field<'t>, &mut Report) -> Option<T>,
    ) -> Vec<T> {
        let Value::List(nodes) = &self.node.value else {
            self.shape("a list, each item in a line of its own after `- `", report);
            return Vec::new();
        };
        let fields = nodes.iter().enumerate().map(|(index, node)| Field {
            path: format!("{}[{index}]", self.path),
            at: node.at,
            node,
        });
        fields.filter_map(|field| item(&field, report)).collect()
    }

    fn shape(&self, expected: &'static str, report: &mut Report) {
        report.problem(self.node.at, &self.path, Fault::Shape { expected, found: self.node.kind() });
    }

    fn checked<T>(&self, result: Result<T, Fault>, report: &mut Report) -> Option<T> {
        result.map_err(|fault| report.problem(self.node.at, &self.path, fault)).ok()
    }
}
