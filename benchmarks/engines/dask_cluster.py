"""p95 latency and tokens by model and day over all Runs, asked of S3 on a Dask cluster.

    python dask_cluster.py s3://bucket/prefix [--endpoint-url URL] [--scheduler tcp://…:8786]

Every task reads one segment; all there is of asynctrack is that s3fs verifies certificates with
every version of what it stands on. Times are taken in microseconds, which Dask
keeps whole. Without ``--scheduler`` the cluster is a few processes of this machine.
"""

from __future__ import annotations

import argparse
import io
import json
from typing import Any

import dask
import dask.dataframe as dd
import fsspec
import numpy
import pandas
import zstandard
from distributed import Client, LocalCluster

from asynctrack import storage_options

STARTS = {"chat_model_start", "llm_start"}
META = {
    "writer_id": "string[pyarrow]",
    "seq": "int64",
    "span_id": "string[pyarrow]",
    "model": "string[pyarrow]",
    "started": "Int64",
    "took": "Float64",
    "input_tokens": "Int64",
    "output_tokens": "Int64",
}


def read_segment(key: str, storage: dict[str, Any]) -> pandas.DataFrame:
    """Return a segment's starts and ends of model calls."""
    rows = []
    with fsspec.open(key, "rb", **storage) as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        for line in lines:
            event = json.loads(line)
            starts = event["event"] in STARTS
            if not starts and event["event"] != "llm_end":
                continue
            attributes = event.get("attributes", {})
            microseconds = event["time_unix_nano"] // 1000
            rows.append(
                {
                    "writer_id": event["writer_id"],
                    "seq": event["seq"],
                    "span_id": event["span_id"],
                    "model": attributes.get("gen_ai.request.model"),
                    "started": microseconds if starts else None,
                    "took": event.get("duration"),
                    "input_tokens": attributes.get("gen_ai.usage.input_tokens"),
                    "output_tokens": attributes.get("gen_ai.usage.output_tokens"),
                }
            )
    return pandas.DataFrame(rows, columns=list(META)).astype(META)


def p95(latencies: pandas.Series) -> float:
    """Return the smallest latency that 95 of 100 are at most."""
    return float(numpy.quantile(latencies.to_numpy("float64"), 0.95, method="inverted_cdf"))


def ask(root: str, storage: dict[str, Any]) -> pandas.DataFrame:
    """Return the answer; the cluster that is current does the work."""
    pattern = f"{root}/asynctrack/v1/experiment=*/run=*/dt=*/*.jsonl.zst"
    keys = [file.full_name for file in fsspec.open_files(pattern, **storage)]
    events = dd.from_map(
        read_segment, keys, storage=storage, meta=pandas.DataFrame(columns=list(META)).astype(META)
    )
    # An event may be stored twice, when an answer of S3 was lost: it counts once.
    events = events.drop_duplicates(subset=["writer_id", "seq"])
    calls = (
        events.groupby(["writer_id", "span_id"])
        .agg(
            {
                "model": "first",
                "started": "min",
                "took": "max",
                "input_tokens": "max",
                "output_tokens": "max",
            },
            split_out=4,
        )
        .dropna(subset=["started", "took"])
    )
    calls["day"] = dd.to_datetime(calls["started"].astype("int64"), unit="us").dt.strftime(
        "%Y-%m-%d"
    )
    calls["latency"] = calls["took"].astype("float64")
    groups = calls.groupby(["model", "day"])
    totals, latency = dask.compute(
        groups.agg({"latency": "count", "input_tokens": "sum", "output_tokens": "sum"}),
        groups["latency"].apply(p95, meta=("p95_seconds", "float64")),
    )
    return totals.rename(columns={"latency": "calls"}).join(latency).sort_index().reset_index()


def main() -> None:
    """Ask, and print a JSON object for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="s3://bucket/prefix, above asynctrack/v1")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--scheduler", help="of a cluster that is running")
    parser.add_argument("--workers", type=int, default=2, help="processes of this machine")
    options = parser.parse_args()
    storage: dict[str, Any] = {}
    if options.root.startswith("s3://"):
        storage = {
            "endpoint_url": options.endpoint_url,
            **storage_options(response_checksum_validation="when_required"),
        }
    cluster = options.scheduler or LocalCluster(
        n_workers=options.workers, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with Client(cluster):
        answer = ask(options.root.rstrip("/"), storage)
    if not options.scheduler:
        cluster.close()
    for row in answer.to_dict("records"):
        print(json.dumps(row, default=int))


if __name__ == "__main__":
    main()
