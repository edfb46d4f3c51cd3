"""The artifact store in a bucket: any service that speaks S3, by Amazon's own client.

Address and keys are the client's usual ones: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, or a role. The client is Podium's extra `s3`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from podium_workers.runtime.context import Reject, Retry
from podium_workers.services.shelves import Item, StoreFull

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

PAGE = 1000
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "507"})
_REFUSED = frozenset(
    {
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "AllAccessDisabled",
        "403",
    }
)


class S3Shelf:
    """Objects below `prefix` of a bucket. S3 writes an object whole, or not at all."""

    def __init__(self, bucket: str, prefix: str, client: Any) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = client

    @classmethod
    def at(cls, address: str) -> S3Shelf:
        """`s3://bucket/prefix`. Raises Reject without the library, or for an address that is none."""
        parts = urlsplit(address)
        if not parts.netloc or parts.query or parts.fragment:
            raise Reject("PODIUM_ARTIFACTS: wants s3://bucket or s3://bucket/prefix")
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise Reject(
                "PODIUM_ARTIFACTS names a bucket, and the client is not here: install podium's extra 's3'"
            ) from None
        # Services other than Amazon's often lack its newer check sums; the content is its own check sum here.
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"max_attempts": 3, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return cls(parts.netloc, parts.path.strip("/"), boto3.client("s3", config=config))

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def read(self, name: str) -> bytes | None:
        with self._errors(f"read {name}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
                return bytes(answer["Body"].read())
            except self._client.exceptions.NoSuchKey:
                return None

    def write(self, name: str, data: bytes) -> None:
        with self._errors(f"write {name}"):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)

    def remove(self, name: str) -> None:
        with self._errors(f"remove {name}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def list(self, prefix: str) -> Iterator[Item]:
        with self._errors(f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix, PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(self._prefix)
                    yield Item(name, entry["LastModified"].timestamp(), int(entry["Size"]))

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._translated(error, doing) from None
        except BotoCoreError as error:
            raise Retry(f"artifact store {self}: cannot {doing}: {error}") from None

    def _translated(self, error: ClientError, doing: str) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        where = f"artifact store {self}: cannot {doing}"
        if code == "NoSuchBucket":
            return Reject(f"{where}: there is no such bucket: make it, or mend PODIUM_ARTIFACTS")
        if code in _REFUSED:
            return Reject(
                f"{where}: {code}: give this worker's key read, write, list and delete on the bucket"
            )
        if code in _FULL:
            return StoreFull(f"{where}: it is full ({code}): make room, or prune old artifacts")
        return Retry(f"{where}: {code or error}")
