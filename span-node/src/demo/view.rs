//! The links coming up: live on a terminal, line by line in a pipe, silent for a program.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// What is shown while the demo runs. Output that fails is not worth ending the demo for.
pub(super) struct View {
    style: Style,
    /// By source, then by destination: how long the link took to come up.
    links: Vec<Vec<Option<Duration>>>,
    /// How many lines of the live picture are on the screen.
    drawn: usize,
    stage: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Silent,
    Lines,
    /// One line that counts: the screen is too small for the whole picture.
    Count,
    Matrix {
        color: bool,
    },
}

impl View {
    pub(super) fn new(nodes: u16, silent: bool) -> Self {
        let style = if silent { Style::Silent } else { Style::of_output(nodes) };
        let nodes = usize::from(nodes);
        Self { style, links: vec![vec![None; nodes]; nodes], drawn: 0, stage: String::new() }
    }

    /// Tells what is being done from now on.
    pub(super) fn stage(&mut self, stage: &str) {
        stage.clone_into(&mut self.stage);
        match self.style {
            Style::Silent => {}
            Style::Lines => print(&format!("{stage}\n")),
            Style::Count | Style::Matrix { .. } => self.draw(),
        }
    }

    /// A link came up so long after the last node's start, or went down.
    pub(super) fn link(&mut self, from: u16, to: u16, connected: Option<Duration>) {
        let (from, to) = (usize::from(from) - 1, usize::from(to) - 1);
        self.links[from][to] = connected;
        match self.style {
            Style::Silent => {}
            Style::Lines => self.print_node(from, to),
            Style::Count | Style::Matrix { .. } => self.draw(),
        }
    }

    /// Takes the live picture away, to make room for the table.
    pub(super) fn end(&mut self) {
        if self.drawn > 0 {
            print(&format!("\x1b[{}A\r\x1b[J", self.drawn));
            self.drawn = 0;
        }
        self.style = Style::Silent;
    }

    fn print_node(&self, from: usize, to: usize) {
        let links = &self.links[from];
        if links[to].is_none() {
            print(&format!("node-{} has lost node-{}\n", from + 1, to + 1));
        } else if up(links) == links.len() - 1 {
            let last = links.iter().flatten().max().copied().unwrap_or_default();
            print(&format!("node-{}: all {} links up after {} ms\n", from + 1, up(links), last.as_millis()));
        }
    }

    fn draw(&mut self) {
        let picture = match self.style {
            Style::Silent | Style::Lines => return,
            Style::Count => self.count(),
            Style::Matrix { color } => self.matrix(color),
        };
        let mut frame = String::new();
        if self.drawn > 0 {
            let _ = write!(frame, "\x1b[{}A\r", self.drawn);
        }
        // Each line clears its own rest: clearing all first would flicker.
        for line in picture.lines() {
            let _ = writeln!(frame, "{line}\x1b[K");
        }
        self.drawn = picture.lines().count();
        print(&frame);
    }

    fn count(&self) -> String {
        let nodes = self.links.len();
        let up: usize = self.links.iter().map(|links| up(links)).sum();
        format!("{up}/{} links up, {}\n", nodes * (nodes - 1), self.stage)
    }

    fn matrix(&self, color: bool) -> String {
        let mut picture = self.count();
        for (from, links) in self.links.iter().enumerate() {
            let _ = write!(picture, "  node-{:<3}", from + 1);
            for (to, connected) in links.iter().enumerate() {
                picture.push_str(match (from == to, connected, color) {
                    (true, _, _) => "  ",
                    (false, Some(_), true) => " \x1b[32m\u{25cf}\x1b[0m",
                    (false, Some(_), false) => " \u{25cf}",
                    (false, None, true) => " \x1b[2m\u{25cb}\x1b[0m",
                    (false, None, false) => " \u{25cb}",
                });
            }
            if let Some(last) = links.iter().flatten().max() {
                let _ = write!(picture, "  {:>5} ms", last.as_millis());
            }
            picture.push('\n');
        }
        picture
    }
}

impl Style {
    fn of_output(nodes: u16) -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() || env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return Style::Lines;
        }
        let (rows, columns) = match rustix::termios::tcgetwinsize(&stdout) {
            Ok(size) if size.ws_row > 0 => (size.ws_row, size.ws_col),
            Ok(_) | Err(_) => (24, 80),
        };
        // A picture that scrolls or wraps could not be drawn over.
        if rows < nodes + 3 || columns < nodes * 2 + 22 {
            return Style::Count;
        }
        Style::Matrix { color: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }
}

fn up(links: &[Option<Duration>]) -> usize {
    links.iter().flatten().count()
}

fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_fits_what_was_asked_of_the_screen() {
        let mut view = View::new(64, true);
        view.stage = "waiting for the mesh".to_owned();
        for from in 0..64 {
            view.links[from] = vec![Some(Duration::from_millis(99_999)); 64];
        }
        let picture = view.matrix(false);
        assert_eq!(picture.lines().count(), 65);
        assert!(picture.lines().all(|line| line.chars().count() <= 64 * 2 + 22), "{picture}");
    }

    #[test]
    fn links_that_stand_are_full_dots() {
        let mut view = View::new(3, true);
        view.link(1, 2, Some(Duration::from_millis(7)));
        view.link(3, 1, Some(Duration::from_millis(8)));
        view.link(3, 1, None);
        let picture = view.matrix(false);
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines[0], "1/6 links up, ");
        assert_eq!(lines[1], "  node-1     \u{25cf} \u{25cb}      7 ms");
        assert_eq!(lines[3], "  node-3   \u{25cb} \u{25cb}  ");
    }
}
