//! The format of the log: lines of JSON, each sealed by a digest over the seal of the line before and its own bytes.
//!
//! A line is `BODY,"hash":"HEX"}`; HEX is BLAKE3 of the seal before (32 bytes) and BODY, byte for byte. Whoever changes,
//! removes or moves a line changes what every later seal has to be.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Longest line that is read; what is written is far shorter.
const MAX_LINE: usize = 128 * 1024;
/// What stands between the body of a line and its seal.
const SEAL: &[u8] = b",\"hash\":\"";
/// What ends a line.
const END: &[u8] = b"\"}\n";

/// The seal of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(pub(super) [u8; 32]);

impl Hash {
    /// What a chain begins with.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn hex(self) -> String {
        hex::encode(self.0)
    }

    /// Lower-case digits only: there is one way to write a seal.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asker {
    /// Name of the token; `anonymous` without one.
    pub name: String,
    /// Its role, if it has one.
    pub role: Option<String>,
    /// Address and port of the connection.
    pub peer: String,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Who asked.
    pub caller: Asker,
    /// The call's name, as in `cache.purge`.
    pub action: String,
    /// Method and path.
    pub target: String,
    /// Query and body, masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
}

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Entry {
    /// A chain begins. Always the first of a file.
    Genesis {
        /// Name of the chain, drawn at random.
        chain: String,
        /// What was wrong with the chain before; none for the first one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// The chain goes on in a new file. Always the first of a file.
    Continued {
        /// Name of the chain.
        chain: String,
        /// Seal of the last record of the file before.
        previous: String,
    },
    /// The end of the log was incomplete when it was opened: never acknowledged, and cut off.
    Recovered {
        /// How much was cut off.
        cut_bytes: u64,
    },
    /// A change is about to be made.
    Intent(Asked),
    /// A change was made, or refused for what was asked.
    Outcome {
        /// Sequence number of the intent.
        of: u64,
        /// Status of the answer.
        status: u16,
    },
    /// Somebody asked for a change that he may not make.
    Refused {
        /// What was asked for.
        #[serde(flatten)]
        asked: Asked,
        /// Status of the answer.
        status: u16,
        /// Others since the last such record, which were not written.
        suppressed: u64,
    },
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Counts the records, across files.
    pub seq: u64,
    /// When it was written (RFC 3339).
    pub time: String,
    /// What it tells.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A line that is whole in itself; whether it follows from the one before is for the reader to see.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) record: Record,
    body: &'a [u8],
    pub(super) hash: Hash,
}

impl<'a> Line<'a> {
    /// Reads a line with its line feed; none if it is damaged.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        let (body, seal) = line.split_at_checked(line.len().checked_sub(SEAL.len() + 64 + END.len())?)?;
        let hash = Hash::parse(seal.strip_prefix(SEAL)?.strip_suffix(END)?)?;
        let record = serde_json::from_slice(&[body, b"}"].concat()).ok()?;
        Some(Self { record, body, hash })
    }

    /// Whether it was sealed behind `previous`.
    pub(super) fn follows(&self, previous: Hash) -> bool {
        seal(previous, self.body) == self.hash
    }
}

/// Writes a record as a line behind `previous`, and gives its seal.
pub(super) fn write(text: &mut Vec<u8>, record: &Record, previous: Hash) -> serde_json::Result<Hash> {
    let mut body = serde_json::to_vec(record)?;
    body.pop();
    let hash = seal(previous, &body);
    text.extend_from_slice(&body);
    text.extend_from_slice(SEAL);
    text.extend_from_slice(hash.hex().as_bytes());
    text.extend_from_slice(END);
    Ok(hash)
}

fn seal(previous: Hash, body: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0).update(body);
    Hash(*hasher.finalize().as_bytes())
}

/// A moment as records have it.
pub(super) fn time(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).ok();
    let time = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    format!("{:.6}", time.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_and_follows_only_what_it_was_written_behind() {
        let record = Record {
            seq: 7,
            time: time(Timestamp::from_secs(1)),
            entry: Entry::Outcome { of: 6, status: 200 },
        };
        let (before, mut text) = (Hash([3; 32]), Vec::new());
        let hash = write(&mut text, &record, before).unwrap();
        let line = Line::parse(&text).unwrap();
        assert_eq!((&line.record, line.hash), (&record, hash));
        assert!(line.follows(before) && !line.follows(Hash::NONE));
        assert!(text.starts_with(br#"{"seq":7,"time":"1970-01-01T00:00:01.000000Z","event":"outcome""#));
    }
}
