//! Files that only their owner can read, and that are never half written.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::StateError;

const DIRECTORY: u32 = 0o700;
const FILE: u32 = 0o600;

/// Makes `directory` for its owner alone, or checks that it is.
pub(super) fn make_directory(directory: &Path) -> Result<(), StateError> {
    let make = |source| StateError::Make { path: directory.to_owned(), source };
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(make)?;
    }
    match DirBuilder::new().mode(DIRECTORY).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::metadata(directory).map_err(make)?;
            if !metadata.is_dir() {
                return Err(make(io::ErrorKind::NotADirectory.into()));
            }
            for_owner_alone(directory, &metadata.permissions(), DIRECTORY)
        }
        Err(error) => Err(make(error)),
    }
}

/// Takes the directory for this process as long as the file is open.
pub(super) fn lock(directory: &Path) -> Result<File, StateError> {
    let path = directory.join("lock");
    let write = |source| StateError::Write { path: path.clone(), source };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(FILE);
    let mut file = options.open(&path).map_err(write)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0).map_err(write)?;
            // For a person to read; what locks is the lock.
            writeln!(file, "{}", std::process::id()).map_err(write)?;
            Ok(file)
        }
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = (&mut file).take(16).read_to_string(&mut pid);
            Err(StateError::InUse { path: directory.to_owned(), pid: pid.trim().parse().ok() })
        }
        Err(error) => Err(write(error.into())),
    }
}

/// The text of a file that only its owner may read; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, StateError> {
    /// Far more than any file of ours.
    const LARGEST: u64 = 64 << 10;
    let unreadable = |source| StateError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    for_owner_alone(path, &file.metadata().map_err(unreadable)?.permissions(), FILE)?;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(LARGEST).read_to_string(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

/// Replaces the file by `text`. After a crash at any moment there is the old file or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), StateError> {
    let fresh = beside(path);
    let replaced = write_synced(&fresh, text).and_then(|()| fs::rename(&fresh, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    replaced.map_err(|source| StateError::Write { path: path.to_owned(), source })?;
    // Makes the new name last. Some file systems cannot, and the rename holds anyway.
    if let Some(Ok(directory)) = path.parent().map(File::open) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// The value of `name` in lines of `name: value`.
pub(super) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::trim))
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE).open(path)?;
    // A leftover keeps the mode it had.
    file.set_permissions(Permissions::from_mode(FILE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn for_owner_alone(path: &Path, permissions: &Permissions, wanted: u32) -> Result<(), StateError> {
    let mode = permissions.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(StateError::Exposed { path: path.to_owned(), mode, wanted })
}
