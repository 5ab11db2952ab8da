//! The marks of invalidation in a file, so that a level that outlives the process never gives back what an unsafe
//! request had invalidated before a restart.
//!
//! A mark is one small write at a fixed place, without waiting for the disk: it outlives the process, however that ends.
//! It need not outlive the machine. The file says during which boot it was written and whether it was closed; when the
//! machine went down in between, or anything is wrong with the file, every target counts as invalidated now.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::clock::Timestamp;

const NAME: &str = "invalidations-1";
/// What changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A place: eight bytes, and a checksum over them and their number.
const PLACE: usize = 16;
/// The first word of the first place, according to how the file was left.
const OPEN: u64 = u64::from_le_bytes(*b"outrig_o");
const CLOSED: u64 = u64::from_le_bytes(*b"outrig_c");

/// The open file.
#[derive(Debug)]
pub(super) struct Marks {
    path: PathBuf,
    /// None once a write has failed.
    file: Mutex<Option<File>>,
}

impl Marks {
    /// Opens the file in `dir` and reads its marks, in microseconds, one for each of `count` numbers. The last one is
    /// about everything.
    ///
    /// # Errors
    /// When there can be no file.
    pub(super) fn open(dir: &Path, count: usize, now: Timestamp) -> io::Result<(Self, Vec<u64>)> {
        fs::create_dir_all(dir)?;
        let path = dir.join(NAME);
        let boot = boot();
        let marks = match fs::read(&path) {
            Ok(bytes) => parse(&bytes, count, boot, now),
            Err(_) => None,
        };
        // What is not known may have been invalidated at any time.
        let marks = marks.unwrap_or_else(|| {
            let mut marks = vec![0; count];
            if let Some(last) = marks.last_mut() {
                *last = now.as_micros();
            }
            marks
        });
        let new = dir.join(format!("{NAME}.new"));
        let mut bytes = head(OPEN, boot);
        for (number, mark) in marks.iter().enumerate() {
            bytes.extend_from_slice(&place(number, *mark));
        }
        fs::write(&new, &bytes)?;
        let file = File::options().read(true).write(true).open(&new)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()?;
        let marks_file = Self {
            path,
            file: Mutex::new(Some(file)),
        };
        Ok((marks_file, marks))
    }

    /// Writes the mark with this number, which is read under the lock, so that an older one never overwrites it.
    pub(super) fn write(&self, number: usize, mark: impl FnOnce() -> u64) {
        let mut slot = self.file.lock();
        let Some(file) = &*slot else { return };
        let at = (head_len() + number * PLACE) as u64;
        if let Err(error) = file.write_all_at(&place(number, mark()), at) {
            tracing::error!(%error, path = %self.path.display(), "invalidations are not kept; a restart will invalidate everything");
            *slot = None;
            // Without a file nothing is believed.
            if let Err(error) = fs::remove_file(&self.path) {
                tracing::error!(%error, path = %self.path.display(), "the file of invalidations cannot be removed");
            }
        }
    }

    /// The last call: the marks are on the disk.
    pub(super) fn close(&self) {
        let Some(file) = self.file.lock().take() else {
            return;
        };
        let closed = file
            .sync_all()
            .and_then(|()| file.write_all_at(&head(CLOSED, boot()), 0))
            .and_then(|()| file.sync_all());
        if let Err(error) = closed {
            tracing::warn!(%error, path = %self.path.display(), "the file of invalidations was not closed");
        }
    }
}

/// The marks; none if they cannot be believed.
fn parse(bytes: &[u8], count: usize, boot: Option<u64>, now: Timestamp) -> Option<Vec<u64>> {
    let (found, places) = bytes.split_at_checked(head_len())?;
    let same_boot = boot.is_some() && found == head(OPEN, boot);
    let (state, _) = found.split_first_chunk::<8>()?;
    let was_closed = u64::from_le_bytes(*state) == CLOSED && {
        let at = found.get(PLACE..PLACE + 8)?.try_into().ok()?;
        found == head(CLOSED, Some(u64::from_le_bytes(at)))
    };
    if !(same_boot || was_closed) || places.len() != count * PLACE {
        return None;
    }
    let mark = |(number, found): (usize, &[u8])| {
        let (mark, _) = found.split_first_chunk::<8>()?;
        let mark = u64::from_le_bytes(*mark);
        Some(if found == place(number, mark) {
            mark
        } else {
            now.as_micros()
        })
    };
    places.chunks_exact(PLACE).enumerate().map(mark).collect()
}

/// Two places: the state, and the boot during which it was written.
fn head(state: u64, boot: Option<u64>) -> Vec<u8> {
    let mut bytes = place(usize::MAX, state).to_vec();
    bytes.extend_from_slice(&place(usize::MAX - 1, boot.unwrap_or_default()));
    bytes
}

const fn head_len() -> usize {
    2 * PLACE
}

fn place(number: usize, value: u64) -> [u8; PLACE] {
    let mut bytes = [0; PLACE];
    let (data, check) = bytes.split_at_mut(8);
    data.copy_from_slice(&value.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(number as u64).to_le_bytes());
    hasher.update(data);
    let digest = hasher.finalize();
    check.copy_from_slice(digest.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
    bytes
}

fn boot() -> Option<u64> {
    let id = fs::read(BOOT_ID).ok()?;
    let digest = blake3::hash(&id);
    digest
        .as_bytes()
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const LATER: Timestamp = Timestamp::from_secs(2000);

    fn open(dir: &TempDir, now: Timestamp) -> (Marks, Vec<u64>) {
        Marks::open(dir.path(), 4, now).unwrap()
    }

    fn damage(dir: &TempDir, change: impl FnOnce(&mut Vec<u8>)) {
        let path = dir.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// A file whose marks are 0, 7, 0, 0, left open or closed.
    fn written(closed: bool) -> TempDir {
        let dir = TempDir::new().unwrap();
        let (first, found) = open(&dir, NOW);
        assert_eq!(
            found,
            [0, 0, 0, NOW.as_micros()],
            "without a file everything counts"
        );
        for number in 0..4 {
            first.write(number, || u64::from(number == 1) * 7);
        }
        if closed {
            first.close();
        }
        dir
    }

    #[test]
    fn marks_outlive_the_process_however_it_ends() {
        for closed in [true, false] {
            assert_eq!(open(&written(closed), LATER).1, [0, 7, 0, 0], "closed: {closed}");
        }
    }

    #[test]
    fn after_another_start_of_the_machine_only_a_closed_file_is_believed() {
        for (closed, expected) in [(true, [0, 7, 0, 0]), (false, [0, 0, 0, LATER.as_micros()])] {
            let dir = written(closed);
            let state = if closed { CLOSED } else { OPEN };
            damage(&dir, |bytes| {
                bytes[..head_len()].copy_from_slice(&head(state, Some(1)))
            });
            assert_eq!(open(&dir, LATER).1, expected, "closed: {closed}");
        }
    }

    #[test]
    fn a_damaged_mark_counts_as_made_now_and_a_damaged_file_as_all() {
        let dir = written(true);
        damage(&dir, |bytes| bytes[head_len() + PLACE] ^= 1);
        assert_eq!(open(&dir, LATER).1, [0, LATER.as_micros(), 0, 0]);
        for change in [
            (|bytes: &mut Vec<u8>| bytes[0] ^= 1) as fn(&mut Vec<u8>),
            |bytes| bytes[PLACE] ^= 1,
            |bytes| bytes.truncate(40),
            |bytes| bytes.clear(),
            |bytes| bytes.push(0),
        ] {
            let dir = written(true);
            damage(&dir, change);
            assert_eq!(open(&dir, LATER).1, [0, 0, 0, LATER.as_micros()]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_not_believed_later() {
        let dir = written(false);
        let (marks, _) = open(&dir, NOW);
        *marks.file.lock() = Some(File::open(dir.path().join(NAME)).unwrap());
        marks.write(2, || 9);
        assert_eq!(open(&dir, LATER).1, [0, 0, 0, LATER.as_micros()]);
    }
}
