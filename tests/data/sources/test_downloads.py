"""Downloads from a server on this machine: whole or nothing, from any mirror, and only if allowed."""

import gzip
import hashlib
import io
import struct
import tarfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torchvision

from deep_clustering.data.sources import cifar
from deep_clustering.data.sources.downloads import Archive, Remote, fetch, obtain_archived, unpack
from deep_clustering.data.sources.images import Mnist, Stl10, Usps

CONTENT = bytes(range(256)) * 5000


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server():
    """Address of a server, the files it gives, those of them it breaks off half-way, and what was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # the client may go away
                self.wfile.write(content[: len(content) // 2] if self.path in cut else content)

        def log_message(self, *args):
            pass

    files, cut, asked = {}, set(), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", files, cut, asked
        httpd.shutdown()


def tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


# One file


def test_a_file_comes_whole_and_alone(server, tmp_path, caplog):
    address, files, _, _ = server
    files["/a"] = CONTENT
    caplog.set_level("INFO")
    fetch(Remote(urls=(f"{address}/a",), md5=md5(CONTENT)), tmp_path / "deep" / "a")
    assert (tmp_path / "deep" / "a").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]
    assert "download of a: 1.3 MB" in caplog.text


def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_succeeds(server, tmp_path):
    address, files, cut, _ = server
    files["/a"] = CONTENT
    cut.add("/a")
    remote = Remote(urls=(f"{address}/a",), md5=md5(CONTENT))
    with pytest.raises(ConnectionError, match="got 640000 of 1280000 bytes"):
        fetch(remote, tmp_path / "a")
    assert not list(tmp_path.iterdir())
    cut.clear()
    fetch(remote, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_another_content_is_refused(server, tmp_path):
    address, files, _, _ = server
    files["/a"] = b"<html>gone</html>"
    with pytest.raises(ValueError, match=f"17 bytes with md5 {md5(files['/a'])}, expected md5 {md5(CONTENT)}"):
        fetch(Remote(urls=(f"{address}/a",), md5=md5(CONTENT)), tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_mirrors_are_tried_in_order_and_all_named(server, tmp_path):
    address, files, _, asked = server
    files["/good"], files["/bad"] = CONTENT, b"other"
    urls = (f"{address}/none", f"{address}/bad", f"{address}/good")
    fetch(Remote(urls=urls, md5=md5(CONTENT)), tmp_path / "a")
    assert asked == ["/bad", "/good"]
    with pytest.raises(ConnectionError, match=r"/bad: got 5 bytes .*/none: HTTP Error 404"):
        fetch(Remote(urls=(urls[1], urls[0]), md5=md5(CONTENT)), tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch):
    address, files, _, _ = server
    files["/a"] = CONTENT

    def interrupted(*_):
        yield CONTENT[:100]
        raise KeyboardInterrupt

    monkeypatch.setattr("deep_clustering.data.sources.downloads._with_progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(Remote(urls=(f"{address}/a",), md5=md5(CONTENT)), tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    server, tmp_path, monkeypatch, capsys, caplog, is_terminal
):
    address, files, _, _ = server
    files["/a"] = CONTENT
    caplog.set_level("INFO")
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    monkeypatch.setattr("deep_clustering.training.progress._SECONDS_BETWEEN_LINES", 0.0)
    fetch(Remote(urls=(f"{address}/a",), md5=md5(CONTENT)), tmp_path / "a")
    assert ("100%" in capsys.readouterr().err) == is_terminal
    assert ("1.3 of 1.3 MB" in caplog.text) == (not is_terminal)


# Archives


def archive_of(address: str, content: bytes) -> Archive:
    return Archive(name="set.tar.gz", folder="set", remote=Remote(urls=(f"{address}/set.tar.gz",), md5=md5(content)))


def test_an_archive_is_downloaded_once_and_only_what_is_needed_is_unpacked(server, tmp_path):
    address, files, _, asked = server
    files["/set.tar.gz"] = content = tar({"set/x": b"one", "set/y": b"two", "set/z": b"three"})
    archive = archive_of(address, content)
    with pytest.raises(FileNotFoundError, match=r"no x, y in .*set or .*nor set\.tar\.gz in .*download=true"):
        obtain_archived(archive, tmp_path, ["x", "y"], download=False)
    assert not list(tmp_path.iterdir())
    found = obtain_archived(archive, tmp_path, ["x", "y"], download=True)
    assert {name: file.read_bytes() for name, file in found.items()} == {"x": b"one", "y": b"two"}
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["x", "y"]
    # What is still needed later comes from the archive, also where downloads are not allowed.
    assert obtain_archived(archive, tmp_path, ["x", "z"], download=False)["z"].read_bytes() == b"three"
    assert asked == ["/set.tar.gz"]


def test_a_local_archive_with_another_checksum_is_refused(tmp_path):
    content = tar({"set/x": b"one"})
    (tmp_path / "set.tar.gz").write_bytes(content[:-9])
    with pytest.raises(ValueError, match=f"md5 {md5(content)}, got {md5(content[:-9])}; .*delete it"):
        obtain_archived(archive_of("http://127.0.0.1:9", content), tmp_path, ["x"], download=True)
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz"]


def test_nothing_is_written_outside_the_target(tmp_path):
    members = {"../x": b"evil", "/tmp/x": b"evil", "set/../../x": b"evil", "x": b"evil", "set/x": b"good"}
    (tmp_path / "a.tar.gz").write_bytes(tar(members, links={"set/y": "/etc/passwd"}))
    target = tmp_path / "in" / "set"
    found = unpack(tmp_path / "a.tar.gz", "set", ["x"], target)
    assert found["x"].read_bytes() == b"good"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "in"}
    with pytest.raises(ValueError, match="missing: set/y"):  # a link is no file
        unpack(tmp_path / "a.tar.gz", "set", ["x", "y"], target)


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda _: b"no archive", lambda _: b""]
)
def test_a_damaged_archive_gives_no_cut_file(tmp_path, damage):
    file = tmp_path / "a.tar.gz"
    file.write_bytes(damage(tar({"set/x": np.random.default_rng(0).bytes(100_000)})))
    with pytest.raises(ValueError, match=r"a\.tar\.gz: expected"):
        unpack(file, "set", ["x"], tmp_path / "set")
    assert not list(tmp_path.glob("set/*"))


# Sources


def test_mnist_downloads_what_is_missing_from_torchvisions_mirrors(server, tmp_path, monkeypatch):
    address, files, _, asked = server
    stem = "t10k"
    images = gzip.compress(struct.pack(">IIII", 0x803, 2, 28, 28) + bytes(2 * 784))
    labels = gzip.compress(struct.pack(">II", 0x801, 2) + bytes([3, 9]))
    names = [f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz"]
    files.update({f"/second/{names[0]}": images, f"/second/{names[1]}": labels})
    published = torchvision.datasets.MNIST
    assert names == [name for name, _ in published.resources[2:]]
    monkeypatch.setattr(published, "mirrors", [f"{address}/first/", f"{address}/second/"])
    monkeypatch.setattr(published, "resources", list(zip(names, [md5(images), md5(labels)], strict=True)))
    for _ in range(2):
        loaded = Mnist(root=str(tmp_path), protocol="test", download=True).load()
        assert loaded.labels.tolist() == [3, 9]
    assert len(asked) == 2
    assert sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir()) == names


def test_usps_and_stl10_take_torchvisions_addresses(server, tmp_path, monkeypatch):
    address, _, _, _ = server
    monkeypatch.setattr(torchvision.datasets.USPS, "split_list", {"test": [f"{address}/u", "usps.t.bz2", "0" * 32]})
    monkeypatch.setattr(torchvision.datasets.STL10, "url", f"{address}/s")
    with pytest.raises(ConnectionError, match=r"usps\.t\.bz2 could not be .*/u: HTTP Error 404"):
        Usps(root=str(tmp_path), protocol="test", download=True).load()
    with pytest.raises(ConnectionError, match=r"stl10_binary\.tar\.gz could not be .*/s: HTTP Error 404"):
        Stl10(root=str(tmp_path), protocol="test", unlabelled=False, download=True).load()


def test_cifar_downloads_its_binary_version(server, tmp_path, monkeypatch):
    address, files, cut, _ = server
    content = tar({"cifar-10-batches-bin/test_batch.bin": bytes([7]) + bytes(3072)})
    files["/cifar-10-binary.tar.gz"] = content
    published = cifar._CIFAR10_ARCHIVE
    assert published.remote.urls == ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
    remote = Remote(urls=(f"{address}/cifar-10-binary.tar.gz",), md5=md5(content))
    monkeypatch.setattr(cifar, "_CIFAR10_ARCHIVE", Archive(name=published.name, folder=published.folder, remote=remote))
    source = cifar.Cifar10(root=str(tmp_path), protocol="test", download=True)
    cut.add("/cifar-10-binary.tar.gz")
    with pytest.raises(ConnectionError, match="could not be downloaded, nothing was kept"):
        source.load()
    cut.clear()
    assert source.load().labels.tolist() == [7]
