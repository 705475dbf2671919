"""What a manifest may open, and that no redirect, name or spelling leads around it."""

from __future__ import annotations

import os
import pickle
import socket
import time

import pytest

from tests.helpers.http import FileServer
from vidembed import cli, sources
from vidembed.access import Access, check_regular, is_public
from vidembed.config import EmbedConfig
from vidembed.errors import ClipError, ConfigError
from vidembed.ranged import open_ranged
from vidembed.sources import resolve

LOCAL = Access.of("/data/set")
REMOTE = Access.of("s3://bucket/set")


def refusal(access: Access, uri: str) -> str:
    """Why `uri` is Forbidden; empty where it is not."""
    try:
        access.check(uri)
    except ClipError as error:
        return error.message if error.kind == "Forbidden" else f"not Forbidden, {error}"
    return ""


def reading(uri: str, access: Access | None) -> bytes:
    with open_ranged(uri, max_bytes=1 << 20, access=access) as file:
        return file.read()


def refused_on_reading(uri: str, access: Access) -> str:
    with pytest.raises(ClipError) as caught:
        reading(uri, access)
    assert caught.value.kind == "Forbidden"
    return caught.value.message


@pytest.fixture
def server():
    with FileServer() as server:
        server.put("/pub/a.mp4", b"public")
        server.put("/secret/a.mp4", b"secret")
        yield server


# Schemes


@pytest.mark.parametrize(
    "uri",
    ["s3://b/a.mp4", "s3a://b/a.mp4", "gs://b/a.mp4", "gcs://b/a", "az://c/a", "abfs://c@x/a",
     "abfss://c@x/a", "adl://x/a", "hf://datasets/x/a", "oss://b/a", "https://example.org/a.mp4",
     "http://example.org:8080/a.mp4", "HTTPS://EXAMPLE.ORG/a.mp4", "s3://b/take::2.mp4"],
)  # fmt: skip
def test_object_stores_and_the_web_are_open_to_any_manifest(uri):
    assert refusal(LOCAL, uri) == refusal(REMOTE, uri) == ""


@pytest.mark.parametrize(
    "uri",
    ["ftp://h/a.mp4", "sftp://h/a.mp4", "smb://h/a", "memory://a", "data://x", "github://me@h/a",
     "git+ssh://h/a", "zip://a.mp4::/data/a.zip", "zip::/data/a.zip", "simplecache::s3://b/a",
     "simplecache::http://169.254.169.254/", "s3://b/x::http://h/", "hdfs://h/a", "javascript://x"],
)  # fmt: skip
def test_other_schemes_and_chains_are_refused_with_the_remedy(uri):
    for access in (LOCAL, REMOTE):
        said = refusal(access, uri)
        assert said.startswith(f"{uri}: ")
        assert "--allow-root" in said


def test_a_root_opens_its_scheme_and_a_chained_root_its_chain():
    access = Access.of("/d", ["sftp://h/videos", "memory://", "simplecache::https://a.org/"])
    for uri in ("sftp://h/videos/a", "sftp://me:pw@h/videos/a", "memory://x/a",
                "simplecache::https://a.org/v/a"):  # fmt: skip
        assert refusal(access, uri) == ""
    for uri in ("sftp://h/other/a", "sftp://h2/videos/a", "simplecache::https://a.org.evil.com/a",
                "simplecache::s3://b/a", "filecache::https://a.org/a"):  # fmt: skip
        assert refusal(access, uri)


def test_a_relative_path_in_a_manifest_is_never_a_chain():
    assert resolve("take::2.mp4", "/data/set") == "/data/set/take::2.mp4"
    assert refusal(LOCAL, "/data/set/take::2.mp4") == ""
    assert resolve("simplecache::http://10.0.0.1/", "/data/set").startswith("simplecache::")


# Local files


def test_without_roots_a_local_manifest_may_name_any_file_and_a_remote_one_none():
    assert refusal(LOCAL, "/elsewhere/a.mp4") == ""
    for uri in ("/elsewhere/a.mp4", "file:///etc/passwd", "FILE:///etc/passwd"):
        assert "--allow-root /e" in refusal(REMOTE, uri)


def test_with_roots_only_what_lies_below_them_or_beside_the_manifest_is_opened(tmp_path):
    inside, outside = tmp_path / "data", tmp_path / "data2"
    for folder in (inside, outside, tmp_path / "set"):
        folder.mkdir()
        (folder / "a.mp4").touch()
    (inside / "out.mp4").symlink_to(outside / "a.mp4")
    (outside / "in.mp4").symlink_to(inside / "a.mp4")
    for access in (
        Access.of(str(tmp_path / "set"), [str(inside)]),
        Access.of("s3://bucket/set", [f"{inside}/"]),
    ):
        assert refusal(access, f"{inside}/a.mp4") == ""
        assert refusal(access, f"{inside}/missing.mp4") == ""
        assert refusal(access, f"{outside}/in.mp4") == ""
        assert refusal(access, f"{outside}/a.mp4")
        assert refusal(access, f"{inside}/../data2/a.mp4")
        assert refusal(access, f"file://{inside}/../data2/a.mp4")
        assert refusal(access, f"{inside}/out.mp4")
        beside = refusal(access, f"{tmp_path}/set/a.mp4")
        assert bool(beside) != access.local


def test_roots_are_read_from_where_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    access = Access.of(str(tmp_path / "set"), ["videos", "~/more"])
    assert access.roots == (str(tmp_path / "videos"), os.path.expanduser("~/more"))


def test_a_pipe_a_socket_or_a_device_is_refused_without_being_opened(tmp_path):
    pipe, listening = tmp_path / "pipe.mp4", str(tmp_path / "socket.mp4")
    os.mkfifo(pipe)
    (tmp_path / "link.mp4").symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(listening)
        began = time.monotonic()
        for path in (str(pipe), str(tmp_path / "link.mp4"), listening, "/dev/zero", "/dev/null"):
            with pytest.raises(ClipError, match="name a regular file") as caught:
                check_regular(path)
            assert caught.value.kind == "Unsupported"
        assert time.monotonic() - began < 5
    (tmp_path / "a.mp4").touch()
    for path in (str(tmp_path / "a.mp4"), str(tmp_path), str(tmp_path / "missing"), "a\0b"):
        check_regular(path)


# Object stores


def test_a_root_in_an_object_store_narrows_what_our_credentials_are_lent_for():
    access = Access.of("/d", ["s3://bucket/videos", "gs://other"])
    for uri in ("s3://bucket/videos/a", "s3a://bucket/videos/a", "gs://other/a", "gcs://other/a"):
        assert refusal(access, uri) == ""
    for uri in ("s3://bucket/videos2/a", "s3://bucket/a", "s3://bucket/videos/../a",
                "s3://bucket2/videos/a", "gs://bucket/videos/a"):  # fmt: skip
        assert "--allow-root" in refusal(access, uri)
    assert refusal(access, "hf://x/a") == ""
    assert refusal(Access.of("s3://b/set", ["s3://bucket/videos"]), "s3://b/set/a") == ""


# The web


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0", "10.0.0.5",
     "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "168.63.129.16",
     "224.0.0.1", "255.255.255.255", "192.0.2.1", "[::]", "[::1]", "[::ffff:127.0.0.1]",
     "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1]", "[fd00:ec2::254]", "[ff02::1]",
     "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "127.0.0.1.", "user:pw@127.0.0.1"],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused_however_it_is_spelled(host):
    for uri in (f"http://{host}/a.mp4", f"https://{host}:8000/a.mp4?signature=secret"):
        for access in (LOCAL, REMOTE):
            said = refusal(access, uri)
            assert "--allow-root http" in said
            assert "secret" not in said
            assert "pw" not in said
            assert refused_on_reading(uri, access) == said


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize("uri", ["http://", "http:///a.mp4", "http://h:99999/a", "http://[::1/a"])
def test_an_address_without_a_host_is_refused(uri):
    assert "names no host" in refusal(LOCAL, uri)


def test_a_name_that_resolves_to_loopback_is_refused_before_anything_is_sent(server):
    said = refused_on_reading(f"http://localhost:{server.port}/pub/a.mp4", LOCAL)
    assert "it leads to 127.0.0.1" in said or "it leads to ::1" in said
    assert f"--allow-root http://localhost:{server.port}/" in said
    assert server.seen == []


def test_a_root_opens_a_private_server_below_it_and_nothing_beside_it(server):
    access = Access.of("/d", [f"{server.url}/pub"])
    assert reading(f"{server.url}/pub/a.mp4", access) == b"public"
    for path in ("secret/a.mp4", "pub/../secret/a.mp4", "pub/%2e%2e/secret/a.mp4", "pub2/a.mp4",
                 "pub/..%2fsecret/a.mp4"):  # fmt: skip
        refused_on_reading(f"{server.url}/{path}", access)
    refused_on_reading(f"http://localhost:{server.port}/pub/a.mp4", access)
    refused_on_reading(f"http://127.0.0.1:{server.port + 1}/pub/a.mp4", access)
    assert [path for _, path, _ in server.seen] == ["/pub/a.mp4"]
    by_name = Access.of("/d", [f"http://localhost:{server.port}/"])
    assert reading(f"http://localhost:{server.port}/secret/a.mp4", by_name) == b"secret"


def test_a_redirect_out_of_a_root_is_refused_though_the_connection_is_already_there(server):
    access = Access.of("/d", [f"{server.url}/pub"])
    with FileServer() as other:
        other.put("/a.mp4", b"internal")
        server.redirects = {
            "/pub/aside": "/secret/a.mp4",
            "/pub/away": other.url + "/a.mp4",
            "/pub/name": f"http://localhost:{other.port}/a.mp4",
            "/pub/number": f"http://2130706433:{other.port}/a.mp4",
            "/pub/meta": "http://169.254.169.254/latest/meta-data/",
            "/pub/within": "/pub/a.mp4",
        }
        for path in ("aside", "away", "name", "number", "meta"):
            refused_on_reading(f"{server.url}/pub/{path}", access)
        assert reading(f"{server.url}/pub/within", access) == b"public"
        assert other.seen == []
    assert "/secret/a.mp4" not in [path for _, path, _ in server.seen]


def test_a_kept_connection_is_not_used_for_an_address_outside_the_root(server):
    """By name no address is known before the connection is there: the connector must look."""
    access = Access.of("/d", [f"http://localhost:{server.port}/pub"])
    assert reading(f"http://localhost:{server.port}/pub/a.mp4", access) == b"public"
    refused_on_reading(f"http://localhost:{server.port}/secret/a.mp4", access)
    assert [path for _, path, _ in server.seen] == ["/pub/a.mp4"]


def test_a_redirect_to_another_scheme_is_not_followed(server, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"local")
    server.redirects = {"/pub/file": f"file://{tmp_path}/a.mp4"}
    with pytest.raises(ClipError) as caught:
        reading(f"{server.url}/pub/file", Access.of("/d", [server.url]))
    assert caught.value.kind in ("Forbidden", "ReadFailed")


def test_through_a_proxy_only_roots_are_reached_for_it_hides_where_a_name_leads(
    server, monkeypatch
):
    from fsspec.config import conf

    # FSSPEC_HTTP='{"client_kwargs": {"trust_env": true}}' in the environment.
    monkeypatch.setitem(conf, "http", {"client_kwargs": {"trust_env": True}})
    monkeypatch.setenv("http_proxy", server.url)
    uri = "http://internal.example.org/pub/a.mp4"
    assert "through a proxy" in refused_on_reading(uri, LOCAL)
    assert reading(uri, Access.of("/d", ["http://internal.example.org/"])) == b"public"


def test_the_folder_of_a_manifest_that_the_user_named_needs_no_root(server):
    access = Access.of(f"{server.url}/pub")
    assert reading(f"{server.url}/pub/a.mp4", access) == b"public"
    refused_on_reading(f"{server.url}/secret/a.mp4", access)


def test_what_the_user_named_is_trusted(server):
    assert reading(f"{server.url}/secret/a.mp4", None) == b"secret"


def test_a_whole_copy_and_a_listing_obey_too(server, tmp_path):
    with FileServer(ranges=False) as whole:
        whole.put("/a.mp4", b"x")
        for uri in (f"{whole.url}/a.mp4", f"http://localhost:{whole.port}/a.mp4", "/etc/passwd"):
            with pytest.raises(ClipError) as caught:
                sources.fetch(uri, str(tmp_path / "a"), 1 << 20, REMOTE)
            assert caught.value.kind == "Forbidden"
        access = Access.of("/d", [whole.url])
        assert sources.fetch(f"{whole.url}/a.mp4", str(tmp_path / "a"), 1 << 20, access) == 1
        whole.redirects["/b.mp4"] = f"http://localhost:{whole.port}/a.mp4"
        with pytest.raises(ClipError, match="Forbidden"):
            sources.fetch(f"{whole.url}/b.mp4", str(tmp_path / "a"), 1 << 20, access)
    fs = sources.filesystem(server.url, REMOTE)
    with pytest.raises(ClipError, match="Forbidden"):
        fs.cat_file(f"{server.url}/pub/a.mp4")


@pytest.mark.s3
def test_an_s3_server_of_the_operator_may_be_on_a_private_address(s3):
    s3.client().put_object(Bucket="test", Key="access/a.mp4", Body=b"ours")
    assert reading("s3://test/access/a.mp4", REMOTE) == b"ours"
    access = Access.of("/d", ["s3://test/other"])
    refused_on_reading("s3://test/access/a.mp4", access)


# Roots


@pytest.mark.parametrize(
    ("root", "said"),
    [("", "empty"), ("http://", "names no host"), ("https://", "names no host"),
     ("https://me:pw@h/", "leave out user"), ("https://h/?sig=1", "leave out user")],
)  # fmt: skip
def test_a_root_that_means_nothing_or_tells_a_secret_is_an_error(root, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Access.of("/d", [root])
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("root", "uri", "covered"),
    [
        ("http://10.0.0.5", "http://10.0.0.5/a", True),
        ("http://10.0.0.5", "http://10.0.0.5:80/a", True),
        ("http://10.0.0.5", "http://10.0.0.5:8080/a", False),
        ("http://10.0.0.5", "https://10.0.0.5/a", False),
        ("http://a.com", "http://a.com.evil.org/a", False),
        ("http://a.com", "http://a.com@evil.org/a", False),
        ("http://a.com", "http://A.COM./a", True),
        ("http://bücher.example/", "http://xn--bcher-kva.example/a", True),
        ("http://a.com/x/", "http://a.com/x", True),
        ("http://a.com/x", "http://a.com/xy", False),
        ("http://a.com/x", "http://a.com//x/./y", True),
        ("/data", "/data", True),
        ("/data", "/data2", False),
        ("/", "/data", True),
        ("s3://b", "s3://b/x", True),
        ("s3://b", "s3://bb/x", False),
        ("s3://b", "/b/x", False),
        ("/b", "s3://b/x", False),
    ],
)
def test_roots_cover_by_whole_components(root, uri, covered):
    assert Access.of("/nowhere", [root]).covers(uri) is covered


def test_it_travels_to_workers():
    access = Access.of("/d", ["/videos", "http://10.0.0.5/"])
    assert pickle.loads(pickle.dumps(access)) == access


# The option


def test_roots_are_given_several_times_or_with_commas_and_in_python_as_a_list():
    least = {"manifest": "m.csv", "out": "run"}
    words = ["embed", "m.csv", "--out", "run", "--allow-root", "/a,s3://b/", "--allow-root", "/c"]
    given = vars(cli.make_parser().parse_args(words))
    from_flags = {name: given[name] for name in ("manifest", "out", "allow_root")}
    roots = ["/a", "s3://b/", "/c"]
    for options in (from_flags, least | {"allow_root": "/a, s3://b/,/c"}):
        assert EmbedConfig.make(options) == EmbedConfig.make(least | {"allow_root": roots})
    assert EmbedConfig.make(least).allow_root == ()
    assert EmbedConfig.make(least | {"allow_root": ["/a,b"]}).plain()["allow_root"] == ["/a,b"]
    with pytest.raises(ConfigError, match="--allow-root: input should be a valid string, got 1"):
        EmbedConfig.make(least | {"allow_root": [1]})
