//! The control socket: a local program asks with one line, the node answers with one JSON document.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest question.
const QUESTION: u64 = 1024;

/// How long a client may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait after the system could not give a connection.
const REST: Duration = Duration::from_millis(100);

/// The listening socket; removed when dropped.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// Who is being answered.
    client: Mutex<Option<UnixStream>>,
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends [`Control::serve`] from another thread.
pub(super) struct Stopper {
    listener: UnixListener,
    shared: Arc<Shared>,
}

impl Stopper {
    pub(super) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // A client that dawdles is not waited for. One that has gone needs no hanging up.
        if let Some(client) = &*self.shared.client() {
            let _ = client.shutdown(Shutdown::Both);
        }
        // Wakes the thread that waits for a client, whatever became of the path. One that has ended needs no waking.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Control {
    /// Listens at `path`, readable and writable by this user alone. A socket that a crash left behind is
    /// replaced, one that answers is not.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another node answers there"));
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Control { listener, path: path.to_owned(), shared: Arc::default() })
    }

    pub(super) fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { listener: self.listener.try_clone()?, shared: Arc::clone(&self.shared) })
    }

    /// Answers clients, one after the other, until stopped.
    pub(super) fn serve(&self, answer: impl Fn(&str) -> String) {
        for client in self.listener.incoming() {
            // Told first, so that a stop from here on hangs up on it.
            *self.shared.client() = client.as_ref().ok().and_then(|client| client.try_clone().ok());
            if self.shared.stopping.load(Ordering::Acquire) {
                break;
            }
            match client {
                // A client that went away or stalls has only itself to blame.
                Ok(client) => drop(attend(client, &answer)),
                // Descriptors may be short for a while.
                Err(_) => std::thread::sleep(REST),
            }
            *self.shared.client() = None;
        }
        *self.shared.client() = None;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Someone may have removed it already.
        let _ = fs::remove_file(&self.path);
    }
}

fn attend(mut client: UnixStream, answer: &impl Fn(&str) -> String) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new((&client).take(QUESTION)).read_line(&mut question)?;
    client.write_all(answer(question.trim_end()).as_bytes())
}

/// Asks the node behind the socket at `path`.
pub(crate) fn ask(path: &Path, question: &str) -> io::Result<String> {
    let mut node = UnixStream::connect(path)?;
    node.set_read_timeout(Some(PATIENCE))?;
    node.set_write_timeout(Some(PATIENCE))?;
    node.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    node.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_a_live_socket_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/span0.sock");
        let control = Control::bind(&path).unwrap();
        let stopper = control.stopper().unwrap();
        let server = std::thread::spawn(move || control.serve(str::to_uppercase));
        assert_eq!(ask(&path, "peers").unwrap(), "PEERS");
        assert_eq!(Control::bind(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        stopper.stop();
        server.join().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_somebody_removed_does_not_hold_up_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("span0.sock");
        let control = Control::bind(&path).unwrap();
        let stopper = control.stopper().unwrap();
        let server = std::thread::spawn(move || control.serve(str::to_uppercase));
        assert_eq!(ask(&path, "peers").unwrap(), "PEERS");
        fs::remove_file(&path).unwrap();
        stopper.stop();
        server.join().unwrap();
    }

    #[test]
    fn a_client_that_never_asks_does_not_hold_up_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("span0.sock");
        let control = Control::bind(&path).unwrap();
        let stopper = control.stopper().unwrap();
        let server = std::thread::spawn(move || control.serve(str::to_uppercase));
        let mut silent = UnixStream::connect(&path).unwrap();
        silent.write_all(b"sta").unwrap();
        while stopper.shared.client().is_none() {
            std::thread::yield_now();
        }
        stopper.stop();
        server.join().unwrap();
        // Hung up on, with or without an answer to half a question.
        match silent.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => {}
        }
    }

    #[test]
    fn a_socket_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("span0.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Control::bind(&path).unwrap();
    }
}
