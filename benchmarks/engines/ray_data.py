"""p95 latency and tokens by model and day over all Runs, asked of S3 with Ray Data.

    python ray_data.py s3://bucket/prefix [--endpoint-url URL] [--address auto]

Arrow reads the segments, with a schema of what the question needs: it skips the rest of each line,
so that payloads may hold anything. Times are taken in microseconds. Without ``--address`` Ray
starts on this machine.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.compute
import pyarrow.fs
import pyarrow.json
import ray
from ray.data.aggregate import Max, Min
from ray.data.datasource.partitioning import Partitioning

STARTS = ["chat_model_start", "llm_start"]
ATTRIBUTES = pyarrow.struct(
    {
        "gen_ai.request.model": pyarrow.string(),
        "gen_ai.usage.input_tokens": pyarrow.int64(),
        "gen_ai.usage.output_tokens": pyarrow.int64(),
    }
)
SCHEMA = pyarrow.schema(
    {
        "writer_id": pyarrow.string(),
        "time_unix_nano": pyarrow.int64(),
        "event": pyarrow.string(),
        "span_id": pyarrow.string(),
        "duration": pyarrow.float64(),
        "attributes": ATTRIBUTES,
    }
)


def model_calls(events: pyarrow.Table) -> pyarrow.Table:
    """Return the starts and ends of model calls, with what the question asks of them."""
    event = events["event"].to_pandas()
    starts, ends = event.isin(STARTS), event == "llm_end"
    attributes = events["attributes"].combine_chunks()
    found = pandas.DataFrame(
        {
            "writer_id": events["writer_id"].to_pandas(),
            "span_id": events["span_id"].to_pandas(),
            "started": pandas.array(events["time_unix_nano"].to_pandas() // 1000, "Int64"),
            "took": events["duration"].to_pandas().astype("Float64"),
        }
    )
    found["started"] = found["started"].where(starts)
    for name, field in zip(("model", "input_tokens", "output_tokens"), ATTRIBUTES, strict=True):
        column = pyarrow.compute.struct_field(attributes, [field.name])
        found[name] = column.to_pandas(types_mapper={pyarrow.int64(): pandas.Int64Dtype()}.get)
    return pyarrow.Table.from_pandas(found[starts | ends], preserve_index=False)


def totals(calls: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row for the calls of a model on a day."""
    # The smallest latency that 95 of 100 are at most.
    p95 = numpy.quantile(calls["took"].to_numpy("float64"), 0.95, method="inverted_cdf")
    return pandas.DataFrame(
        {
            "model": calls["model"].iloc[:1],
            "day": calls["day"].iloc[:1],
            "calls": len(calls),
            "p95_seconds": p95,
            "input_tokens": calls["input_tokens"].sum(),
            "output_tokens": calls["output_tokens"].sum(),
        }
    )


def with_day(calls: pandas.DataFrame) -> pandas.DataFrame:
    """Return the calls that have a start and an end, and the day of each."""
    calls = calls.dropna(subset=["started", "took"])
    days = pandas.to_datetime(calls["started"].astype("int64"), unit="us").dt.strftime("%Y-%m-%d")
    return calls.assign(day=days)


def ask(root: str, filesystem: pyarrow.fs.FileSystem | None) -> list[dict[str, Any]]:
    """Return the answer; the cluster that is current does the work."""
    events = ray.data.read_json(
        f"{root}/asynctrack/v1/",
        filesystem=filesystem,
        file_extensions=["jsonl.zst"],
        partitioning=Partitioning("hive"),  # experiment, run and dt are columns
        arrow_open_stream_args={"compression": "zstd"},
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=SCHEMA, unexpected_field_behavior="ignore"
        ),
    )
    # An event may be stored twice: the least start and the greatest end stay what they are.
    calls = (
        events.map_batches(model_calls, batch_format="pyarrow")
        .groupby(["writer_id", "span_id"], num_partitions=4)
        .aggregate(
            Min("started", alias_name="started"),
            *(
                Max(name, alias_name=name)
                for name in ("took", "model", "input_tokens", "output_tokens")
            ),
        )
        .map_batches(with_day, batch_format="pandas")
    )
    answer = calls.groupby(["model", "day"], num_partitions=4).map_groups(
        totals, batch_format="pandas"
    )
    return sorted(answer.take_all(), key=lambda row: (row["model"], row["day"]))


def main() -> None:
    """Ask, and print a JSON object for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="s3://bucket/prefix, above asynctrack/v1")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--address", help="of a cluster that is running")
    options = parser.parse_args()
    filesystem = None
    if options.endpoint_url:
        filesystem = pyarrow.fs.S3FileSystem(endpoint_override=options.endpoint_url)
    local = {} if options.address else {"include_dashboard": False}
    ray.init(options.address, log_to_driver=False, **local)
    for row in ask(options.root.rstrip("/"), filesystem):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
