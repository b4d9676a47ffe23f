//! Answers to what local programs ask over the control socket.

use std::sync::mpsc::channel;

use super::error::Stopped;
use super::manager::{Manager, Message};
use super::runtime::Outbox;
use crate::control::Status;

/// Asks the manager how the node is doing.
pub(super) fn status(manager: &Outbox<Message>) -> Result<Status, Stopped> {
    ask(manager, |manager| manager.report())?
}

/// Lets the manager answer a question between two polls.
pub(super) fn ask<R: Send + 'static>(
    manager: &Outbox<Message>,
    question: impl FnOnce(&mut Manager) -> R + Send + 'static,
) -> Result<R, Stopped> {
    let (answer, receiver) = channel();
    let asked = manager.post(Message::Ask(Box::new(move |manager| {
        // Whoever asked may have given up.
        let _ = answer.send(question(manager));
    })));
    if !asked {
        return Err(Stopped);
    }
    receiver.recv().map_err(|_| Stopped)
}

/// The answer to one line: a JSON document.
pub(super) fn answer(manager: &Outbox<Message>, question: &str) -> String {
    match question {
        "status" => match status(manager).map(|status| serde_json::to_string(&status)) {
            Ok(Ok(json)) => json,
            Ok(Err(error)) => refusal(&error.to_string()),
            Err(stopped) => refusal(&stopped.to_string()),
        },
        other => refusal(&format!("the control socket answers `status`, not {other:?}")),
    }
}

fn refusal(error: &str) -> String {
    serde_json::json!({ "error": error }).to_string()
}
