-- The state of a registry. Times are milliseconds since 1970 UTC, sizes are bytes.
-- migrations/sqlite holds the same step in SQLite's words; a test compares the two. Text is compared by bytes: lists are paged by it.

CREATE TABLE accounts (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             TEXT COLLATE "C" NOT NULL UNIQUE,
    kind             TEXT COLLATE "C" NOT NULL CHECK (kind IN ('user', 'robot')),
    administrator    BOOLEAN NOT NULL,
    disabled         BOOLEAN NOT NULL,
    password         TEXT COLLATE "C",              -- argon2id in PHC form; null: only tokens log in
    password_version BIGINT NOT NULL,  -- raised by every change, ends what the old password gave
    created_ms       BIGINT NOT NULL
);

CREATE TABLE tokens (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id       BIGINT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind             TEXT COLLATE "C" NOT NULL CHECK (kind IN ('personal', 'refresh')),
    name             TEXT COLLATE "C" NOT NULL,
    hash             TEXT COLLATE "C" NOT NULL UNIQUE, -- sha256 of the secret; the secret itself is never stored
    scopes           TEXT COLLATE "C" NOT NULL,        -- space-separated limits; empty: all that the account may
    source_token_id  BIGINT REFERENCES tokens (id) ON DELETE CASCADE, -- the token a refresh token came from
    password_version BIGINT,                 -- or the password it came from
    created_ms       BIGINT NOT NULL,
    expires_ms       BIGINT,
    used_ms          BIGINT
);
CREATE INDEX tokens_by_account ON tokens (account_id);
CREATE INDEX tokens_by_source ON tokens (source_token_id);

CREATE TABLE grants (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id BIGINT REFERENCES accounts (id) ON DELETE CASCADE, -- null: anonymous
    pattern    TEXT COLLATE "C" NOT NULL, -- a repository name, or PREFIX/*
    level      TEXT COLLATE "C" NOT NULL CHECK (level IN ('pull', 'push', 'delete', 'admin')),
    created_ms BIGINT NOT NULL
);
CREATE INDEX grants_by_account ON grants (account_id);

CREATE TABLE signing_keys (
    id          TEXT COLLATE "C" PRIMARY KEY,
    algorithm   TEXT COLLATE "C" NOT NULL,
    private_key TEXT COLLATE "C" NOT NULL, -- PKCS #8, base64
    public_x    TEXT COLLATE "C" NOT NULL, -- coordinates of the public point, base64url
    public_y    TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL,
    retired_ms  BIGINT           -- since when it signs nothing new
);

CREATE TABLE repositories (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    visibility TEXT COLLATE "C" NOT NULL CHECK (visibility IN ('private', 'public')),
    created_ms BIGINT NOT NULL
);

-- Bytes in the blob store. Every object belongs to one content, which is an upload first and a blob later;
-- its row is committed before its first byte is written, so no byte is ever unknown.
CREATE TABLE objects (
    key       TEXT COLLATE "C" PRIMARY KEY,
    content   TEXT COLLATE "C" NOT NULL,
    position  BIGINT NOT NULL,          -- order within the content
    length    BIGINT NOT NULL,          -- durable bytes
    multipart TEXT COLLATE "C",                      -- id of the multipart upload that is still open
    parts     TEXT COLLATE "C",                      -- its durable parts, JSON
    UNIQUE (content, position)
);

-- Blobs in several objects, which the collector joins.
CREATE INDEX objects_by_scattered_content ON objects (content) WHERE position > 0;

CREATE TABLE uploads (
    id         TEXT COLLATE "C" PRIMARY KEY,      -- also the content that it fills
    repository TEXT COLLATE "C" NOT NULL,
    account_id BIGINT,                  -- who began it; null without accounts
    size       BIGINT NOT NULL,         -- durable bytes
    hash_state TEXT COLLATE "C" NOT NULL,         -- of exactly those bytes
    writer     BIGINT NOT NULL,         -- raised by each request that writes: a stale one then fails
    touched_ms BIGINT NOT NULL
);
CREATE INDEX uploads_by_touched ON uploads (touched_ms);

CREATE TABLE blobs (
    digest     TEXT COLLATE "C" PRIMARY KEY,
    size       BIGINT NOT NULL,
    content    TEXT COLLATE "C" NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);

-- Content that nothing points to any more: its objects are deleted, then its rows.
CREATE TABLE garbage (
    content  TEXT COLLATE "C" PRIMARY KEY,
    since_ms BIGINT NOT NULL
);

-- A blob can be read through a repository that links it, and no other way.
CREATE TABLE repository_blobs (
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest        TEXT COLLATE "C" NOT NULL REFERENCES blobs (digest),
    created_ms    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

CREATE TABLE manifests (
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest        TEXT COLLATE "C" NOT NULL,
    media_type    TEXT COLLATE "C" NOT NULL,
    bytes         BYTEA   NOT NULL,
    subject       TEXT COLLATE "C",
    artifact_type TEXT COLLATE "C",
    annotations   TEXT COLLATE "C",
    created_ms    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject);

-- Edges. They say what a manifest names; they never give access.
CREATE TABLE manifest_blobs (
    repository_id BIGINT NOT NULL,
    manifest      TEXT COLLATE "C" NOT NULL,
    blob          TEXT COLLATE "C" NOT NULL,
    required      BOOLEAN NOT NULL, -- the blob was linked when the manifest came, and stays so
    PRIMARY KEY (repository_id, manifest, blob),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_blobs_by_blob ON manifest_blobs (repository_id, blob);

CREATE TABLE manifest_children (
    repository_id BIGINT NOT NULL,
    parent        TEXT COLLATE "C" NOT NULL,
    child         TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, parent, child),
    FOREIGN KEY (repository_id, parent) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_children_by_child ON manifest_children (repository_id, child);

CREATE TABLE tags (
    repository_id BIGINT NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    digest        TEXT COLLATE "C" NOT NULL,
    updated_ms    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest) ON DELETE CASCADE
);
CREATE INDEX tags_by_digest ON tags (repository_id, digest);

-- What may have become unused, to be looked at again when its grace is over.
CREATE TABLE reviews (
    kind          TEXT COLLATE "C" NOT NULL CHECK (kind IN ('manifest', 'link', 'blob')),
    repository_id BIGINT NOT NULL, -- 0 for blobs, which belong to no repository
    digest        TEXT COLLATE "C" NOT NULL,
    due_ms        BIGINT NOT NULL,
    PRIMARY KEY (kind, repository_id, digest)
);
CREATE INDEX reviews_by_due ON reviews (due_ms);
