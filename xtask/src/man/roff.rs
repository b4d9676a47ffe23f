//! Writing roff with the macros `man`.

use std::fmt::Write as _;

/// A page that grows.
pub(super) struct Roff(String);

impl Roff {
    pub(super) fn new(name: &str) -> Self {
        let mut roff = Roff(String::new());
        roff.line(".\\\" Written from span.h by: cargo run -p xtask -- man");
        roff.line(&format!(".TH {name} 3 \"\" \"Span {}\" \"Span for C\"", env!("CARGO_PKG_VERSION")));
        roff
    }

    /// A line that is roff already.
    pub(super) fn line(&mut self, line: &str) {
        let _ = writeln!(self.0, "{line}");
    }

    pub(super) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", escaped(title)));
    }

    /// Lines as they stand.
    pub(super) fn code(&mut self, text: &str) {
        self.line(".EX");
        for line in text.lines() {
            self.line(&guarded(escaped(line)));
        }
        self.line(".EE");
    }

    /// Lines of documentation: paragraphs, lists, and what is drawn.
    pub(super) fn prose(&mut self, doc: &[String]) {
        let mut fresh = true;
        let mut drawing = false;
        for line in doc {
            let drawn = line.starts_with("    ");
            if drawn != drawing {
                self.line(if drawn { ".PP\n.EX" } else { ".EE" });
                drawing = drawn;
                fresh = !drawn;
            }
            if drawn {
                self.line(&escaped(&line[2..]));
            } else if line.is_empty() {
                fresh = true;
            } else if let Some(point) = line.strip_prefix("- ") {
                self.line(".IP \\(bu 2");
                self.line(&guarded(marked(point)));
                fresh = false;
            } else {
                if fresh {
                    self.line(".PP");
                }
                self.line(&guarded(marked(line.trim_start())));
                fresh = false;
            }
        }
        if drawing {
            self.line(".EE");
        }
    }

    /// A word and what it means, in paragraphs that belong to it.
    pub(super) fn tagged(&mut self, tag: &str, doc: &[String]) {
        self.line(".TP");
        self.line(&format!("\\fB{}\\fR", escaped(tag)));
        for line in doc {
            if line.is_empty() {
                self.line(".IP");
            } else {
                self.line(&guarded(marked(line)));
            }
        }
    }

    /// A function's declaration, its arguments below each other if it is long.
    pub(super) fn declaration(&mut self, declaration: &str) {
        let one_line = declaration.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some((head, arguments)) = one_line.trim_end_matches(");").split_once('(') else { return };
        let arguments: Vec<String> = arguments.split(", ").map(argument).collect();
        self.line(".PP\n.nf");
        let between = if one_line.len() <= 72 { " " } else { "\n    " };
        let start = if one_line.len() <= 72 { "" } else { "\n    " };
        let _ = writeln!(
            self.0,
            "\\fB{}(\\fR{start}{}\\fB);\\fR",
            escaped(head),
            arguments.join(&format!("\\fB,\\fR{between}"))
        );
        self.line(".fi");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// An argument: its type in bold, its name in italics.
fn argument(text: &str) -> String {
    match text.rfind([' ', '*']) {
        Some(at) => {
            format!("\\fB{}\\fI{}\\fR", escaped(&text[..=at]), escaped(&text[at + 1..]))
        }
        None => format!("\\fB{}\\fR", escaped(text)),
    }
}

/// Text that roff prints as it stands.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '~' => escaped.push_str("\\(ti"),
            '^' => escaped.push_str("\\(ha"),
            '`' => escaped.push_str("\\(ga"),
            '\'' => escaped.push_str("\\(aq"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A line that cannot be taken for a request.
fn guarded(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// Documentation with names of the interface in bold, and what stands in backquotes or between asterisks in italics.
fn marked(text: &str) -> String {
    let mut marked = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let emphasis = ['`', '*'].contains(&letter).then(|| rest[1..].find(letter)).flatten();
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let taken = if let Some(len) = emphasis.filter(|len| *len > 0) {
            let _ = write!(marked, "\\fI{}\\fR", escaped(&rest[1..=len]));
            len + 2
        } else if name > 0 {
            let word = &rest[..name];
            if word.starts_with("span_") || word.starts_with("SPAN_") {
                // Not to be broken where the line ends.
                let _ = write!(marked, "\\%\\fB{word}\\fR");
            } else {
                marked.push_str(word);
            }
            name
        } else {
            marked.push_str(&escaped(&rest[..letter.len_utf8()]));
            letter.len_utf8()
        };
        rest = &rest[taken..];
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_printed_as_it_stands() {
        assert_eq!(guarded(escaped("'a\\n' ~ -1")), "\\(aqa\\en\\(aq \\(ti \\-1");
        assert_eq!(guarded(escaped(".TH")), "\\&.TH");
        assert_eq!(
            marked("see span_node_new, `size` and *arena*, 2 * 3"),
            "see \\%\\fBspan_node_new\\fR, \\fIsize\\fR and \\fIarena\\fR, 2 * 3"
        );
    }
}
