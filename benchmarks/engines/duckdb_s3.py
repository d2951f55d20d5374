"""p95 latency and tokens by model and day over all Runs, asked of S3 with DuckDB.

    python duckdb_s3.py s3://bucket/prefix [--endpoint-url URL]

The segments are newline-delimited JSON below Hive keys; all there is of asynctrack is that s3fs
verifies certificates with every version of what it stands on. Times are taken in
microseconds. Where DuckDB may download its extension httpfs, ``INSTALL httpfs; LOAD httpfs; CREATE
SECRET (TYPE s3, PROVIDER credential_chain)`` takes the place of s3fs here; the statement stays the
same.
"""

from __future__ import annotations

import argparse
import json

import duckdb
import s3fs

from asynctrack import storage_options

QUESTION = """
WITH events AS (
    -- An event may be stored twice, when an answer of S3 was lost: it counts once.
    SELECT DISTINCT ON (writer_id, seq) *
    FROM read_json('{root}/asynctrack/v1/experiment=*/run=*/dt=*/*.jsonl.zst',
        format = 'newline_delimited', hive_partitioning = true, maximum_object_size = 268435456,
        columns = {{writer_id: 'VARCHAR', seq: 'BIGINT', time_unix_nano: 'BIGINT',
                    event: 'VARCHAR', span_id: 'VARCHAR', attributes: 'JSON', duration: 'DOUBLE'}})
    WHERE event IN ('chat_model_start', 'llm_start', 'llm_end')
), calls AS (
    SELECT
        max(attributes->>'$."gen_ai.request.model"') AS model,
        min(time_unix_nano // 1000) FILTER (event <> 'llm_end') AS started,
        max(duration) FILTER (event = 'llm_end') AS took,  -- whatever clocks were set to
        max((attributes->>'$."gen_ai.usage.input_tokens"')::BIGINT) AS input_tokens,
        max((attributes->>'$."gen_ai.usage.output_tokens"')::BIGINT) AS output_tokens
    FROM events
    GROUP BY writer_id, span_id
    HAVING started IS NOT NULL AND took IS NOT NULL
)
SELECT
    model,
    strftime(make_timestamp(started), '%Y-%m-%d') AS day,
    count(*) AS calls,
    quantile_disc(took, 0.95) AS p95_seconds,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens
FROM calls
GROUP BY model, day
ORDER BY model, day
"""


def main() -> None:
    """Ask, and print a JSON object for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="s3://bucket/prefix, above asynctrack/v1")
    parser.add_argument("--endpoint-url")
    options = parser.parse_args()
    connection = duckdb.connect()
    connection.register_filesystem(
        s3fs.S3FileSystem(
            endpoint_url=options.endpoint_url,
            # Servers that are not AWS answer a ranged request with the whole object's checksum.
            **storage_options(response_checksum_validation="when_required"),
        )
    )
    found = connection.execute(QUESTION.format(root=options.root.rstrip("/")))
    names = [column[0] for column in found.description]
    for row in found.fetchall():
        print(json.dumps(dict(zip(names, row, strict=True))))


if __name__ == "__main__":
    main()
