"""p95 latency and tokens by model and day over all Runs, with Spark (not run by our tests).

    spark-submit spark.py s3a://bucket/prefix

It reads what ``asynctrack compact`` wrote: Spark reads zstd only where Hadoop was built with it,
and Parquet everywhere. ``experiment``, ``run`` and ``dt`` become columns of the table.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

spark = SparkSession.builder.appName("asynctrack").getOrCreate()
events = spark.read.parquet(f"{sys.argv[1].rstrip('/')}/asynctrack/v1-compact/")
calls = (
    events.where(f.col("event").isin("chat_model_start", "llm_start", "llm_end"))
    .dropDuplicates(["writer_id", "seq"])
    .withColumn("micros", (f.col("time_unix_nano") / 1000).cast("bigint"))
    .groupBy("writer_id", "span_id")
    .agg(
        f.max(f.get_json_object("attributes", "$['gen_ai.request.model']")).alias("model"),
        f.min(f.when(f.col("event") != "llm_end", f.col("micros"))).alias("started"),
        f.max(f.get_json_object("rest", "$.duration").cast("double")).alias("took"),
        f.max("input_tokens").alias("input_tokens"),
        f.max("output_tokens").alias("output_tokens"),
    )
    .where("started IS NOT NULL AND took IS NOT NULL")
    .withColumn("day", f.to_date(f.timestamp_micros("started")))
)
calls.groupBy("model", "day").agg(
    f.count("*").alias("calls"),
    f.expr("percentile(took, 0.95)").alias("p95_seconds"),
    f.sum("input_tokens").alias("input_tokens"),
    f.sum("output_tokens").alias("output_tokens"),
).orderBy("model", "day").show(100, truncate=False)

# Large texts and lists are values, in rows of their own (event = 'value'): what stands in their
# place is joined with them. Here two places in inputs, a text and a list.
events.createOrReplaceTempView("lines")
spark.sql(r"""
WITH kept AS (
  -- A value stands once for each segment that needs it, and a list comes in parts.
  SELECT name AS id, any_value(get_json_object(concat('[', data, ']'), '$[0]')) AS text,
    flatten(transform(
      array_sort(collect_set(struct(
        CAST(get_json_object(data, '$.from') AS BIGINT) AS start,
        from_json(get_json_object(data, '$.items'), 'array<string>') AS items
      ))),
      part -> part.items
    )) AS items
  FROM lines WHERE event = 'value' GROUP BY name
), events AS (
  SELECT DISTINCT writer_id, seq,
    get_json_object(inputs, '$.document') AS document,
    get_json_object(inputs, '$.messages') AS messages,
    get_json_object(inputs, "$.document['$ref']") AS document_id,
    get_json_object(inputs, "$.messages['$ref']") AS messages_id
  FROM lines WHERE event <> 'value'
)
SELECT e.seq, coalesce(d.text, e.document) AS document,
  coalesce(
    concat('[', array_join(
      slice(m.items, 1, CAST(get_json_object(e.messages, '$.items') AS INT)), ','
    ), ']'),
    e.messages
  ) AS messages
FROM events e
LEFT JOIN kept d ON d.id = e.document_id
LEFT JOIN kept m ON m.id = e.messages_id
ORDER BY e.seq
""").show(20)
