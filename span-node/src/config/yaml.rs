//! YAML as a tree in which everything knows its place, so that a bad value can be pointed at.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle};
use zeroize::Zeroizing;

use super::problem::{Fault, Position, Problem};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// Text that is not taken for a number or a truth value before someone asks for one.
#[derive(Debug)]
pub(super) struct Scalar {
    /// Any of it may be a secret.
    pub(super) text: Zeroizing<String>,
    /// Written without quotes or tag: may stand for nothing, a truth value or a number.
    pub(super) plain: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) value: Rc<Node>,
}

impl Node {
    /// Whether the value is left out: `key:`, `key: ~` or `key: null`.
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => {
                scalar.plain && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// What a person would call it.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(_) if self.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a section with fields",
        }
    }
}

/// Deepest nesting taken: no configuration comes near.
const MAX_DEPTH: usize = 64;

/// The documents of a stream, without the empty ones.
pub(super) fn documents(text: &str) -> Result<Vec<Rc<Node>>, Problem> {
    // Limits of the scanner's own are kept; only the nesting is told to be less.
    let mut options = Options::default();
    options.block_nesting_limit = MAX_DEPTH;
    options.flow_nesting_limit = MAX_DEPTH;
    let mut documents = Vec::new();
    let mut composer = Composer::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax(error.marker(), error.info()))?;
        if let Some(root) = composer.take(event, &span.start)?
            && !root.is_null()
        {
            documents.push(root);
        }
    }
    Ok(documents)
}

/// Builds nodes from the parser's events.
#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    /// Nodes that can be referred to. They are shared, not copied, so that a small file stays small.
    anchors: HashMap<usize, Rc<Node>>,
}

/// A list or section that is not yet complete.
struct Open {
    at: Position,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, seen: HashMap<String, usize>, key: Option<(String, Position)> },
}

impl Composer {
    /// Takes one event; gives a document's root when it is complete.
    fn take(&mut self, event: Event<'_>, mark: &Marker) -> Result<Option<Rc<Node>>, Problem> {
        let at = Position::from(mark);
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(None)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let text = Zeroizing::new(text.into_owned());
                self.complete(Node { at, value: Value::Scalar(Scalar { text, plain }) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { at, anchor, content: Content::List(Vec::new()) });
                Ok(None)
            }
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.open.push(Open { at, anchor, content });
                Ok(None)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { at, anchor, content }) => {
                    let value = match content {
                        Content::List(items) => Value::List(items),
                        Content::Map { entries, .. } => Value::Map(entries),
                    };
                    self.complete(Node { at, value }, anchor)
                }
                None => Ok(None),
            },
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(node) => self.place(node, at),
                None => Err(syntax(mark, "an alias inside of what it stands for")),
            },
            // The parser is not asked for the rest, or it carries no value.
            _ => Ok(None),
        }
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<Option<Rc<Node>>, Problem> {
        let at = node.at;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, at)
    }

    /// Puts a complete node where it belongs; a root belongs nowhere and is given back.
    fn place(&mut self, node: Rc<Node>, at: Position) -> Result<Option<Rc<Node>>, Problem> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => return Ok(Some(node)),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, seen, key }) => match key.take() {
                Some((key, at)) => entries.push(Entry { key, at, value: node }),
                None => {
                    let Value::Scalar(scalar) = &node.value else {
                        return Err(Problem::syntax(
                            at,
                            "a field must be named by text, not by a list or a section",
                        ));
                    };
                    let name = scalar.text.to_string();
                    if let Some(first) = seen.insert(name.clone(), at.line) {
                        return Err(Problem::new(at, &name, Fault::Twice { first }));
                    }
                    *key = Some((name, at));
                }
            },
        }
        Ok(None)
    }
}

fn syntax(mark: &Marker, text: impl Into<String>) -> Problem {
    Problem::syntax(Position::from(mark), text)
}

impl From<&Marker> for Position {
    fn from(mark: &Marker) -> Self {
        Position { line: mark.line(), column: mark.col() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line, with the place of every value.
    fn show(node: &Node) -> String {
        let Position { line, column } = node.at;
        match &node.value {
            Value::Scalar(scalar) => {
                format!("{:?}{}@{line}:{column}", *scalar.text, if scalar.plain { "" } else { "q" })
            }
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| show(item)).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Map(entries) => {
                let fields: Vec<_> =
                    entries.iter().map(|entry| format!("{}={}", entry.key, show(&entry.value))).collect();
                format!("{{{}}}", fields.join(" "))
            }
        }
    }

    fn parse(text: &str) -> Result<Vec<String>, String> {
        let documents = documents(text).map_err(|problem| problem.to_string())?;
        Ok(documents.iter().map(|document| show(document)).collect())
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nb:\n  - 'x'\n  - {c: ~, d: \"2\"}\n---\n# nothing here\n---\n- yes\n";
        let expected = [r#"{a="1"@1:4 b=["x"q@3:5 {c="~"@4:9 d="2"q@4:15}]}"#, r#"["yes"@8:3]"#];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn aliases_stand_for_what_was_named() {
        assert_eq!(parse("a: &n [x]\nb: *n\n").unwrap(), [r#"{a=["x"@1:8] b=["x"@1:8]}"#]);
        assert!(parse("a: *nobody\n").is_err());
        assert!(parse("a: &n [*n]\n").is_err());
    }

    #[test]
    fn an_expanding_file_stays_small() {
        let mut text = String::from("a0: &a0 [x, x]\n");
        for level in 1..60 {
            let below = level - 1;
            text += &format!("a{level}: &a{level} [*a{below}, *a{below}]\n");
        }
        assert_eq!(documents(&text).unwrap().len(), 1);
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        assert!(documents(&"[".repeat(100_000)).is_err());
        assert!(documents(&"- ".repeat(100_000)).is_err());
        assert!(documents(&format!("{}{}", "{a: ".repeat(50), "}".repeat(50))).is_ok());
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, expected) in [
            ("a: 1\na: 2\n", "2:1: a: given twice, first in line 1; keep one of them"),
            (
                "a: 1\n? [b]\n: 2\n",
                "2:3: not usable YAML: a field must be named by text, not by a list or a section",
            ),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text:?}");
        }
        for (text, place) in [("a: [1\n", "1:4: "), ("a:\n\t- b\n", "2:2: "), ("a: 'x\n", ""), ("}", "1:1: ")]
        {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(place) && error.contains("not usable YAML"), "{text:?}: {error}");
        }
    }
}
