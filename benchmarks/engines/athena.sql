-- Events as a table of Athena, without a crawler: the partitions are computed from the keys.
-- Replace my-bucket/my/prefix; enum and range are yours too: projection wants to know what there
-- may be. Athena (engine version 3) reads .jsonl.zst and .jsonl.gz as they are.
CREATE EXTERNAL TABLE asynctrack_events (
  v int,
  writer_id string,
  seq bigint,
  time_unix_nano bigint,
  event string,
  span_id string,
  parent_span_id string,
  trace_id string,
  name string,
  tags array<string>,
  metadata string,
  inputs string,
  outputs string,
  error string,
  data string,
  attributes map<string,string>,
  duration double,
  outcome string,
  cause string
)
PARTITIONED BY (experiment string, run string, dt string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
WITH SERDEPROPERTIES ('ignore.malformed.json' = 'false', 'dots.in.keys' = 'false')
LOCATION 's3://my-bucket/my/prefix/asynctrack/v1/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.experiment.type' = 'injected',
  'projection.run.type' = 'injected',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2025-01-01,NOW',
  'storage.location.template' = 's3://my-bucket/my/prefix/asynctrack/v1/experiment=${experiment}/run=${run}/dt=${dt}/'
);

-- The same events after `asynctrack compact`, as Parquet: quicker, and cheaper by the byte.
CREATE EXTERNAL TABLE asynctrack_compact (
  writer_id string,
  seq bigint,
  time_unix_nano bigint,
  `time` timestamp,
  event string,
  span_id string,
  parent_span_id string,
  trace_id string,
  name string,
  tags array<string>,
  metadata string,
  inputs string,
  outputs string,
  error string,
  data string,
  attributes string,
  model string,
  input_tokens bigint,
  output_tokens bigint,
  rest string
)
PARTITIONED BY (experiment string, run string, dt string)
STORED AS PARQUET
LOCATION 's3://my-bucket/my/prefix/asynctrack/v1-compact/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.experiment.type' = 'injected',
  'projection.run.type' = 'injected',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2025-01-01,NOW',
  'storage.location.template' = 's3://my-bucket/my/prefix/asynctrack/v1-compact/experiment=${experiment}/run=${run}/dt=${dt}/'
);

-- "injected" wants the names in the WHERE clause; 'projection.run.type' = 'enum' with
-- 'projection.run.values' = 'one,two' asks all Runs together.
WITH events AS (
  -- An event may be stored twice, when an answer of S3 was lost: it counts once.
  SELECT DISTINCT writer_id, seq, span_id, event, time_unix_nano, duration,
    attributes['gen_ai.request.model'] AS model,
    CAST(attributes['gen_ai.usage.input_tokens'] AS bigint) AS input_tokens,
    CAST(attributes['gen_ai.usage.output_tokens'] AS bigint) AS output_tokens
  FROM asynctrack_events
  WHERE experiment = 'jokes' AND run = 'scenario-1' AND dt >= '2026-01-01'
    AND event IN ('chat_model_start', 'llm_start', 'llm_end')
), calls AS (
  SELECT max(model) AS model,
    min(CASE WHEN event <> 'llm_end' THEN time_unix_nano END) AS started,
    max(CASE WHEN event = 'llm_end' THEN duration END) AS took,  -- whatever clocks were set to
    max(input_tokens) AS input_tokens, max(output_tokens) AS output_tokens
  FROM events GROUP BY writer_id, span_id
)
SELECT model, date(from_unixtime(started / 1000000000)) AS day, count(*) AS calls,
  -- Exactly; approx_percentile(took, 0.95) is quicker and nearly that.
  array_sort(array_agg(took))[CAST(ceil(0.95 * count(*)) AS integer)] AS p95_seconds,
  sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
FROM calls WHERE started IS NOT NULL AND took IS NOT NULL
GROUP BY 1, 2 ORDER BY 1, 2;

-- Large texts and lists are values, in rows of their own (event = 'value'): what stands in their place
-- is joined with them. Here two places in inputs, a text and a list; in asynctrack_compact, where data
-- is JSON, the text is json_extract_scalar(data, '$').
WITH lines AS (
  SELECT writer_id, seq, event, name, inputs, data
  FROM asynctrack_events
  WHERE experiment = 'jokes' AND run = 'scenario-1' AND dt >= '2026-01-01'
), kept AS (
  -- A value stands in each object that needs it, and a list comes in parts.
  SELECT name AS id, arbitrary(data) AS text,
    flatten(array_agg(
      CAST(json_extract(data, '$.items') AS array(json))
      ORDER BY CAST(json_extract_scalar(data, '$.from') AS bigint)
    )) AS items
  FROM (SELECT DISTINCT name, data FROM lines WHERE event = 'value')
  GROUP BY name
), events AS (
  SELECT DISTINCT writer_id, seq, event,
    json_extract(inputs, '$.document') AS document, json_extract(inputs, '$.messages') AS messages
  FROM lines WHERE event <> 'value'
)
SELECT e.seq, e.event,
  coalesce(d.text, json_extract_scalar(e.document, '$')) AS document,
  coalesce(
    json_format(CAST(
      slice(m.items, 1, CAST(json_extract_scalar(e.messages, '$.items') AS bigint)) AS json
    )),
    json_format(e.messages)
  ) AS messages
FROM events e
LEFT JOIN kept d ON d.id = json_extract_scalar(e.document, '$["$ref"]')
LEFT JOIN kept m ON m.id = json_extract_scalar(e.messages, '$["$ref"]')
ORDER BY e.seq;
