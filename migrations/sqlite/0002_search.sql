-- What a search shows of a repository. migrations/postgres holds the same step in PostgreSQL's words.

ALTER TABLE repositories ADD COLUMN description TEXT NOT NULL DEFAULT '';

-- How often images of a repository were pulled. A table of its own: its rows change all the time, and nothing that is
-- kept in memory depends on them.
CREATE TABLE pulls (
    repository_id INTEGER PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    total         INTEGER NOT NULL
) STRICT;
