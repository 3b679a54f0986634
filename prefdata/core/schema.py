"""The tables, as numbered migrations; each is recorded in the transaction that runs it and never edited afterwards.

No primary keys: on bulk tables they make loading eight times slower. Identity is kept by anti-joins under the store's
lock. `prompts`, `responses`, `pairs` only ever grow, so their row numbers are stable and texts of neighbouring pairs
lie close together (`scan.py` relies on it). Texts are not compressed: twice the size of the file, half the time of an
import.
"""

from __future__ import annotations

import duckdb

from prefdata.core.errors import StoreError

_FIRST = """
CREATE TABLE prompts (
    id UUID, messages JSON USING COMPRESSION uncompressed, source VARCHAR, meta JSON,
    chars INTEGER,   -- characters of all message texts
    twin UUID,       -- hash of the trimmed, lower-cased text: prompts with one twin never part in a split
    plain BOOLEAN    -- came as plain text rather than as chat messages
);
CREATE TABLE responses (
    id UUID, prompt_id UUID, text VARCHAR USING COMPRESSION uncompressed, model VARCHAR, sample INTEGER, chars INTEGER,
    strategy VARCHAR, role VARCHAR, parents JSON, params JSON, finish VARCHAR, tokens_in INTEGER, tokens_out INTEGER,
    source VARCHAR
);
CREATE TABLE pairs (id UUID, prompt_id UUID, a UUID, b UUID, source VARCHAR, strategy VARCHAR);
CREATE TABLE items (   -- one row of an imported file: where a thing came from
    id UUID, kind VARCHAR, source VARCHAR, subset VARCHAR, item_id VARCHAR, subject UUID, swapped BOOLEAN,
    file VARCHAR, line BIGINT, meta JSON
);
CREATE TABLE annotators (id VARCHAR, kind VARCHAR, name VARCHAR, groups JSON);
CREATE TABLE annotations (
    id UUID, subject UUID, kind VARCHAR, annotator_id VARCHAR, annotator_kind VARCHAR,
    choice VARCHAR, strength DOUBLE,
    score DOUBLE, score_a DOUBLE, score_b DOUBLE, scores JSON,
    rationale VARCHAR, shown VARCHAR, seconds DOUBLE, key VARCHAR, raw VARCHAR, source VARCHAR,
    created TIMESTAMP, retracts UUID
);
CREATE TABLE labels (
    pair_id UUID, key VARCHAR, p_a DOUBLE, p_tie DOUBLE, winner VARCHAR, margin DOUBLE, confidence DOUBLE, votes INTEGER
);
CREATE TABLE signals (subject UUID, kind VARCHAR, key VARCHAR, name VARCHAR, value DOUBLE);
CREATE TABLE decisions (pair_id UUID, key VARCHAR, reason VARCHAR);
CREATE TABLE queue (
    pair_id UUID, key VARCHAR, send_to VARCHAR, priority DOUBLE, reason VARCHAR
);
CREATE TABLE calls (
    id VARCHAR, model VARCHAR, request JSON, reply JSON,
    tokens_in INTEGER, tokens_out INTEGER, cost DOUBLE, seconds DOUBLE, created TIMESTAMP
);
CREATE TABLE outcomes (key VARCHAR, subject UUID, state VARCHAR, note VARCHAR, cost DOUBLE);
CREATE TABLE steps (
    key VARCHAR, shelf VARCHAR, method VARCHAR, params JSON, gives JSON, fingerprint VARCHAR, row_count BIGINT,
    run_id UUID, used TIMESTAMP
);
CREATE TABLE runs (
    id UUID, command VARCHAR, recipe JSON, code_version VARCHAR, started TIMESTAMP, ended TIMESTAMP, state VARCHAR,
    report JSON
);
CREATE TABLE exports (id UUID, key VARCHAR, path VARCHAR, manifest JSON, run_id UUID, created TIMESTAMP);
CREATE TABLE trainings (
    id UUID, objective VARCHAR, path VARCHAR, config JSON, data_hash VARCHAR, metrics JSON, created TIMESTAMP
);
"""

_VIEWS = """
CREATE VIEW pair_texts AS
    SELECT p.id AS pair_id, p.source, json_extract_string(pr.messages, '$[#-1].content') AS prompt,
           ra.text AS a_text, rb.text AS b_text, ra.model AS a_model, rb.model AS b_model
    FROM pairs p JOIN prompts pr ON pr.id = p.prompt_id
    JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b;
CREATE VIEW live_annotations AS
    SELECT * FROM annotations x WHERE retracts IS NULL
    AND NOT EXISTS (SELECT 1 FROM annotations r WHERE r.retracts = x.id);
CREATE VIEW newest_labels AS
    SELECT l.* FROM labels l
    WHERE key = (SELECT key FROM steps WHERE shelf = 'aggregate' ORDER BY used DESC LIMIT 1);
"""

_LEASES = """
CREATE TABLE leases (   -- pairs in somebody's hands right now; expired rows mean nothing
    pair_id UUID, annotator_id VARCHAR, desk VARCHAR,
    until DOUBLE        -- unix seconds
);
"""

_SEEN = """
ALTER TABLE outcomes ADD COLUMN seen VARCHAR;
-- what else the outcome hangs on (the responses of a group, the label a judge was told); where it changes, the row is missing again
"""

MIGRATIONS: tuple[tuple[str, str], ...] = (
    ("first tables", _FIRST),
    ("views for people", _VIEWS),
    ("leases of the labelling app", _LEASES),
    ("what an outcome hangs on", _SEEN),
)


def version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """How many migrations the store has seen; 0 for an empty file, None for a database that is not ours."""
    tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "prefdata_migrations" not in tables:
        return None if tables else 0
    row = connection.execute("SELECT max(number) FROM prefdata_migrations").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def check(found: int | None, path: object) -> None:
    """Refuse what this code must not touch."""
    if found is None:
        raise StoreError(f"{str(path)!r} is a DuckDB file with tables that are not prefdata's; give another --store FILE.")
    if found > len(MIGRATIONS):
        raise StoreError(
            f"{str(path)!r} was written by a newer prefdata (store version {found}, this one knows {len(MIGRATIONS)}); "
            "upgrade with  pip install -U prefdata."
        )


def migrate(connection: duckdb.DuckDBPyConnection, found: int) -> None:
    """Run what is pending, one transaction each."""
    for number in range(found, len(MIGRATIONS)):
        name, statements = MIGRATIONS[number]
        connection.begin()
        if number == 0:
            connection.execute("CREATE TABLE prefdata_migrations (number INTEGER, name VARCHAR, applied TIMESTAMP)")
        connection.execute(statements)
        connection.execute("INSERT INTO prefdata_migrations VALUES (?, ?, now()::TIMESTAMP)", [number + 1, name])
        connection.commit()
