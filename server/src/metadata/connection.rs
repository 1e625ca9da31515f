//! Connections and transactions on either engine, and the few words in which the engines differ.
//!
//! SQLite has one writer. Transactions that arrive while another is at work share its commit, and so its
//! fsync: each runs within a savepoint of its own, and the last one of the batch commits for all. None returns
//! before that commit.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Executor, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::generation::Generation;
use super::{MetadataError, Result, migrate};

/// Most transactions that share one commit.
const BATCH_LIMIT: usize = 64;
/// How often a transaction that collided with others is repeated.
pub(super) const ATTEMPTS: u32 = 12;

/// A connection, for queries.
pub(super) enum Connection {
    SqliteReader(PoolConnection<Sqlite>),
    SqliteWriter(OwnedMutexGuard<Batch>),
    Postgres(PoolConnection<Postgres>),
    PostgresTransaction(sqlx::Transaction<'static, Postgres>),
}

/// The engine's own connection type, on which a query runs.
pub(super) enum On<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Connection {
    pub(super) fn on(&mut self) -> On<'_> {
        match self {
            Connection::SqliteReader(connection) => On::Sqlite(connection),
            Connection::SqliteWriter(batch) => On::Sqlite(&mut batch.connection),
            Connection::Postgres(connection) => On::Postgres(connection),
            Connection::PostgresTransaction(transaction) => On::Postgres(transaction),
        }
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self, Connection::Postgres(_) | Connection::PostgresTransaction(_))
    }

    /// Picks the statement for the engine, where the two need different words.
    pub(super) fn dialect(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        if self.is_postgres() { postgres } else { sqlite }
    }
}

/// `fetch_optional!(connection, (Columns,), "SELECT …", bind, …)`: the first row, if there is one.
macro_rules! fetch_optional {
    ($connection:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.on() {
            $crate::metadata::connection::On::Sqlite(on) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_optional(on).await,
            $crate::metadata::connection::On::Postgres(on) =>
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_optional(on).await,
        }.map_err($crate::metadata::MetadataError::from)
    };
}

/// Exactly one row.
macro_rules! fetch_one {
    ($connection:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.on() {
            $crate::metadata::connection::On::Sqlite(on) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_one(on).await,
            $crate::metadata::connection::On::Postgres(on) =>
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_one(on).await,
        }.map_err($crate::metadata::MetadataError::from)
    };
}

/// All rows.
macro_rules! fetch_all {
    ($connection:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.on() {
            $crate::metadata::connection::On::Sqlite(on) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_all(on).await,
            $crate::metadata::connection::On::Postgres(on) =>
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_all(on).await,
        }.map_err($crate::metadata::MetadataError::from)
    };
}

/// Runs a statement; how many rows it changed.
macro_rules! execute {
    ($connection:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $connection.on() {
            $crate::metadata::connection::On::Sqlite(on) =>
                sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*.execute(on).await.map(|done| done.rows_affected()),
            $crate::metadata::connection::On::Postgres(on) =>
                sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*.execute(on).await.map(|done| done.rows_affected()),
        }.map_err($crate::metadata::MetadataError::from)
    };
}

/// `transaction!(store, tx => { … Ok(value) })`: runs the block in a transaction and returns its result once it
/// is durable. An `Err` rolls back. A block whose transaction collided with another runs again, so it must not
/// have other effects. `quiet tx` is for changes that no kept answer depends on (progress of uploads).
macro_rules! transaction {
    ($store:expr, quiet $tx:ident => $body:block) => {
        $crate::metadata::connection::transaction!(@run $store, false, $tx, $body)
    };
    ($store:expr, $tx:ident => $body:block) => {
        $crate::metadata::connection::transaction!(@run $store, true, $tx, $body)
    };
    (@run $store:expr, $visible:expr, $tx:ident, $body:block) => {{
        let mut attempt = 0;
        loop {
            let mut $tx = $store.begin().await?;
            let outcome: $crate::metadata::Result<_> = async { $body }.await;
            attempt += 1;
            match $tx.finish(outcome, $visible).await {
                $crate::metadata::connection::Finished::Done(result) => break result,
                $crate::metadata::connection::Finished::Collided if attempt < $crate::metadata::connection::ATTEMPTS => {
                    let pause = rand::random_range(1..=(2u64 << attempt.min(7)));
                    tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
                }
                $crate::metadata::connection::Finished::Collided => break Err($crate::metadata::MetadataError::Busy),
            }
        }
    }};
}

pub(super) use {execute, fetch_all, fetch_one, fetch_optional, transaction};

/// How a transaction ended.
pub(super) enum Finished<T> {
    Done(Result<T>),
    /// Another one was in the way; run it again.
    Collided,
}

/// An open transaction. Dropped unfinished (its request was cancelled), it is rolled back.
pub(super) struct Transaction {
    /// `None` only after `finish` has taken it.
    connection: Option<Connection>,
    sqlite: Option<Arc<SqliteWriter>>,
}

impl Deref for Transaction {
    type Target = Connection;

    #[allow(clippy::expect_used)] // `finish` takes `self`, so nobody can look afterwards
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("present until finished")
    }
}

impl DerefMut for Transaction {
    #[allow(clippy::expect_used)] // as above
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("present until finished")
    }
}

impl Transaction {
    pub(super) async fn begin_postgres(pool: &PgPool) -> Result<Self> {
        let connection = Connection::PostgresTransaction(pool.begin().await?);
        Ok(Transaction { connection: Some(connection), sqlite: None })
    }

    pub(super) async fn begin_sqlite(writer: Arc<SqliteWriter>) -> Result<Self> {
        let mut place = Place::queue(&writer);
        let mut batch = writer.batch.clone().lock_owned().await;
        if batch.broken {
            batch.abandon().await;
        }
        batch.broken = true; // until this transaction has ended properly
        let begun = if batch.open { "SAVEPOINT step" } else { "BEGIN IMMEDIATE; SAVEPOINT step" };
        // Before it runs: if we are cut off, SQLite may still begin, and whoever comes next must roll back.
        batch.open = true;
        batch.connection.execute(sqlx::raw_sql(begun)).await?;
        place.taken = true;
        drop(place);
        Ok(Transaction { connection: Some(Connection::SqliteWriter(batch)), sqlite: Some(writer) })
    }

    /// Commits or rolls back. `visible`: answers that are kept in memory may depend on the change.
    pub(super) async fn finish<T>(mut self, outcome: Result<T>, visible: bool) -> Finished<T> {
        match self.connection.take() {
            Some(Connection::PostgresTransaction(transaction)) => finish_postgres(transaction, outcome).await,
            Some(Connection::SqliteWriter(batch)) => match self.sqlite.take() {
                Some(writer) => finish_sqlite(writer, batch, outcome, visible).await,
                None => Finished::Collided,
            },
            _ => Finished::Collided,
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // PostgreSQL's transaction rolls itself back. Of SQLite's batch, only our step is undone.
        if let (Some(Connection::SqliteWriter(batch)), Some(writer), Ok(runtime)) =
            (self.connection.take(), self.sqlite.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move { end_step(&writer, batch, Step::Undone).await });
        }
    }
}

async fn finish_postgres<T>(transaction: sqlx::Transaction<'static, Postgres>, outcome: Result<T>) -> Finished<T> {
    let ended = match outcome {
        Ok(value) => transaction.commit().await.map(|()| value).map_err(MetadataError::from),
        Err(error) => {
            transaction.rollback().await.ok(); // a connection that cannot roll back is closed by the pool
            Err(error)
        }
    };
    match ended {
        Err(MetadataError::Database(sqlx::Error::Database(error)))
            // serialization_failure, deadlock_detected, and unique or foreign key violations: a row that the
            // block did not find when it looked has been inserted since, or one that it found is gone.
            if matches!(error.code().as_deref(), Some("40001" | "40P01" | "23505" | "23503")) =>
        {
            Finished::Collided
        }
        ended => Finished::Done(ended),
    }
}

/// SQLite's one writing connection, and the transactions of the batch that is open on it.
pub(super) struct Batch {
    connection: SqliteConnection,
    /// `BEGIN` has run, `COMMIT` has not.
    open: bool,
    /// A transaction began and has not ended; found set, its owner is gone.
    broken: bool,
    /// A change in the batch is visible to kept answers.
    visible: bool,
    /// Transactions that are complete and wait for the commit.
    waiting: Vec<oneshot::Sender<()>>,
    generation: Arc<Generation>,
}

impl Batch {
    async fn commit(&mut self) -> Result<()> {
        let generation = self.generation.clone();
        let seen = match self.visible.then(|| generation.begin()).transpose() {
            Ok(seen) => seen,
            Err(error) => {
                self.abandon().await;
                return Err(error.into());
            }
        };
        let committed = self.connection.execute("COMMIT").await;
        drop(seen);
        match committed {
            Ok(_) => {
                self.open = false;
                self.visible = false;
                for waiting in self.waiting.drain(..) {
                    waiting.send(()).ok(); // nobody waits whose request was cancelled
                }
                Ok(())
            }
            Err(error) => {
                self.abandon().await;
                Err(error.into())
            }
        }
    }

    /// Rolls the whole batch back. Those who wait see their channel close and run again.
    async fn abandon(&mut self) {
        if self.open {
            self.connection.execute("ROLLBACK").await.ok(); // SQLite may have rolled back already
        }
        self.open = false;
        self.visible = false;
        self.broken = false;
        self.waiting.clear();
    }
}

pub(super) struct SqliteWriter {
    batch: Arc<Mutex<Batch>>,
    /// How many transactions wait for the connection.
    queued: AtomicUsize,
}

impl SqliteWriter {
    pub(super) async fn connect(
        options: &SqliteConnectOptions,
        lock: &Path,
        generation: Arc<Generation>,
    ) -> Result<Self> {
        let mut connection = SqliteConnection::connect_with(options).await?;
        migrate::sqlite(&mut connection, lock).await?;
        let batch = Batch { connection, open: false, broken: false, visible: false, waiting: Vec::new(), generation };
        Ok(SqliteWriter { batch: Arc::new(Mutex::new(batch)), queued: AtomicUsize::new(0) })
    }

    pub(super) async fn close(&self) {
        let mut batch = self.batch.lock().await;
        if batch.open {
            batch.commit().await.ok(); // whoever waits sees the outcome
        }
        batch.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.ok(); // the next start does it otherwise
    }

    /// Commits what is waiting, when the one who should have done it has left the queue.
    async fn flush(&self) {
        let mut batch = self.batch.lock().await;
        if batch.broken {
            batch.abandon().await;
        } else if batch.open && self.queued.load(Ordering::SeqCst) == 0 {
            batch.commit().await.ok(); // those who wait run again
        }
    }
}

/// A place in the queue for the connection; leaving it early must not leave others waiting for a commit.
struct Place {
    writer: Arc<SqliteWriter>,
    taken: bool,
}

impl Place {
    fn queue(writer: &Arc<SqliteWriter>) -> Self {
        writer.queued.fetch_add(1, Ordering::SeqCst);
        Place { writer: writer.clone(), taken: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.writer.queued.fetch_sub(1, Ordering::SeqCst);
        if !self.taken
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let writer = self.writer.clone();
            runtime.spawn(async move { writer.flush().await });
        }
    }
}

/// How one transaction of a batch ends.
#[derive(Clone, Copy)]
enum Step {
    /// It counts. `visible`: kept answers may depend on it.
    Done { visible: bool },
    /// It is rolled back; the others of the batch stay.
    Undone,
}

async fn finish_sqlite<T>(
    writer: Arc<SqliteWriter>,
    batch: OwnedMutexGuard<Batch>,
    outcome: Result<T>,
    visible: bool,
) -> Finished<T> {
    let step = if outcome.is_ok() { Step::Done { visible } } else { Step::Undone };
    // In a task of its own: it must not be cut off together with its request. Others may wait for this commit,
    // and the generation must know when it has happened.
    let ended = tokio::spawn(async move { end_step(&writer, batch, step).await }).await;
    match ended {
        Ok(Ok(None)) => Finished::Done(outcome),
        Ok(Ok(Some(committed))) => match committed.await {
            Ok(()) => Finished::Done(outcome),
            Err(_) => Finished::Collided,
        },
        Ok(Err(error)) => Finished::Done(outcome.and(Err(error))),
        Err(_) => Finished::Collided,
    }
}

/// Ends a step, and the batch unless somebody comes after us who will. `Some`: resolves when that has happened.
async fn end_step(
    writer: &SqliteWriter,
    mut batch: OwnedMutexGuard<Batch>,
    step: Step,
) -> Result<Option<oneshot::Receiver<()>>> {
    let ended = match step {
        Step::Done { .. } => "RELEASE step",
        Step::Undone => "ROLLBACK TO step; RELEASE step",
    };
    if let Err(error) = batch.connection.execute(sqlx::raw_sql(ended)).await {
        // A full disk or an I/O error has ended the transaction of the whole batch: the others run again.
        batch.abandon().await;
        return Err(error.into());
    }
    batch.broken = false;
    batch.visible |= matches!(step, Step::Done { visible: true });
    if writer.queued.load(Ordering::SeqCst) == 0 || batch.waiting.len() >= BATCH_LIMIT {
        return batch.commit().await.map(|()| None);
    }
    match step {
        Step::Undone => Ok(None),
        Step::Done { .. } => {
            let (sender, receiver) = oneshot::channel();
            batch.waiting.push(sender);
            Ok(Some(receiver))
        }
    }
}
