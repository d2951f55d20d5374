"""p95 latency and tokens by model and day over all Runs, asked of S3 with Spark.

    spark-submit spark.py s3a://bucket/prefix [--compacted]

Spark reads the segments as they are, or what ``asynctrack compact`` made of them; ``experiment``,
``run`` and ``dt`` are columns of both. Times are taken in microseconds.
"""

from __future__ import annotations

import argparse
import json

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

COLUMNS = """
    writer_id STRING, seq BIGINT, time_unix_nano BIGINT, event STRING, span_id STRING,
    duration DOUBLE, attributes STRUCT<
        `gen_ai.request.model`: STRING,
        `gen_ai.usage.input_tokens`: BIGINT, `gen_ai.usage.output_tokens`: BIGINT
    >
"""
CALLS = ["chat_model_start", "llm_start", "llm_end"]


def segments(spark: SparkSession, root: str) -> DataFrame:
    """Return the events as a tracker wrote them. It skips the folders whose names begin with _."""
    events = spark.read.schema(COLUMNS).json(f"{root}/asynctrack/v1/")
    attributes = {
        "model": "gen_ai.request.model",
        "input_tokens": "gen_ai.usage.input_tokens",
        "output_tokens": "gen_ai.usage.output_tokens",
    }
    return events.withColumns(
        {name: f.col(f"attributes.`{key}`") for name, key in attributes.items()}
    )


def compacted(spark: SparkSession, root: str) -> DataFrame:
    """Return the events that were compacted: most of what is asked is a column there."""
    events = spark.read.parquet(f"{root}/asynctrack/v1-compact/")
    duration = f.get_json_object("rest", "$.duration").cast("double")
    return events.withColumn("duration", duration)


def ask(events: DataFrame) -> DataFrame:
    """Return the answer."""
    calls = (
        events.where(f.col("event").isin(CALLS))
        # An event may be stored twice, when an answer of S3 was lost: it counts once.
        .dropDuplicates(["writer_id", "seq"])
        .groupBy("writer_id", "span_id")
        .agg(
            f.max("model").alias("model"),
            f.expr("min(time_unix_nano div 1000) FILTER (WHERE event <> 'llm_end')").alias(
                "started"
            ),
            f.max("duration").alias("took"),  # whatever clocks were set to
            f.max("input_tokens").alias("input_tokens"),
            f.max("output_tokens").alias("output_tokens"),
        )
        .where("started IS NOT NULL AND took IS NOT NULL")
    )
    return (
        calls.withColumn("day", f.date_format(f.timestamp_micros("started"), "yyyy-MM-dd"))
        .groupBy("model", "day")
        .agg(
            f.count("*").alias("calls"),
            f.expr("percentile_disc(0.95) WITHIN GROUP (ORDER BY took)").alias("p95_seconds"),
            f.sum("input_tokens").alias("input_tokens"),
            f.sum("output_tokens").alias("output_tokens"),
        )
        .orderBy("model", "day")
    )


def main() -> None:
    """Ask, and print a JSON object for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="s3a://bucket/prefix, above asynctrack/v1")
    parser.add_argument("--compacted", action="store_true", help="read asynctrack/v1-compact")
    options = parser.parse_args()
    # A day is one of UTC, as in the keys; Spark's own is the machine's.
    builder = SparkSession.builder.appName("asynctrack")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    read = compacted if options.compacted else segments
    for row in ask(read(spark, options.root.rstrip("/"))).collect():
        print(json.dumps(row.asDict()))


if __name__ == "__main__":
    main()
