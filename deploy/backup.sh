#!/bin/sh
# Copies the state of a cove-server with SQLite and a folder, while it runs: backup.sh DATA TARGET
# Run it again on the same TARGET and only what is new is copied. deploy/README.md tells why in this order.
set -eu
data=${1:?the data folder}
target=${2:?the folder to copy to}
mkdir -p "$target/blobs"

copy_blobs() {
    # 24: files went away meanwhile, because nothing needs them any more.
    rsync -a --exclude=/lock "$@" "$data/blobs/" "$target/blobs/" || [ $? = 24 ]
}

# First the blobs, and nothing is deleted in the copy: so whatever the collector takes from now on is here.
copy_blobs
# Then the database, in one read transaction; the last one is replaced only by a complete one.
rm -f "$target/cove.db.new"
sqlite3 -readonly "$data/cove.db" ".timeout 10000" "VACUUM INTO '$target/cove.db.new'"
sync "$target/cove.db.new"
rm -f "$target/cove.db-wal" "$target/cove.db-shm"
mv "$target/cove.db.new" "$target/cove.db"
# Then the blobs that came meanwhile: so every row of that database has its bytes.
copy_blobs
sync "$target"
