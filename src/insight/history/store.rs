//! The file: minutes and hours by scope, in SQLite.
//!
//! Written by one thread, read by others on connections of their own (write-ahead log). A minute is one transaction; its
//! hour is summed up in the same one, so that the two never tell different things. `synchronous = NORMAL`: a crash of the
//! process loses nothing that was committed, one of the machine may lose the last minutes, neither harms the file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::Resolution;
use super::ring::sum;
use super::scope::Scope;
use crate::config::model;

/// Version of the tables, as `user_version`. A file of another one is set aside.
const VERSION: i64 = 1;
/// "ORHi", as `application_id`.
const APPLICATION: i64 = 0x4f52_4869;
/// Part of `max_size` that is left to the write-ahead log.
const LOG_BYTES: u64 = 4 << 20;
const PAGE: u64 = 4096;
/// How long another process that writes is waited for.
const BUSY: Duration = Duration::from_secs(2);

const TABLES: &str = "
    CREATE TABLE scope (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL, name TEXT NOT NULL, detail TEXT NOT NULL,
        UNIQUE (kind, name, detail)
    );
    CREATE TABLE sample (
        resolution INTEGER NOT NULL, scope INTEGER NOT NULL, start INTEGER NOT NULL, sums BLOB NOT NULL,
        PRIMARY KEY (resolution, scope, start)
    ) WITHOUT ROWID;";

/// What went wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// SQLite says.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// It is of another program, or of another version of this one.
    #[error("the file is not one of this version of Outrigger")]
    Foreign,
    /// It cannot be made, or moved away.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl StoreError {
    /// Whether another file in its place would help.
    fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            Self::Foreign => true,
            Self::Io(_) => false,
        }
    }
}

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    keep: model::History,
    numbers: HashMap<Scope, i64>,
}

impl Store {
    /// Opens the file, or makes it. One that is damaged is renamed, so that it can be looked at, and another begun.
    pub(super) fn open(path: &Path, keep: &model::History) -> Result<Self, StoreError> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Before SQLite does it: the log and its index take over the mode.
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        match Self::open_as_is(path, keep) {
            Err(error) if error.is_damage() => {
                let aside = set_aside(path)?;
                tracing::error!(%error, aside = %aside.display(), "the history is damaged: it was set aside, and begins anew");
                Self::open_as_is(path, keep)
            }
            opened => opened,
        }
    }

    fn open_as_is(path: &Path, keep: &model::History) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        let set = |name: &str, value: &dyn rusqlite::ToSql| {
            connection
                .pragma_update_and_check(None, name, value, |_| Ok(()))
                .optional()
        };
        set("journal_mode", &"WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        set("journal_size_limit", &LOG_BYTES)?;
        // Beyond what trimming leaves: the last resort.
        set("max_page_count", &(keep.max_size / PAGE))?;
        let get = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        match (get("application_id")?, get("user_version")?) {
            (APPLICATION, VERSION) => {}
            (0, 0) if is_empty(&connection)? => {
                connection.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; \
                     PRAGMA user_version = {VERSION}; COMMIT;"
                ))?;
            }
            _ => return Err(StoreError::Foreign),
        }
        let check = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
        if check != "ok" {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(rusqlite::Error::SqliteFailure(code, Some(check)).into());
        }
        Ok(Self {
            connection,
            keep: keep.clone(),
            numbers: HashMap::new(),
        })
    }

    /// Adds the samples of a minute to what the file has of it and of its hour, in one transaction.
    pub(super) fn write(&mut self, minute: u64, samples: &[(Scope, Vec<u8>)]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        // Numbers that this transaction gives are remembered only when it is committed.
        let mut given = Vec::new();
        for (scope, bytes) in samples {
            let known = self.numbers.get(scope).copied();
            let number = match known {
                Some(number) => number,
                None => {
                    let number = number(&transaction, scope)?;
                    given.push((scope.clone(), number));
                    number
                }
            };
            for resolution in [Resolution::Minute, Resolution::Hour] {
                add(&transaction, resolution, number, resolution.floor(minute), bytes)?;
            }
        }
        transaction.commit()?;
        self.numbers.extend(given);
        Ok(())
    }

    /// Deletes what is older than is kept, counted from `now` (seconds since the epoch), and the oldest beyond the size:
    /// first minutes, because their hours tell the same, then hours.
    pub(super) fn trim(&mut self, now: u64) -> Result<(), StoreError> {
        for (resolution, keep) in [
            (Resolution::Minute, self.keep.minute),
            (Resolution::Hour, self.keep.hour),
        ] {
            self.delete_before(resolution, now.saturating_sub(keep.as_secs()))?;
        }
        for resolution in [Resolution::Minute, Resolution::Hour] {
            // A sixteenth of the span at a time.
            while self.is_full()?
                && let Some((first, last)) = self.span(resolution)?
            {
                self.delete_before(resolution, first + (last - first) / 16 + 1)?;
            }
        }
        // Names that no configuration has any more.
        let unused = "DELETE FROM scope WHERE NOT EXISTS \
            (SELECT 1 FROM sample WHERE resolution IN (?1, ?2) AND scope = id)";
        let resolutions = [Resolution::Minute, Resolution::Hour].map(Resolution::seconds);
        if self.connection.execute(unused, resolutions)? > 0 {
            self.numbers.clear();
        }
        Ok(())
    }

    fn delete_before(&self, resolution: Resolution, start: u64) -> Result<(), StoreError> {
        let mut scopes = self.connection.prepare_cached("SELECT id FROM scope")?;
        let scopes: Vec<i64> = scopes
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let delete = "DELETE FROM sample WHERE resolution = ?1 AND scope = ?2 AND start < ?3";
        let transaction = self.connection.unchecked_transaction()?;
        for scope in scopes {
            let mut delete = transaction.prepare_cached(delete)?;
            delete.execute(params![resolution.seconds(), scope, start])?;
        }
        Ok(transaction.commit()?)
    }

    /// The first and the last beginning of what there is.
    fn span(&self, resolution: Resolution) -> Result<Option<(u64, u64)>, StoreError> {
        let span = "SELECT min(low), max(high) FROM (SELECT \
            (SELECT min(start) FROM sample WHERE resolution = ?1 AND scope = id) AS low, \
            (SELECT max(start) FROM sample WHERE resolution = ?1 AND scope = id) AS high FROM scope)";
        let mut span = self.connection.prepare_cached(span)?;
        let found = span.query_row([resolution.seconds()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (first, last): (Option<u64>, Option<u64>) = found;
        Ok(first.zip(last))
    }

    /// Whether it holds all that it may.
    pub(super) fn is_full(&self) -> Result<bool, StoreError> {
        Ok(self.used()? > self.most())
    }

    fn most(&self) -> u64 {
        self.keep.max_size.saturating_sub(LOG_BYTES)
    }

    /// Bytes in use. Pages of what was deleted are used again before the file grows.
    fn used(&self) -> Result<u64, StoreError> {
        let get = |name: &str| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, u64>(0))
        };
        let pages = get("page_count")?.saturating_sub(get("freelist_count")?);
        Ok(pages.saturating_mul(get("page_size")?))
    }
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let tables = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(tables, [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// The number of a scope in the file.
fn number(connection: &Connection, scope: &Scope) -> rusqlite::Result<i64> {
    let (kind, name, detail) = scope.parts();
    let insert = "INSERT OR IGNORE INTO scope (kind, name, detail) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(insert)?.execute([kind, name, detail])?;
    let select = "SELECT id FROM scope WHERE kind = ?1 AND name = ?2 AND detail = ?3";
    connection
        .prepare_cached(select)?
        .query_row([kind, name, detail], |row| row.get(0))
}

fn add(
    connection: &Connection,
    resolution: Resolution,
    scope: i64,
    start: u64,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    let select = "SELECT sums FROM sample WHERE resolution = ?1 AND scope = ?2 AND start = ?3";
    let known: Option<Vec<u8>> = connection
        .prepare_cached(select)?
        .query_row(params![resolution.seconds(), scope, start], |row| row.get(0))
        .optional()?;
    let sums = known.map_or_else(|| bytes.to_vec(), |known| sum(&known, bytes));
    let insert = "INSERT OR REPLACE INTO sample (resolution, scope, start, sums) VALUES (?1, ?2, ?3, ?4)";
    connection
        .prepare_cached(insert)?
        .execute(params![resolution.seconds(), scope, start, sums])?;
    Ok(())
}

/// Renames the file, in place of one that was set aside before. Its log is of no use without it.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = beside(".damaged");
    fs::rename(path, &aside)?;
    for log in [beside("-wal"), beside("-shm")] {
        match fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// Reads the file.
pub(super) struct Reader(Connection);

impl Reader {
    /// Opens the file for reading.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self(connection))
    }

    /// Tells the samples of a scope from `from` to before `to`, in order.
    pub(super) fn each(
        &self,
        scope: &Scope,
        resolution: Resolution,
        (from, to): (u64, u64),
        mut tell: impl FnMut(u64, &[u8]),
    ) -> Result<(), StoreError> {
        let (kind, name, detail) = scope.parts();
        let select = "SELECT start, sums FROM sample WHERE resolution = ?1 AND scope = \
            (SELECT id FROM scope WHERE kind = ?2 AND name = ?3 AND detail = ?4) \
            AND start >= ?5 AND start < ?6 ORDER BY start";
        let mut select = self.0.prepare_cached(select)?;
        let mut rows = select.query(params![resolution.seconds(), kind, name, detail, from, to])?;
        while let Some(row) = rows.next()? {
            if let Ok(bytes) = row.get_ref(1)?.as_blob() {
                tell(row.get(0)?, bytes);
            }
        }
        Ok(())
    }

    /// The beginning of the first sample of a scope.
    pub(super) fn first(&self, scope: &Scope, resolution: Resolution) -> Result<Option<u64>, StoreError> {
        let (kind, name, detail) = scope.parts();
        let select = "SELECT min(start) FROM sample WHERE resolution = ?1 AND scope = \
            (SELECT id FROM scope WHERE kind = ?2 AND name = ?3 AND detail = ?4)";
        let mut select = self.0.prepare_cached(select)?;
        Ok(
            select.query_row(params![resolution.seconds(), kind, name, detail], |row| {
                row.get(0)
            })?,
        )
    }

    /// Every scope of which there are samples.
    pub(super) fn scopes(&self) -> Result<Vec<Scope>, StoreError> {
        let mut select = self.0.prepare_cached("SELECT kind, name, detail FROM scope")?;
        let parts = |row: &rusqlite::Row<'_>| {
            let text = |at| Ok::<_, rusqlite::Error>(row.get_ref(at)?.as_str().unwrap_or_default());
            Ok(Scope::from_parts(text(0)?, text(1)?, text(2)?))
        };
        let scopes = select.query_map([], parts)?;
        scopes
            .filter_map(|scope| scope.map_err(StoreError::from).transpose())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn all(reader: &Reader, resolution: Resolution) -> Vec<u64> {
        let mut starts = Vec::new();
        let window = (0, u64::MAX >> 1);
        reader
            .each(&Scope::All, resolution, window, |start, _| starts.push(start))
            .unwrap();
        starts
    }

    /// A sample of several hundred bytes.
    fn sample(number: u64) -> Vec<u8> {
        let mut sample = crate::insight::history::Sample {
            requests: 1,
            ..Default::default()
        };
        for register in 0..300 {
            sample.principals.add(register * 3, (number % 50) as u8 + 1);
        }
        super::super::encoding::encode(&sample, true)
    }

    #[test]
    fn the_oldest_minutes_make_room_first_and_hours_tell_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.sqlite3");
        let keep = model::History {
            max_size: LOG_BYTES + (256 << 10),
            ..model::History::default()
        };
        let mut store = Store::open(&path, &keep).unwrap();
        let start = 1_000 * HOUR;
        for minute in 0..1_000 {
            let second = start + minute * 60;
            if store.is_full().unwrap() {
                store.trim(second).unwrap();
            }
            store.write(second, &[(Scope::All, sample(minute))]).unwrap();
        }
        assert!(store.used().unwrap() <= 300 << 10, "{}", store.used().unwrap());
        let reader = Reader::open(&path).unwrap();
        let minutes = all(&reader, Resolution::Minute);
        assert_eq!(minutes.last(), Some(&(start + 999 * 60)));
        let expected: Vec<u64> = (minutes[0]..=start + 999 * 60).step_by(60).collect();
        assert!(minutes[0] > start && minutes.len() > 100);
        assert_eq!(minutes, expected, "without holes");
        assert_eq!(all(&reader, Resolution::Hour).len(), 17);
        assert_eq!(reader.first(&Scope::All, Resolution::Hour).unwrap(), Some(start));
        assert_eq!(
            reader.first(&Scope::All, Resolution::Minute).unwrap(),
            Some(minutes[0])
        );
    }

    #[test]
    fn what_is_too_old_goes_and_its_names_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.sqlite3");
        let mut store = Store::open(&path, &model::History::default()).unwrap();
        let start = 1_000_000 * HOUR;
        store
            .write(start, &[(Scope::All, sample(1)), (Scope::System, sample(2))])
            .unwrap();
        let later = start + 8 * 24 * HOUR;
        store.write(later, &[(Scope::All, sample(1))]).unwrap();
        store.trim(later).unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(all(&reader, Resolution::Minute), [later]);
        assert_eq!(all(&reader, Resolution::Hour), [start, later]);
        assert_eq!(reader.scopes().unwrap(), [Scope::All, Scope::System]);
        let latest = start + 91 * 24 * HOUR;
        store.trim(latest).unwrap();
        assert_eq!(reader.scopes().unwrap(), [Scope::All]);
        store.write(latest, &[(Scope::System, sample(1))]).unwrap();
        assert_eq!(reader.scopes().unwrap().len(), 2);
    }

    #[test]
    fn a_file_of_another_version_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.sqlite3");
        let keep = model::History::default();
        Store::open(&path, &keep).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(connection);
        Store::open(&path, &keep).unwrap();
        assert!(directory.path().join("history.sqlite3.damaged").exists());
    }
}
