"""A Spark of its own for tests: a driver and two workers, which read from the tests' S3 server.

The connector, S3A, is no part of Spark, and no registry that the tests reach has it by its name.
The PyPI package ``sagemaker-pyspark`` has one among its jars, of Hadoop 3.3, which Spark 4 with
Hadoop 3.5 takes when it is told in the old way what has a unit in the new one.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.s3 import S3Server

NO_CONNECTOR = (
    "The tests of Spark need the jars of the PyPI package sagemaker-pyspark; it asks for an old"
    " Spark, which they do not: pip install --no-deps sagemaker-pyspark==1.4.5"
)
NO_JAVA = "The tests of Spark need Java, 17 or newer: apt-get install openjdk-17-jre-headless"


def connector() -> list[Path]:
    """Return the jars of S3A.

    Raises:
        RuntimeError: They are not installed.
    """
    package = importlib.util.find_spec("sagemaker_pyspark")
    if package is None or package.origin is None:
        raise RuntimeError(NO_CONNECTOR)
    jars = Path(package.origin).parent / "jars"
    return [*jars.glob("hadoop-aws-*.jar"), *jars.glob("aws-java-sdk-bundle-*.jar")]


@contextmanager
def spark_cluster(server: S3Server, folder: Path) -> Iterator[Any]:
    """Start a Spark that is far from UTC; yield its session.

    Args:
        server: What ``s3a://`` leads to.
        folder: For its settings and what it spills.

    Raises:
        RuntimeError: Java or the connector is not installed.
    """
    if shutil.which("java") is None:
        raise RuntimeError(NO_JAVA)
    jars = ":".join(map(str, connector()))
    settings = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.local.dir": folder,
        "spark.sql.shuffle.partitions": 4,
        # Programs that end after a minute are not worth what the better compiler takes.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        # Not spark.jars: each executor would have a copy of 190 MB.
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.hadoop.fs.s3a.endpoint": server.endpoint_url,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
        ),
        # Numbers without units, as this old connector wants them.
        "spark.hadoop.fs.s3a.threads.keepalivetime": 60,
        "spark.hadoop.fs.s3a.connection.establish.timeout": 5_000,
        "spark.hadoop.fs.s3a.connection.timeout": 200_000,
        "spark.hadoop.fs.s3a.multipart.purge.age": 86_400,
    }
    lines = [f"{name} {value}\n" for name, value in settings.items()]
    (folder / "spark-defaults.conf").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SPARK_CONF_DIR", str(folder))
        environment.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        environment.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        environment.setenv("TZ", "America/New_York")
        import pyspark
        from pyspark.sql import SparkSession

        session = SparkSession.builder.getOrCreate()
    context = session.sparkContext
    work = Path(pyspark.__file__).parent / "work" / context.applicationId
    gateway = context._gateway
    try:
        yield session
    finally:
        session.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(timeout=120)
        pyspark.SparkContext._gateway = pyspark.SparkContext._jvm = None
        shutil.rmtree(work)
