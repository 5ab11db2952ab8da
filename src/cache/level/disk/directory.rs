//! The directory of a disk level: one process uses it, and its file has its whole size from the beginning.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// The values. The number is that of the format: another one never reads this one's file.
const FILE: &str = "values-1";
const LOCK: &str = "values.lock";

/// The directory, locked.
#[derive(Debug)]
pub(super) struct Directory {
    file: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes or takes over the directory, and its file with room for `capacity` bytes. What was stored with another
    /// capacity is given up, because the blocks lie elsewhere.
    ///
    /// The room is taken now: a disk that is full is noticed here, rather than by every write. Blocks on the disk.
    ///
    /// # Errors
    /// When the directory cannot be used, or has too little room, or another process uses it.
    pub(super) fn open(path: &Path, capacity: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it")
            }
            TryLockError::Error(error) => error,
        })?;
        let name = path.join(FILE);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&name)?;
        let before = file.metadata()?.len();
        if before != capacity {
            file.set_len(0)?;
        }
        if let Err(error) = reserve(&file, capacity) {
            // What was reserved is of no use, and others may need the room.
            file.set_len(0)?;
            return Err(error);
        }
        Ok(Self {
            file: name,
            _lock: lock,
        })
    }

    /// The file with the values.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn reserve(file: &File, capacity: u64) -> io::Result<()> {
    let length = i64::try_from(capacity).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        // A file system that cannot reserve: it grows as it is written.
        Err(Errno::EOPNOTSUPP) => file.set_len(capacity),
        reserved => reserved.map_err(io::Error::from),
    }
}
