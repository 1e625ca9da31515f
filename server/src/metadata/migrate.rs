//! Brings the schema up to date, step by step, under a lock: two programs may start together.

use std::fs::File;
use std::path::Path;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Acquire, PgPool, SqlSafeStr, SqliteConnection};

use super::{MetadataError, Result};

/// A numbered step: version, name, SQLite's words, PostgreSQL's words.
type Step = (i64, &'static str, &'static str, &'static str);

const STEPS: &[Step] = &[
    (
        1,
        "initial",
        include_str!("../../../migrations/sqlite/0001_initial.sql"),
        include_str!("../../../migrations/postgres/0001_initial.sql"),
    ),
    (
        2,
        "search",
        include_str!("../../../migrations/sqlite/0002_search.sql"),
        include_str!("../../../migrations/postgres/0002_search.sql"),
    ),
];

fn migrator(sql: fn(&Step) -> &'static str) -> Migrator {
    let step = |step: &Step| {
        let (version, name, ..) = *step;
        Migration::new(version, name.into(), MigrationType::Simple, sql(step).into_sql_str(), false)
    };
    Migrator::with_migrations(STEPS.iter().map(step).collect())
}

/// sqlx's own lock does nothing on SQLite, so a lock file keeps two programs apart.
pub(super) async fn sqlite(connection: &mut SqliteConnection, lock: &Path) -> Result<()> {
    let file: File = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(lock)?.into_parts().0;
    let file =
        tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.map_err(std::io::Error::other)??;
    let outcome = run(&migrator(|step| step.2), connection).await;
    drop(file);
    outcome
}

pub(super) async fn postgres(pool: &PgPool) -> Result<()> {
    run(&migrator(|step| step.3), &mut *pool.acquire().await?).await
}

async fn run<'c, C>(migrator: &Migrator, connection: C) -> Result<()>
where
    C: Acquire<'c>,
    <C::Connection as std::ops::Deref>::Target: Migrate,
{
    migrator.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => MetadataError::TooNew(version),
        other => MetadataError::Migrate(other),
    })
}
