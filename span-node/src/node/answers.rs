//! Answers to what local programs ask over the control socket.

use crossbeam_channel::bounded;

use super::error::Stopped;
use super::manager::Message;
use super::runtime::Outbox;
use crate::control::Status;

/// Asks the manager how the node is doing.
pub(super) fn status(manager: &Outbox<Message>) -> Result<Status, Stopped> {
    let (answer, receiver) = bounded(1);
    let asked = manager.post(Message::Ask(Box::new(move |manager| {
        // Whoever asked may have given up.
        let _ = answer.send(manager.report());
    })));
    if !asked {
        return Err(Stopped);
    }
    receiver.recv().map_err(|_| Stopped)?
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
