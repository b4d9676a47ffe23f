use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::interface::InterfaceName;

/// Where `wg` looks for the sockets.
pub const DIRECTORY: &str = "/var/run/wireguard";

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The directory cannot be made or opened.
    #[error("cannot use the directory {path}: {source}; are you root?", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A running program answers there.
    #[error("{path} is in use: another program serves this interface; stop it or choose another name", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{path} exists and is not a socket; remove it", path = path.display())]
    NotASocket {
        /// Where the socket should be.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot make the socket {path}: {source}", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A listening socket with a name in the file system, which goes when it does.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode: the name may have become another's meanwhile.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `directory/interface.sock`, for root alone, replacing what a crash left behind.
    pub(super) fn bind(directory: &Path, interface: &InterfaceName) -> Result<Self, BindError> {
        let path = directory.join(format!("{interface}.sock"));
        let in_directory = |source| BindError::Directory { path: directory.into(), source };
        fs::create_dir_all(directory).map_err(in_directory)?;
        let lock = File::open(directory).map_err(in_directory)?;
        // Two starting at once must not both find the same leftover and the second remove the first's.
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| in_directory(error.into()))?;

        let with_path = |source| BindError::Socket { path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket { path }),
            Ok(_) => match UnixStream::connect(&path) {
                Ok(_) => return Err(BindError::InUse { path }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(&path).map_err(with_path)?;
                }
                Err(error) => return Err(with_path(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(with_path(error)),
        }
        let listener = listen(directory, &path).map_err(with_path)?;
        let identity = identity(&path).map_err(with_path)?;
        Ok(Socket { path, listener, identity })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name still leads here.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens under a name of its own first: `wg` removes a socket that refuses it, and until `listen` it would.
fn listen(directory: &Path, path: &Path) -> io::Result<UnixListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let unnamed = directory.join(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&unnamed);
    rustix::net::bind(&socket, &SocketAddrUnix::new(&unnamed)?)?;
    // Nobody can connect before `listen`, so there is no moment at which others could.
    let named = rustix::fs::chmod(&unnamed, Mode::RUSR | Mode::WUSR)
        .and_then(|()| rustix::net::listen(&socket, 16))
        .and_then(|()| rustix::fs::rename(&unnamed, path));
    if let Err(error) = named {
        let _ = fs::remove_file(&unnamed);
        return Err(error.into());
    }
    Ok(socket.into())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn wg0() -> InterfaceName {
        "wg0".parse().unwrap()
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_server() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("wireguard");
        let socket = Socket::bind(&directory, &wg0()).unwrap();
        let path = directory.join("wg0.sock");
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o022, 0);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let first = Socket::bind(home.path(), &wg0()).unwrap();
        let error = Socket::bind(home.path(), &wg0()).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("is in use"));
        assert!(first.is_in_place());
    }

    #[test]
    fn a_dead_socket_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("wg0.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = Socket::bind(home.path(), &wg0()).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("wg0.sock"), "precious").unwrap();
        let error = Socket::bind(home.path(), &wg0()).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert!(home.path().join("wg0.sock").exists());
    }

    #[test]
    fn a_successors_socket_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let first = Socket::bind(home.path(), &wg0()).unwrap();
        fs::remove_file(home.path().join("wg0.sock")).unwrap();
        assert!(!first.is_in_place());
        let second = Socket::bind(home.path(), &wg0()).unwrap();
        drop(first);
        assert!(second.is_in_place());
    }
}
