CREATE TABLE IF NOT EXISTS products (key BLOB PRIMARY KEY, value BLOB);
-- One row: where to go on.
CREATE TABLE IF NOT EXISTS checkpoint (id INTEGER PRIMARY KEY, text TEXT);
BEGIN;
