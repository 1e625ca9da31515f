//! The database, which is the truth: repositories, manifests, tags, links, uploads and accounts.
//!
//! One statement text serves both engines wherever both accept it; what differs stands in [`connection`]. The
//! rules of a push (DESIGN, "State") are kept here: every change is one transaction, nothing waits for the
//! network inside one, and rows that a check relies on are locked.

mod accounts;
mod blobs;
mod connection;
mod garbage;
mod generation;
mod keys;
mod manifests;
mod migrate;
mod repositories;
mod rights;
mod search;
mod tokens;
mod uploads;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

pub use accounts::{Account, AccountKind};
pub use blobs::{FinishedUpload, StoredBlob, Unlinked};
pub use garbage::{ObjectRow, Review, ReviewKind};
pub use keys::SigningKeyRow;
pub use manifests::{ManifestPut, PutOutcome, ReferrerRow, StoredManifest};
pub use repositories::{RepositoryRow, Visibility};
pub use rights::{Facts, GrantRow, Viewer};
pub use search::FoundRepository;
pub use tokens::{TokenKind, TokenRow};
pub use uploads::{Progress, UploadRow};

use connection::{Connection, SqliteWriter, Transaction};
use generation::Generation;

/// Oldest SQLite without the WAL-reset bug, which corrupts a database that two connections write to.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Connections that only read, on SQLite. Each has a thread of its own.
const SQLITE_READERS: u32 = 4;

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The engine reported an error.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database could not be prepared: {0}")]
    Migrate(sqlx::migrate::MigrateError),
    /// The database was made by a newer program.
    #[error(
        "the database has schema version {0}, which is newer than this program: start the newer cove-server, or restore the backup made before the upgrade"
    )]
    TooNew(i64),
    /// A file beside the database could not be used.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The URL names no engine that Cove has.
    #[error("`{0}` is not a database that Cove knows: use sqlite:///PATH or postgres://USER:PASSWORD@HOST/NAME")]
    Url(String),
    /// The SQLite library has a known bug.
    #[error("SQLite {0} can corrupt databases in WAL mode: build with the bundled library, 3.51.3 or later")]
    OldSqlite(i32),
    /// A stored value does not parse; somebody else wrote into the database.
    #[error("the database holds `{0}`, which is not valid: restore a backup, or find out who wrote it")]
    Corrupt(String),
    /// The change kept colliding with others.
    #[error("the database was too busy: try again")]
    Busy,
    /// A write from a request that another one has replaced.
    #[error("another request has taken over the upload")]
    StaleWriter,
    /// The name is taken.
    #[error("`{0}` exists already")]
    Exists(String),
}

impl MetadataError {
    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        match self {
            // SQLITE_FULL, and PostgreSQL's disk_full.
            MetadataError::Database(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("13" | "53100"))
            }
            _ => false,
        }
    }
}

/// Result of a question to the database.
pub type Result<T> = std::result::Result<T, MetadataError>;

/// The database.
#[derive(Clone)]
pub struct MetadataStore {
    engine: Engine,
    policy: Policy,
}

/// What the database is told to do with what is new and with what is no longer used.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long something unused is kept, so that a push under way can still refer to it.
    pub grace: Duration,
    /// Visibility of a repository that a push makes.
    pub visibility: Visibility,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { grace: Duration::from_secs(24 * 3600), visibility: Visibility::Private }
    }
}

#[derive(Clone)]
enum Engine {
    Sqlite { readers: SqlitePool, writer: Arc<SqliteWriter>, generation: Arc<Generation> },
    Postgres(PgPool),
}

impl MetadataStore {
    /// Opens the database that `url` names, makes it if it is not there, and brings its schema up to date.
    pub async fn open(url: &str, policy: Policy) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            Self::open_sqlite(Path::new(path), policy).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_postgres(url, policy).await
        } else {
            Err(MetadataError::Url(url.split("://").next().unwrap_or_default().to_owned()))
        }
    }

    async fn open_sqlite(path: &Path, policy: Policy) -> Result<Self> {
        let version = sqlite_version();
        if version < OLDEST_SQLITE {
            return Err(MetadataError::OldSqlite(version));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs_err::create_dir_all(folder)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("mmap_size", "0")
            .busy_timeout(Duration::from_secs(10));
        let generation = Arc::new(Generation::open(&beside(path, "generation"))?);
        let writer = SqliteWriter::connect(&options, &beside(path, "migrating"), generation.clone()).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.pragma("query_only", "1"))
            .await?;
        Ok(MetadataStore { engine: Engine::Sqlite { readers, writer: Arc::new(writer), generation }, policy })
    }

    async fn open_postgres(url: &str, policy: Policy) -> Result<Self> {
        // The rules of `garbage` rely on statements that see what was committed before they began.
        let options = url.parse::<PgConnectOptions>()?.options([("default_transaction_isolation", "read committed")]);
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.application_name("cove-server"))
            .await?;
        migrate::postgres(&pool).await?;
        Ok(MetadataStore { engine: Engine::Postgres(pool), policy })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let mut connection = self.read().await?;
        connection::fetch_one!(connection, (i64,), "SELECT CAST(1 AS BIGINT)")?;
        Ok(())
    }

    /// The generation that answers read now belong to, if they may be kept in memory: they are good for as long
    /// as this returns the same number. `None`: keep nothing.
    ///
    /// On SQLite every writer raises a counter shared by all processes, before and after its commit. On
    /// PostgreSQL other servers write, so nothing is kept.
    pub fn generation(&self) -> Option<u64> {
        match &self.engine {
            Engine::Sqlite { generation, .. } => generation.settled(),
            Engine::Postgres(_) => None,
        }
    }

    /// Makes kept answers possible again after a program was killed in the middle of a commit.
    pub fn repair_generation(&self) -> Result<()> {
        match &self.engine {
            Engine::Sqlite { generation, .. } => Ok(generation.repair()?),
            Engine::Postgres(_) => Ok(()),
        }
    }

    /// When something that is unused from now on may go.
    fn due(&self) -> i64 {
        now_ms() + as_ms(self.policy.grace)
    }

    /// Closes all connections; what was committed is on disk.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite { readers, writer, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Engine::Postgres(pool) => pool.close().await,
        }
    }

    /// A connection that reads.
    async fn read(&self) -> Result<Connection> {
        Ok(match &self.engine {
            Engine::Sqlite { readers, .. } => Connection::SqliteReader(readers.acquire().await?),
            Engine::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }

    /// Begins a transaction. Use [`transaction!`], which also repeats one that collided.
    async fn begin(&self) -> Result<Transaction> {
        match &self.engine {
            Engine::Sqlite { writer, .. } => Transaction::begin_sqlite(writer.clone()).await,
            Engine::Postgres(pool) => Transaction::begin_postgres(pool).await,
        }
    }
}

/// The file `PATH.suffix` beside a database file.
fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[allow(unsafe_code)]
fn sqlite_version() -> i32 {
    // SAFETY: takes no arguments, touches no state, may be called at any time (sqlite.org/c3ref/libversion).
    unsafe { libsqlite3_sys::sqlite3_libversion_number() }
}

/// Milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A duration in milliseconds, for arithmetic on times.
pub fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Parses a value that was checked before it was stored.
fn stored<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| MetadataError::Corrupt(text.to_owned()))
}

/// Sizes are unsigned in the program and signed in SQL.
fn stored_size(size: i64) -> Result<u64> {
    u64::try_from(size).map_err(|_| MetadataError::Corrupt(size.to_string()))
}

/// The other way: no object on earth has more than 2^63 bytes.
fn size_to_store(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
