-- The state of a registry. Times are milliseconds since 1970 UTC, sizes are bytes.
-- migrations/postgres holds the same step in PostgreSQL's words; a test compares the two.

CREATE TABLE accounts (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT    NOT NULL UNIQUE,
    kind             TEXT    NOT NULL CHECK (kind IN ('user', 'robot')),
    administrator    INTEGER NOT NULL,
    disabled         INTEGER NOT NULL,
    password         TEXT,              -- argon2id in PHC form; null: only tokens log in
    password_version INTEGER NOT NULL,  -- raised by every change, ends what the old password gave
    created_ms       INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id       INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind             TEXT    NOT NULL CHECK (kind IN ('personal', 'refresh')),
    name             TEXT    NOT NULL,
    hash             TEXT    NOT NULL UNIQUE, -- sha256 of the secret; the secret itself is never stored
    scopes           TEXT    NOT NULL,        -- space-separated limits; empty: all that the account may
    source_token_id  INTEGER REFERENCES tokens (id) ON DELETE CASCADE, -- the token a refresh token came from
    password_version INTEGER,                 -- or the password it came from
    created_ms       INTEGER NOT NULL,
    expires_ms       INTEGER,
    used_ms          INTEGER
) STRICT;
CREATE INDEX tokens_by_account ON tokens (account_id);
CREATE INDEX tokens_by_source ON tokens (source_token_id);

CREATE TABLE grants (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER REFERENCES accounts (id) ON DELETE CASCADE, -- null: anonymous
    pattern    TEXT    NOT NULL, -- a repository name, or PREFIX/*
    level      TEXT    NOT NULL CHECK (level IN ('pull', 'push', 'delete', 'admin')),
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_by_account ON grants (account_id);

CREATE TABLE signing_keys (
    id          TEXT    PRIMARY KEY,
    algorithm   TEXT    NOT NULL,
    private_key TEXT    NOT NULL, -- PKCS #8, base64
    public_x    TEXT    NOT NULL, -- coordinates of the public point, base64url
    public_y    TEXT    NOT NULL,
    created_ms  INTEGER NOT NULL,
    retired_ms  INTEGER           -- since when it signs nothing new
) STRICT;

CREATE TABLE repositories (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    visibility TEXT    NOT NULL CHECK (visibility IN ('private', 'public')),
    created_ms INTEGER NOT NULL
) STRICT;

-- Bytes in the blob store. Every object belongs to one content, which is an upload first and a blob later;
-- its row is committed before its first byte is written, so no byte is ever unknown.
CREATE TABLE objects (
    key       TEXT    PRIMARY KEY,
    content   TEXT    NOT NULL,
    position  INTEGER NOT NULL,          -- order within the content
    length    INTEGER NOT NULL,          -- durable bytes
    multipart TEXT,                      -- id of the multipart upload that is still open
    parts     TEXT,                      -- its durable parts, JSON
    UNIQUE (content, position)
) STRICT;

-- Blobs in several objects, which the collector joins.
CREATE INDEX objects_by_scattered_content ON objects (content) WHERE position > 0;

CREATE TABLE uploads (
    id         TEXT    PRIMARY KEY,      -- also the content that it fills
    repository TEXT    NOT NULL,
    account_id INTEGER,                  -- who began it; null without accounts
    size       INTEGER NOT NULL,         -- durable bytes
    hash_state TEXT    NOT NULL,         -- of exactly those bytes
    writer     INTEGER NOT NULL,         -- raised by each request that writes: a stale one then fails
    touched_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX uploads_by_touched ON uploads (touched_ms);

CREATE TABLE blobs (
    digest     TEXT    PRIMARY KEY,
    size       INTEGER NOT NULL,
    content    TEXT    NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT;

-- Content that nothing points to any more: its objects are deleted, then its rows.
CREATE TABLE garbage (
    content  TEXT    PRIMARY KEY,
    since_ms INTEGER NOT NULL
) STRICT;

-- A blob can be read through a repository that links it, and no other way.
CREATE TABLE repository_blobs (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest        TEXT    NOT NULL REFERENCES blobs (digest),
    created_ms    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT;
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

CREATE TABLE manifests (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest        TEXT    NOT NULL,
    media_type    TEXT    NOT NULL,
    bytes         BLOB    NOT NULL,
    subject       TEXT,
    artifact_type TEXT,
    annotations   TEXT,
    created_ms    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT;
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject);

-- Edges. They say what a manifest names; they never give access.
CREATE TABLE manifest_blobs (
    repository_id INTEGER NOT NULL,
    manifest      TEXT    NOT NULL,
    blob          TEXT    NOT NULL,
    required      INTEGER NOT NULL, -- the blob was linked when the manifest came, and stays so
    PRIMARY KEY (repository_id, manifest, blob),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
) STRICT;
CREATE INDEX manifest_blobs_by_blob ON manifest_blobs (repository_id, blob);

CREATE TABLE manifest_children (
    repository_id INTEGER NOT NULL,
    parent        TEXT    NOT NULL,
    child         TEXT    NOT NULL,
    PRIMARY KEY (repository_id, parent, child),
    FOREIGN KEY (repository_id, parent) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
) STRICT;
CREATE INDEX manifest_children_by_child ON manifest_children (repository_id, child);

CREATE TABLE tags (
    repository_id INTEGER NOT NULL,
    name          TEXT    NOT NULL,
    digest        TEXT    NOT NULL,
    updated_ms    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
) STRICT;
CREATE INDEX tags_by_digest ON tags (repository_id, digest);

-- What may have become unused, to be looked at again when its grace is over.
CREATE TABLE reviews (
    kind          TEXT    NOT NULL CHECK (kind IN ('manifest', 'link', 'blob')),
    repository_id INTEGER NOT NULL, -- 0 for blobs, which belong to no repository
    digest        TEXT    NOT NULL,
    due_ms        INTEGER NOT NULL,
    PRIMARY KEY (kind, repository_id, digest)
) STRICT;
CREATE INDEX reviews_by_due ON reviews (due_ms);
