-- What a search shows of a repository. migrations/sqlite holds the same step in SQLite's words.

ALTER TABLE repositories ADD COLUMN description TEXT COLLATE "C" NOT NULL DEFAULT '';

-- How often images of a repository were pulled. A table of its own: its rows change all the time, and every request
-- reads those of `repositories`.
CREATE TABLE pulls (
    repository_id BIGINT PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    total         BIGINT NOT NULL
);
