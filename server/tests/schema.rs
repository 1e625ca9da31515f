//! The two engines' migrations make the same tables, columns and constraints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use cove_server::metadata::{MetadataStore, Policy};
use cove_tests::Postgres;
use sqlx::{Connection, PgConnection, Row, SqliteConnection};

/// A line for each column, constraint and index, in words that both engines share.
type Schema = BTreeSet<String>;

fn column(table: &str, name: &str, kind: &str, required: bool) -> String {
    format!("{table}.{name} {kind} {}", if required { "required" } else { "optional" })
}

async fn sqlite(url: &str) -> Schema {
    MetadataStore::open(url, Policy::default()).await.unwrap().close().await;
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    let mut schema = Schema::new();
    let tables = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sql%'";
    for row in sqlx::query(tables).fetch_all(&mut connection).await.unwrap() {
        let (table, sql): (String, String) = (row.get(0), row.get(1));
        for check in sql.split("CHECK (").skip(1) {
            schema.insert(format!("{table} check {}", quoted(check.split("))").next().unwrap())));
        }
        let columns = "SELECT name, type, \"notnull\", pk FROM pragma_table_info($1) ORDER BY pk";
        let mut key = Vec::new();
        for row in sqlx::query(columns).bind(&table).fetch_all(&mut connection).await.unwrap() {
            let (name, kind, required, place): (String, String, bool, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            schema.insert(column(&table, &name, &kind, required || place > 0));
            key.extend((place > 0).then_some(name));
        }
        schema.insert(format!("{table} primary key ({})", key.join(",")));
        let indexes = "SELECT name, \"unique\" FROM pragma_index_list($1) WHERE origin <> 'pk'";
        for row in sqlx::query(indexes).bind(&table).fetch_all(&mut connection).await.unwrap() {
            let (name, unique): (String, bool) = (row.get(0), row.get(1));
            let columns = "SELECT name FROM pragma_index_info($1) ORDER BY seqno";
            let columns = sqlx::query(columns).bind(&name).fetch_all(&mut connection).await.unwrap();
            let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
            schema.insert(format!("{table} {} ({})", if unique { "unique" } else { "index" }, columns.join(",")));
        }
        let foreign = "SELECT id, \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list($1) ORDER BY seq";
        let rows = sqlx::query(foreign).bind(&table).fetch_all(&mut connection).await.unwrap();
        let ids: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        for id in ids {
            let rows: Vec<_> = rows.iter().filter(|row| row.get::<i64, _>(0) == id).collect();
            let list = |place: usize| rows.iter().map(|row| row.get::<String, _>(place)).collect::<Vec<_>>().join(",");
            let (target, rule): (String, String) = (rows[0].get(1), rows[0].get(4));
            schema.insert(format!("{table} key ({}) of {target}({}) {rule}", list(2), list(3)));
        }
    }
    schema
}

async fn postgres(url: &str) -> Schema {
    MetadataStore::open(url, Policy::default()).await.unwrap().close().await;
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut schema = Schema::new();
    let columns = "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text
                   FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '%sql%'";
    for row in sqlx::query(columns).fetch_all(&mut connection).await.unwrap() {
        let [table, name, kind, nullable]: [String; 4] = std::array::from_fn(|place| row.get(place));
        let kind = match kind.as_str() {
            "bigint" | "boolean" => "INTEGER",
            "text" => "TEXT",
            "bytea" => "BLOB",
            other => panic!("{table}.{name} has type {other}, for which SQLite's schema has no word"),
        };
        schema.insert(column(&table, &name, kind, nullable == "NO"));
    }
    let constraints = "SELECT c.relname::text, k.contype::text, pg_get_constraintdef(k.oid)::text FROM pg_constraint k
                       JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE n.nspname = 'public' AND c.relname NOT LIKE '%sql%' AND k.contype <> 'n'";
    for row in sqlx::query(constraints).fetch_all(&mut connection).await.unwrap() {
        let [table, kind, text]: [String; 3] = std::array::from_fn(|place| row.get(place));
        let text = text.replace(", ", ",").replace('"', ""); // words that are keywords come quoted
        schema.insert(match kind.as_str() {
            "p" => format!("{table} primary key {}", text.trim_start_matches("PRIMARY KEY ")),
            "u" => format!("{table} unique {}", text.trim_start_matches("UNIQUE ")),
            "f" => {
                let (text, rule) = text.split_once(" ON DELETE ").unwrap_or((&text, "NO ACTION"));
                let text = text.trim_start_matches("FOREIGN KEY ").replace(" REFERENCES ", " of ");
                format!("{table} key {text} {rule}")
            }
            _ => format!("{table} check {}", quoted(&text)),
        });
    }
    let indexes = "SELECT tablename::text, indexdef::text FROM pg_indexes
                   WHERE schemaname = 'public' AND indexname LIKE '%\\_by\\_%'";
    for row in sqlx::query(indexes).fetch_all(&mut connection).await.unwrap() {
        let (table, text): (String, String) = (row.get(0), row.get(1));
        let text = text.split(" WHERE ").next().unwrap();
        let columns = text.rsplit_once('(').unwrap().1.trim_end_matches(')').replace(", ", ",");
        schema.insert(format!("{table} index ({columns})"));
    }
    schema
}

/// The quoted words of a check, which are what it allows.
fn quoted(check: &str) -> String {
    check.split('\'').skip(1).step_by(2).collect::<Vec<_>>().join("|")
}

#[tokio::test]
async fn both_engines_have_the_same_schema() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = sqlite(&format!("sqlite://{}", folder.path().join("cove.db").display())).await;
    let server = Postgres::start();
    let postgres = postgres(&server.url()).await;
    assert!(sqlite.len() > 100, "the comparison sees too little: {sqlite:#?}");
    let only_sqlite: Vec<_> = sqlite.difference(&postgres).collect();
    let only_postgres: Vec<_> = postgres.difference(&sqlite).collect();
    assert!(only_sqlite.is_empty() && only_postgres.is_empty(), "{only_sqlite:#?} against {only_postgres:#?}");
}
