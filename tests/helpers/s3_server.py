"""A local S3 server, for tests of what lies in a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs as pa_fs
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def running_s3() -> Iterator[str]:
    """`s3://results/runs` of a server whose bucket `results` is there and may be written."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"scheme=http&endpoint_override={host}%3A{port}"
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ACCESS_KEY_ID", "testing")
            environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
            s3, _ = pa_fs.FileSystem.from_uri(f"s3://results?{query}&allow_bucket_creation=true")
            s3.create_dir("results")
            yield f"s3://results/runs?{query}"
    finally:
        server.stop()
