//! The requests that were asked for most, kept in the state directory from one run to the next.
//!
//! A first line with the format and a checksum, then one line of JSON per request, the most asked for first. The file
//! is written beside the old one and put in its place, so that a crash leaves either of them. A file that is not whole
//! is set aside: nothing depends on it but the speed of the first minute.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use super::Wanted;

const NAME: &str = "top-keys";

/// What a file begins with.
const FORMAT: &str = "outrigger top keys 1";

/// Larger than the largest file that this product writes.
const MAX_FILE: u64 = 128 * 1024 * 1024;

/// A request and how often it was asked for.
pub type Popular = (Wanted, u64);

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    uses: u64,
    https: bool,
    host: String,
    target: String,
    fields: Vec<(String, String)>,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// These requests; none if there is no file.
    Requests(Vec<Popular>),
    /// A file that is not whole, which is here now.
    SetAside(PathBuf, &'static str),
}

/// Reads the file of `dir`.
///
/// # Errors
/// When the directory cannot be read, or a file that is not whole cannot be set aside.
pub fn load(dir: &Path) -> io::Result<Found> {
    let path = dir.join(NAME);
    let bytes = match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_FILE => Err("it is too large"),
        Ok(_) => Ok(fs::read(&path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Requests(Vec::new())),
        Err(error) => return Err(error),
    };
    match bytes.and_then(|bytes| parse(&bytes).ok_or("it is damaged")) {
        Ok(requests) => Ok(Found::Requests(requests)),
        Err(reason) => {
            // One is kept: it is of use to nobody but who wants to know what happened.
            let aside = dir.join(format!("{NAME}.corrupt"));
            fs::rename(&path, &aside)?;
            Ok(Found::SetAside(aside, reason))
        }
    }
}

/// Writes `requests` in place of what is there.
///
/// # Errors
/// When the directory cannot be written.
pub fn save<'a>(dir: &Path, requests: impl IntoIterator<Item = (&'a Wanted, u64)>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut body = Vec::new();
    for (wanted, uses) in requests {
        let Some(line) = line(wanted, uses) else { continue };
        serde_json::to_writer(&mut body, &line)?;
        body.push(b'\n');
    }
    let new = dir.join(format!("{NAME}.new"));
    // What is asked for is nobody else's business.
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(format!("{FORMAT} {}\n", blake3::hash(&body).to_hex()).as_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

fn line(wanted: &Wanted, uses: u64) -> Option<Line> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    Some(Line {
        uses,
        https: wanted.scheme == "https",
        host: wanted.authority.to_str().ok()?.to_owned(),
        target: wanted.target.to_string(),
        fields: wanted.headers.iter().map(field).collect::<Option<_>>()?,
    })
}

fn parse(bytes: &[u8]) -> Option<Vec<Popular>> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (head, body) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let sum = head.strip_prefix(FORMAT.as_bytes())?.strip_prefix(b" ")?;
    if sum != blake3::hash(body).to_hex().as_bytes() {
        return None;
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(read).collect()
}

fn read(line: &[u8]) -> Option<Popular> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &line.fields {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    let wanted = Wanted {
        method: Method::GET,
        scheme: if line.https { "https" } else { "http" },
        authority: HeaderValue::from_str(&line.host).ok()?,
        target: line.target.parse().ok()?,
        headers,
        body: Bytes::new(),
    };
    Some((wanted, line.uses))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn wanted(target: &str) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.append("accept-encoding", HeaderValue::from_static("gzip"));
        Wanted {
            method: Method::GET,
            scheme: "https",
            authority: HeaderValue::from_static("hub.local:8443"),
            target: target.parse().unwrap(),
            headers,
            body: Bytes::new(),
        }
    }

    fn loaded(dir: &Path) -> Vec<Popular> {
        match load(dir).unwrap() {
            Found::Requests(requests) => requests,
            Found::SetAside(path, reason) => panic!("{path:?}: {reason}"),
        }
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(loaded(dir.path()).is_empty());
        let (one, other) = (wanted("/a?b=c"), wanted("/d"));
        save(dir.path(), [(&one, 9), (&other, 2)]).unwrap();
        assert_eq!(loaded(dir.path()), [(one, 9), (other.clone(), 2)]);
        save(dir.path(), [(&other, 1)]).unwrap();
        assert_eq!(loaded(dir.path()), [(other, 1)]);
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn every_damage_is_seen_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        save(dir.path(), [(&wanted("/a"), 9)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for damaged in [&flipped[..], &whole[..at]] {
                fs::write(&path, damaged).unwrap();
                assert!(matches!(load(dir.path()).unwrap(), Found::SetAside(..)), "{at}");
                assert!(loaded(dir.path()).is_empty());
            }
        }
    }
}
