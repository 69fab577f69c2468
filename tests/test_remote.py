"""Datasets are read from a web server with Range requests; what is lost, damaged or not there is one sentence."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dpcurate import store
from dpcurate.errors import InputError


class Ranges(SimpleHTTPRequestHandler):
    """Files below a folder, whole or by range of bytes."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.translate_path(self.path)
        try:
            with open(path, "rb") as stream:
                content = stream.read()
        except OSError:
            self.send_error(404)
            return
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(content)
        if asked:
            start = int(asked[1]) if asked[1] else len(content) - int(asked[2])
            stop = min(len(content), int(asked[2]) + 1) if asked[1] and asked[2] else len(content)
        self.server.asked.append(stop - start)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:stop])


@pytest.fixture
def server(dataset):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(dataset.parent))) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        running.address = f"http://127.0.0.1:{running.server_address[1]}/{dataset.name}"
        yield running
        running.shutdown()
        thread.join()


def test_a_dataset_on_a_server_is_read_in_parts(dataset, server):
    here, there = store.open_dataset(dataset), store.open_dataset(server.address)
    assert there.manifest == here.manifest
    np.testing.assert_array_equal(there.read("orientation"), here.read("orientation"))
    server.asked.clear()
    some = np.array([41, 7, 8])
    np.testing.assert_array_equal(there.patterns(some), here.patterns(some))
    shard = max(file.bytes for file in here.manifest.arrays["patterns"].files)
    assert max(server.asked) < shard / 2
    assert there.text("card.md") == here.text("card.md")


def test_damage_on_a_server_names_the_pattern(dataset, server):
    shard = next(file for file in (dataset / "patterns" / "c").rglob("*") if file.is_file())
    content = bytearray(shard.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    shard.write_bytes(content)
    with pytest.raises(InputError, match="pattern"):
        store.open_dataset(server.address).patterns(np.arange(60))


def test_what_is_not_there_is_one_sentence(server):
    with pytest.raises(InputError, match="not a finished dataset"):
        store.open_dataset(server.address + "x")
