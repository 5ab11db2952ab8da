//! Opening a connection to one server: TCP, TLS where wanted, then the login.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure::level_error;
use super::stream::{Stream, tune};
use crate::cache::level::LevelError;
use crate::client_tls::{self, ClientTlsError};
use crate::config::{ClientTls, RedisCredentials, RedisServer};

/// Longest password.
const MAX_PASSWORD: u64 = 4096;

/// Opens connections.
pub(super) struct Dialer {
    tls: Option<Tls>,
    credentials: RedisCredentials,
    database: u16,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("tls", &self.tls.is_some())
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// TLS towards every server.
struct Tls {
    config: ClientTls,
    /// None after a failed handshake: the files are read again for the next one, because they may have been replaced.
    connector: Mutex<Option<TlsConnector>>,
}

/// An open connection.
pub(super) struct Dialed {
    /// Sends commands.
    pub(super) redis: MultiplexedConnection,
    /// Moves the bytes; it ends with the connection.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Dialer {
    /// Reads the TLS files.
    pub(super) fn new(
        tls: Option<&ClientTls>,
        credentials: &RedisCredentials,
        database: u16,
    ) -> Result<Self, ClientTlsError> {
        Ok(Self {
            tls: tls.map(Tls::load).transpose()?,
            credentials: credentials.clone(),
            database,
        })
    }

    /// Opens a connection to `server` for commands on keys, within `limit`.
    pub(super) async fn dial(&self, server: &RedisServer, limit: Duration) -> Result<Dialed, LevelError> {
        self.within(limit, server, &self.credentials, self.database).await
    }

    /// Opens a connection to a sentinel, within `limit`.
    pub(super) async fn dial_sentinel(
        &self,
        server: &RedisServer,
        credentials: &RedisCredentials,
        limit: Duration,
    ) -> Result<Dialed, LevelError> {
        self.within(limit, server, credentials, 0).await
    }

    async fn within(
        &self,
        limit: Duration,
        server: &RedisServer,
        credentials: &RedisCredentials,
        database: u16,
    ) -> Result<Dialed, LevelError> {
        tokio::time::timeout(limit, self.open(server, credentials, database))
            .await
            .unwrap_or_else(|_| Err(unreachable(server, &"no connection in time")))
    }

    async fn open(
        &self,
        server: &RedisServer,
        credentials: &RedisCredentials,
        database: u16,
    ) -> Result<Dialed, LevelError> {
        let login = login(credentials, database).await?;
        let stream = self
            .stream(server)
            .await
            .map_err(|error| unreachable(server, &error))?;
        // The deadline is ours, and so is the bound of commands in flight.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let (redis, driver) = MultiplexedConnection::new_with_config(&login, stream, config)
            .await
            .map_err(|error| match level_error(&error) {
                LevelError::Unreachable(reason) => unreachable(server, &reason),
                refused => refused,
            })?;
        Ok(Dialed {
            redis,
            driver: Box::pin(driver),
        })
    }

    async fn stream(&self, server: &RedisServer) -> io::Result<Stream> {
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
        tune(&tcp)?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let name = tls.name(server).map_err(io::Error::other)?;
        let connector = tls.connector().map_err(io::Error::other)?;
        match connector.connect(name, tcp).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => {
                *tls.connector.lock() = None;
                Err(error)
            }
        }
    }
}

impl Tls {
    fn load(config: &ClientTls) -> Result<Self, ClientTlsError> {
        let tls = Self {
            config: config.clone(),
            connector: Mutex::new(None),
        };
        tls.connector()?;
        Ok(tls)
    }

    fn connector(&self) -> Result<TlsConnector, ClientTlsError> {
        let mut kept = self.connector.lock();
        match &*kept {
            Some(connector) => Ok(connector.clone()),
            None => {
                let connector = TlsConnector::from(Arc::new(client_tls::load(&self.config)?));
                Ok(kept.insert(connector).clone())
            }
        }
    }

    fn name(&self, server: &RedisServer) -> Result<ServerName<'static>, ClientTlsError> {
        client_tls::server_name(self.config.sni.as_deref().unwrap_or(&server.host))
    }
}

/// What is said first: RESP3, who we are, and which database.
async fn login(credentials: &RedisCredentials, database: u16) -> Result<RedisConnectionInfo, LevelError> {
    let mut login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(database))
        // `CLIENT SETINFO` would be one more command for a restricted user to be allowed.
        .set_skip_set_lib_name();
    if let Some(path) = &credentials.password_file {
        let password = password(path)
            .await
            .map_err(|error| LevelError::Unreachable(format!("password file: {error}")))?;
        login = login.set_password(password);
    }
    if let Some(username) = &credentials.username {
        login = login.set_username(username);
    }
    Ok(login)
}

/// The content of `path` without the line end that editors add.
async fn password(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_PASSWORD).read_to_string(&mut text).await?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

fn unreachable(server: &RedisServer, reason: &dyn fmt::Display) -> LevelError {
    LevelError::Unreachable(format!("{}:{}: {reason}", server.host, server.port))
}
