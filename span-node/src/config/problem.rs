use std::fmt;
use std::path::PathBuf;

/// A place in a file, counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Why a configuration cannot be used: everything that is wrong with it, in the order of the file.
///
/// Prints one line for each problem: `FILE:LINE:COLUMN: FIELD: what is wrong; what to do`. Values of
/// secret fields are never part of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// What it says makes no sense.
    Invalid {
        /// The file, where the text came from one.
        file: Option<PathBuf>,
        /// Everything that is wrong; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Position,
    /// The field's full name, such as `machine.network.kubespan.mtu`; empty for the document itself.
    pub field: String,
    /// What.
    pub fault: Fault,
}

/// Something in the configuration that has no effect, and what would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub at: Position,
    /// The field's full name.
    pub field: String,
    /// What is the matter and what to do.
    pub text: &'static str,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The text is not YAML, or not of a shape that configurations have.
    #[error("not usable YAML: {0}")]
    Syntax(String),
    /// There is no such field.
    #[error("no such field{}", suggest(.suggestion.as_deref(), .known))]
    UnknownField {
        /// What may have been meant.
        suggestion: Option<String>,
        /// The fields there are.
        known: Vec<&'static str>,
    },
    /// There is no such kind of document.
    #[error("no such kind of document{}", suggest(.suggestion.as_deref(), .known))]
    UnknownKind {
        /// What may have been meant.
        suggestion: Option<String>,
        /// The kinds there are.
        known: Vec<&'static str>,
    },
    /// The same field twice.
    #[error("given twice, first in line {first}; keep one of them")]
    Twice {
        /// The line of the first.
        first: usize,
    },
    /// Another shape was expected, such as a list.
    #[error("expected {expected}, found {found}")]
    Shape {
        /// What should stand here.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// The value does not do.
    #[error("{}{reason}", quote(.value.as_deref()))]
    Value {
        /// The value, unless it is secret.
        value: Option<String>,
        /// What is wrong with it and what to write instead.
        reason: String,
    },
    /// A field that must be there is not.
    #[error("is missing; {0}")]
    Missing(&'static str),
    /// Two places say the same thing in two ways.
    #[error("already configured by {other} in line {line}; remove one of them")]
    Conflict {
        /// The other place.
        other: String,
        /// Its line.
        line: usize,
    },
    /// Understood, but nothing Span can follow.
    #[error("{0}")]
    Refused(&'static str),
}

impl Problem {
    pub(super) fn new(at: Position, field: &str, fault: Fault) -> Self {
        Problem { at, field: field.to_owned(), fault }
    }

    pub(super) fn syntax(at: Position, text: impl Into<String>) -> Self {
        Problem { at, field: String::new(), fault: Fault::Syntax(text.into()) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.at, self.fault),
            field => write!(f, "{}: {field}: {}", self.at, self.fault),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.at, self.field, self.text)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { file, source } => {
                write!(f, "{} cannot be read: {source}", file.display())
            }
            ConfigError::Invalid { file, problems } => {
                let file = file.as_ref().map(|file| format!("{}:", file.display())).unwrap_or_default();
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}{file}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

// The message holds the cause already, so there is no source to print once more.
impl std::error::Error for ConfigError {}

fn suggest(suggestion: Option<&str>, known: &[&str]) -> String {
    match suggestion {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; there is {}", known.join(", ")),
    }
}

fn quote(value: Option<&str>) -> String {
    // A value may be anything: show a line of it at most, and no control characters.
    const SHOWN: usize = 60;
    match value {
        None => String::new(),
        Some(value) => {
            let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
            if value.chars().count() > SHOWN {
                shown.push('…');
            }
            format!("`{shown}` ")
        }
    }
}
