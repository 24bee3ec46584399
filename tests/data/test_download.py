"""Downloads against a local server: checked, kept, refused."""

import functools
import hashlib
import http.server
import threading

import pytest

from cofit.core import DataError, UnknownNameError
from cofit.data import download
from cofit.data.download import DOWNLOADS


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "a.gz").write_bytes(b"content")
    monkeypatch.setenv("COFIT_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(Quiet, directory=tmp_path / "remote")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/"
        digest = hashlib.md5(b"content").hexdigest()
        monkeypatch.setitem(DOWNLOADS, "fashion_mnist", (url, {"a.gz": digest}))
        yield tmp_path
        running.shutdown()


def test_a_whole_file_lands_in_the_cache_and_stays(server):
    folder = download("fashion_mnist")
    assert folder == server / "cache" / "data" / "fashion_mnist"
    assert (folder / "a.gz").read_bytes() == b"content"
    (server / "remote" / "a.gz").unlink()
    assert download("fashion_mnist") == folder


def test_another_content_is_refused_and_not_kept(server):
    (server / "remote" / "a.gz").write_bytes(b"tampered")
    with pytest.raises(DataError, match=r"a\.gz.*by hand") as caught:
        download("fashion_mnist")
    assert "\n" not in str(caught.value)
    assert not (server / "cache" / "data" / "fashion_mnist" / "a.gz").exists()


def test_an_absent_file_is_refused(server):
    (server / "remote" / "a.gz").unlink()
    with pytest.raises(DataError, match="cannot fetch"):
        download("fashion_mnist")


def test_only_data_with_published_digests_can_be_fetched():
    with pytest.raises(UnknownNameError, match="known: fashion_mnist"):
        download("cifar10")
