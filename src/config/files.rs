//! The files that a configuration consists of, and the digest that tells whether one changed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of one file; what is larger is neither a certificate nor a configuration.
const MAX_BYTES: u64 = 4 << 20;

/// What stands for the content of a file that cannot be read.
const UNREADABLE: [u8; 32] = [0; 32];

/// Files as they were when they were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, [u8; 32])>);

impl Files {
    /// Reads a file and remembers its content's digest, also when it cannot be read: it may appear later.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let content = read(path);
        if !self.0.iter().any(|(known, _)| known == path) {
            self.0.push((path.to_owned(), digest_of(content.as_deref())));
        }
        content
    }

    /// The paths, in the order of reading.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(path, _)| path.clone()).collect()
    }

    /// What [`content_digest`] gives as long as no file changes.
    pub(super) fn digest(&self) -> [u8; 32] {
        combine(self.0.iter().map(|(_, digest)| *digest))
    }
}

/// Digest of the content of all `files`; equal to the `digest` of a loaded configuration as long as none of its
/// files changes. Reads every file.
pub fn content_digest(files: &[PathBuf]) -> [u8; 32] {
    combine(files.iter().map(|path| digest_of(read(path).as_deref())))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = File::open(path)?;
    // A pipe or a device could block or never end.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    Ok(content)
}

fn digest_of(content: Result<&[u8], &io::Error>) -> [u8; 32] {
    content.map_or(UNREADABLE, |content| *blake3::hash(content).as_bytes())
}

fn combine(digests: impl Iterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for digest in digests {
        hasher.update(&digest);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut files = Files::default();
        files.read(&path).unwrap_err();
        assert_eq!(files.digest(), content_digest(&files.paths()));
        std::fs::write(&path, "x").unwrap();
        assert_ne!(files.digest(), content_digest(&files.paths()), "a file appeared");
        let mut files = Files::default();
        assert_eq!(files.read(&path).unwrap(), b"x");
        assert_eq!(files.digest(), content_digest(&files.paths()));
        std::fs::write(&path, "y").unwrap();
        assert_ne!(files.digest(), content_digest(&files.paths()));
        files.read(dir.path()).unwrap_err();
    }
}
