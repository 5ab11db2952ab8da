//! The book on disk: one file, replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::book::Book;

const NAME: &str = "alerts.json";
/// Bytes of the file; what is larger was not written here.
const LARGEST: u64 = 16 << 20;

/// Reads the book of a directory; an empty one if there is none. What cannot be understood is set aside as
/// `alerts.json.corrupt`.
///
/// # Errors
/// When the file is there and cannot be read or set aside.
pub fn load(dir: &Path) -> io::Result<Book> {
    let path = dir.join(NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content)?;
    match serde_json::from_slice(&content) {
        Ok(book) => Ok(book),
        Err(error) => {
            tracing::error!(%error, file = %path.display(), "the state of alerts is damaged; they begin anew");
            fs::rename(&path, dir.join(format!("{NAME}.corrupt")))?;
            Ok(Book::default())
        }
    }
}

/// Writes the book in place of what is there. Blocks until the disk has it.
///
/// # Errors
/// When the directory cannot be written.
pub fn save(dir: &Path, book: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let new = dir.join(format!("{NAME}.new"));
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(book)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_read_back_and_a_damaged_one_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), Book::default());
        let book = Book {
            next: 7,
            ..Book::default()
        };
        save(dir.path(), &serde_json::to_vec(&book).unwrap()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), book);
        fs::write(dir.path().join(NAME), "{").unwrap();
        assert_eq!(load(dir.path()).unwrap(), Book::default());
        assert!(dir.path().join("alerts.json.corrupt").exists());
    }
}
