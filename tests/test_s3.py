"""Datasets are read from a real S3 server (moto in server mode on the loopback interface, made-up credentials)."""

import urllib.request

import boto3
import numpy as np
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from dpcurate import store
from dpcurate.datasets_cli import app
from dpcurate.errors import InputError

BUCKET = "patterns"
MADE_UP = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server():
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def client(server):
    once = Config(retries={"total_max_attempts": 1})
    keys = {"aws_access_key_id": "made-up", "aws_secret_access_key": "made-up"}
    made = boto3.client("s3", endpoint_url=server, region_name="us-east-1", config=once, **keys)
    made.create_bucket(Bucket=BUCKET)
    return made


@pytest.fixture
def address(dataset, client, server, monkeypatch, tmp_path):
    """The tiny dataset in a bucket, and an environment that leads to the server."""
    for file in dataset.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"tiny/{file.relative_to(dataset).as_posix()}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (MADE_UP | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    yield f"s3://{BUCKET}/tiny"
    rights(server, b"inf")
    for listed in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=listed["Key"])


def rights(server, unchecked):
    """Have the server look at rights after so many more requests."""
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset-auth", unchecked, plain)).close()


def test_a_dataset_in_a_bucket_is_the_one_on_the_disk(dataset, address):
    here, there = store.open_dataset(dataset), store.open_dataset(address)
    assert there.manifest == here.manifest
    some = np.array([41, 7, 8])
    np.testing.assert_array_equal(there.patterns(some), here.patterns(some))
    np.testing.assert_array_equal(there.read("orientation"), here.read("orientation"))
    assert there.text("card.md") == here.text("card.md")
    shown = CliRunner().invoke(app, ["show", address])
    assert shown.exit_code == 0
    assert address in shown.stdout


def test_a_shard_that_is_missing_in_the_bucket_is_named_and_never_zeros(address, client):
    opened = store.open_dataset(address)
    client.delete_object(Bucket=BUCKET, Key="tiny/patterns/c/0/0/0")
    with pytest.raises(InputError, match="patterns/c/0/0/0: missing"):
        store.open_dataset(address)
    with pytest.raises(InputError, match="damaged or missing at pattern 7 "):
        opened.patterns(np.array([7]))


def test_a_flipped_bit_in_the_bucket_names_shard_and_pattern(address, client, dataset):
    content = bytearray((dataset / "patterns/c/0/0/0").read_bytes())
    content[5] ^= 1
    client.put_object(Bucket=BUCKET, Key="tiny/patterns/c/0/0/0", Body=bytes(content))
    with pytest.raises(InputError, match="patterns/c/0/0/0: the shard is damaged or missing at pattern 0 "):
        store.open_dataset(address).patterns(np.arange(60))


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("bucket", [f"{BUCKET}/nothing", "no-such-bucket/tiny"])
def test_a_folder_or_bucket_that_is_not_there_is_one_sentence(bucket):
    with pytest.raises(InputError, match="not a finished dataset|no such bucket"):
        store.open_dataset(f"s3://{bucket}")


def test_a_bucket_without_rights_is_one_sentence(address, server, monkeypatch):
    rights(server, b"0")
    with pytest.raises(InputError, match=f"{address}: no right to read there; give the rights with AWS_ACCESS_KEY_ID"):
        store.open_dataset(address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match=f"{address}: no right to read there"):
        store.open_dataset(address)


def test_a_server_that_is_not_there_is_one_sentence(address, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the server cannot be reached; check address, network and AWS_ENDPOINT_URL"):
        store.open_dataset(address)
