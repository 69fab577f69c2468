"""Folders of datasets, here or on a server: ``s3://bucket/path``, ``http(s)://host/path``, read through TensorStore.

Needs TensorStore only.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorstore as ts

from dpcurate.errors import InputError

ADDRESS = re.compile(r"(s3|http|https)://([^/?#\s]+)(/[^?#]*)?")

RETRIES = {"max_retries": 4, "initial_delay": "100ms", "max_delay": "2s"}
"""A server that is down for some seconds is waited for; TensorStore's own 32 tries take minutes."""

REGION = "us-east-1"
"""Of a server that is named by AWS_ENDPOINT_URL without AWS_REGION: it hardly ever minds."""

OTHER_CREDENTIALS = ("AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
"""Set where a cluster or a cloud gives the rights."""

REASONS = {
    "PERMISSION_DENIED": "no right to read there; give the rights with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
    "AWS_PROFILE, or ask the owner for them",
    "UNAUTHENTICATED": "no right to read there; the server asks who reads",
    "NOT_FOUND": "there is no such bucket or folder; check the address",
    "CURL error": "the server cannot be reached; check address, network and AWS_ENDPOINT_URL",
    "Invalid S3": "S3 knows no such names; check the address",
}
"""Part of TensorStore 0.1.86's message, and what it means."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder on a server, with those parts of `pathlib.Path` that the readers of a dataset use."""

    address: str

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.address.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "RemoteFolder":
        """The folder above."""
        return RemoteFolder(self.address.rstrip("/").rpartition("/")[0])

    def resolve(self) -> "RemoteFolder":
        """The folder itself: an address is always complete."""
        return self


Folder = Path | RemoteFolder


def folder_at(reference: str | Path | RemoteFolder) -> Folder:
    """A folder by its path or address; InputError for an address that has no host or a question in it."""
    if isinstance(reference, Path | RemoteFolder) or not re.match(r"(s3|https?):/", reference):
        return Path(reference) if isinstance(reference, str) else reference
    if not ADDRESS.fullmatch(reference) or ".." in reference.split("/"):
        raise InputError(f"{reference}: not an address of a folder; expected s3://BUCKET/PATH or http://HOST/PATH.")
    return RemoteFolder(reference.rstrip("/"))


def kvstore(folder: Folder) -> dict[str, Any]:
    """TensorStore's description of a folder, for a `tensorstore.KvStore` or an array in it."""
    if isinstance(folder, Path):
        return {"driver": "file", "path": f"{folder.resolve()}/"}
    found = ADDRESS.fullmatch(folder.address)
    assert found, "folder_at has checked it"
    scheme, host, path = found[1], found[2], f"{(found[3] or '').strip('/')}/".lstrip("/")
    if scheme != "s3":
        return {"driver": "http", "base_url": f"{scheme}://{host}", "path": f"/{path}", "http_request_retries": RETRIES}
    store = {"driver": "s3", "bucket": host, "path": path, "s3_request_retries": RETRIES}
    return store | _server(os.environ) | {"aws_credentials": _credentials(os.environ)}


def read_file(folder: Folder, name: str) -> bytes | None:
    """Content of a file in a folder, here or on a server, None where there is none; InputError if it cannot be read."""
    if isinstance(folder, Path):
        try:
            return (folder / name).read_bytes() if (folder / name).is_file() else None
        except OSError as error:
            raise InputError(f"{folder / name}: cannot be read ({error.strerror}); restore its rights.") from error
    try:
        found = ts.KvStore.open(kvstore(folder)).result().read(name).result()
    except ValueError as error:
        raise InputError(f"{folder}: {reason_of(error)}.") from error
    return found.value if found.state == "value" else None


def names_in(folder: RemoteFolder) -> set[str] | None:
    """Names of all files below a folder on S3; None for plain HTTP, which lists nothing."""
    if not folder.address.startswith("s3:"):
        return None
    try:
        listed = ts.KvStore.open(kvstore(folder)).result().list().result()
    except ValueError as error:
        if "PERMISSION_DENIED" in str(error):  # the right to read is not the right to list
            return None
        raise InputError(f"{folder}: {reason_of(error)}.") from error
    return {name.decode("utf-8", "replace") for name in listed}


def reason_of(error: ValueError) -> str:
    """What one of TensorStore's errors on a server means."""
    text = str(error)
    known = next((reason for part, reason in REASONS.items() if part in text), None)
    return known or f"cannot be read ({text.splitlines()[0][:200]})"


def _server(environment: Mapping[str, str]) -> dict[str, str]:
    """Endpoint and region, as Amazon's own tools take them from the environment."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or (REGION if endpoint else "")
    return {key: value for key, value in (("endpoint", endpoint), ("aws_region", region)) if value}


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Whose rights are used; nobody's where none are given: TensorStore would look for a cloud around it, in vain."""
    if environment.get("AWS_ACCESS_KEY_ID"):
        return {"type": "environment"}
    file = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials")
    if environment.get("AWS_PROFILE") or file.is_file():
        return {"type": "profile"}
    return {"type": "default" if any(map(environment.get, OTHER_CREDENTIALS)) else "anonymous"}
