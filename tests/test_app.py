"""The page's server, over real HTTP: what it serves, to whom, and nothing else."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pages
from tests.helpers.gallery import REEL, STAR, make_gallery
from tests.helpers.http import FileServer
from tests.helpers.page import App, Video, shown_ids
from vidembed import cli
from vidembed.app import cards, containers, ranges

pages.need_gradio()

PASSWORD = "rosebud & more"


@pytest.fixture(scope="module")
def web():
    server = FileServer()
    with server:
        yield server


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, web, s3):
    folder = tmp_path_factory.mktemp("gallery")
    far = [
        Video("web", f"{web.url}/ok/ring.mp4", "on the web", decoded=False),
        Video("private", f"{web.url}/other/ring.mp4", "not allowed", decoded=False),
        Video("bucket", f"{s3.bucket}/app/ring.mp4", "in a bucket", decoded=False),
        Video("a/b c#?é", str(folder / "videos" / "ring.mp4"), "a hard name", decoded=False),
    ]
    made = make_gallery(folder, more=tuple(far))
    ring = made.file("ring.mp4").read_bytes()
    web.put("/ok/ring.mp4", ring)
    web.put("/other/ring.mp4", ring)
    s3.upload(made.folder / "videos", "app")
    return made


@pytest.fixture(scope="module")
def app(gallery, web, tmp_path_factory):
    roots = f"{web.url}/ok,{gallery.folder}/videos"
    words = ("--run", gallery.run.uri, "--allow-root", roots, "--max-upload", "1")
    with App(tmp_path_factory.mktemp("app"), *words) as running:
        yield running


def test_a_video_is_served_whole_as_what_it_is(app, gallery):
    answer = app.media("heart")
    assert answer.status == 200
    assert answer.body == gallery.file("heart.mp4").read_bytes()
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    head = app.ask("/media/heart", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.body))
    assert head.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=5-99999999", slice(5, None)),
    ],
)
@pytest.mark.parametrize("row", ["ring", "web", "bucket"])
def test_a_range_is_served_wherever_the_video_is(app, gallery, row, asked, part):
    data = gallery.file("ring.mp4").read_bytes()
    answer = app.media(row, Range=asked)
    assert answer.status == 206
    assert answer.body == data[part]
    start = part.indices(len(data))[0]
    wanted = f"bytes {start}-{start + len(answer.body) - 1}/{len(data)}"
    assert answer.headers["Content-Range"] == wanted


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_416(app, gallery, asked):
    answer = app.media("ring", Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{gallery.file('ring.mp4').stat().st_size}"


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"])
def test_a_range_that_is_not_understood_gives_all(app, gallery, asked):
    answer = app.media("ring", Range=asked)
    assert (answer.status, len(answer.body)) == (200, gallery.file("ring.mp4").stat().st_size)


def test_a_browser_that_has_the_file_already_is_told_so(app):
    tag = app.media("ring").headers["ETag"]
    assert app.media("ring", If_None_Match=tag).status == 304
    assert app.media("ring", If_None_Match='"another"').status == 200
    assert app.media("ring", Range="bytes=0-3", If_Range=tag).status == 206
    assert app.media("ring", Range="bytes=0-3", If_Range='"another"').status == 200


def test_a_row_with_a_hard_name_is_found(app, gallery):
    assert app.media("a/b c#?é").body == gallery.file("ring.mp4").read_bytes()
    assert app.ask(f"/thumbnail/{quote('a/b c#?é', safe='')}.jpg").status == 200


TRAVERSALS = [
    "/media/../../../../etc/passwd",
    "/media/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/media/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/media//etc/passwd",
    "/media/%2Fetc%2Fpasswd",
    "/media/file:%2F%2F%2Fetc%2Fpasswd",
    "/media/..\\..\\etc\\passwd",
    "/media/ring%00/etc/passwd",
    "/thumbnail/../../../../etc/passwd.jpg",
    "/thumbnail/%2Fetc%2Fpasswd.jpg",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file=%2Fetc%2Fpasswd",
    "/gradio_api/file/etc/passwd",
    "/gradio_api/queue/../file=/etc/passwd",
    "/gradio_api/queue/data%2f..%2f..%2ffile=/etc/passwd",
    "//gradio_api/file=/etc/passwd",
    "/file=/etc/passwd",
    "/file/etc/passwd",
    "/static/../../../../../../etc/passwd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static//etc/passwd",
    "/static/%2Fetc%2Fpasswd",
    "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/assets/%2Fetc%2Fpasswd",
    "/svelte/%2Fetc%2Fpasswd",
    "/gradio_api/custom_component/1/client/component/..%2f..%2fetc%2fpasswd",
    "/?deep_link=/etc",
    "/etc/passwd",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a_path_of_the_callers_choosing_is_refused(app, path):
    answer = app.ask(path)
    assert 400 <= answer.status < 500, path
    assert b"root:" not in answer.body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/run/text"),
        ("POST", "/gradio_api/call/text"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1:1/"),
        ("GET", "/gradio_api/file=http://127.0.0.1:1/"),
        ("GET", "/gradio_api/deep_link?session_hash=a"),
        ("GET", "/gradio_api/info"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/monitoring"),
    ],
)
def test_gradios_ways_to_files_and_addresses_do_not_exist(app, method, path):
    assert app.ask(path, method, {"Content-Type": "application/json"}, b"{}").status == 404


def test_only_videos_are_served_whatever_a_row_names(app):
    answer = app.media("secret")
    assert answer.status == 415
    assert b"business" not in answer.body
    assert answer.json()["problem"] == "Unsupported"
    assert app.ask("/thumbnail/secret.jpg").status == 415


def test_only_what_the_run_may_open_is_served(app):
    answer = app.media("private")
    assert answer.status == 403
    # Which option would allow it is the operator's to know.
    assert "allow-root" not in answer.body.decode()
    assert "--allow-root" in app.errors


def test_a_thumbnail_shows_the_middle_of_its_segment(app):
    for number, scene in enumerate(REEL):
        answer = app.ask(f"/thumbnail/reel%23{number}.jpg")
        assert answer.headers["Content-Type"] == "image/jpeg"
        image = Image.open(io.BytesIO(answer.body)).convert("RGB")
        assert image.size == (384, 288)
        red, green, blue = np.asarray(image)[:20, :20].reshape(-1, 3).mean(axis=0)
        lit = {"white": (1, 1, 1), "black": (0, 0, 0), "yellow": (1, 1, 0)}[scene.background]
        assert ((red > 120), (green > 120), (blue > 120)) == lit


@pytest.mark.parametrize(
    ("row", "status", "problem"),
    [
        ("gone", 404, "NotFound"),
        ("damaged", 422, "Truncated"),
        ("crash", 422, "DecoderCrash"),
        ("nobody", 404, "NotFound"),
    ],
)
def test_what_cannot_be_decoded_says_so_and_the_page_lives_on(app, row, status, problem):
    answer = app.ask(f"/thumbnail/{row}.jpg")
    assert (answer.status, answer.json()["problem"]) == (status, problem)
    assert app.ask("/thumbnail/heart.jpg").status == 200


def test_several_users_at_once_get_what_each_asked_for(app, gallery):
    data = {name: gallery.file(f"{name}.mp4").read_bytes() for name in ("ring", "heart", "reel")}

    def one(number: int) -> bool:
        name = ("ring", "heart", "reel")[number % 3]
        row = "reel#1" if name == "reel" else name
        if number % 4 == 3:
            found = shown_ids(app.search(STAR if row == "reel#1" else f"a {name}"))
            return found[0] == row
        if number % 2:
            return app.ask(f"/thumbnail/{quote(row)}.jpg").status == 200
        return app.media(row, Range="bytes=50-").body == data[name][50:]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(32)))
    assert found == [True] * 32


def test_a_search_is_filtered_and_grouped(app):
    assert shown_ids(app.search(STAR, top=2))[0] == "reel#1"
    assert shown_ids(app.search("a ring", chosen="color == 'purple'")) == ["ring"]
    assert sum(i.startswith("reel") for i in shown_ids(app.search(STAR, top=20))) == 3
    assert sum(i.startswith("reel") for i in shown_ids(app.search(STAR, top=20, group=True))) == 1


def test_a_filter_that_is_not_understood_is_explained(app):
    answer = app.search("a ring", chosen="colour == 'purple'")
    assert 'data-state="error"' in answer
    assert "colour" in answer
    assert "Mend the filter" in answer


def test_a_filter_that_nothing_passes_says_what_to_do(app):
    assert "Widen it" in app.search("a ring", chosen="n > 1000")


def test_what_stands_in_the_rows_is_text_and_not_html(app):
    answer = app.search("a pink heart", chosen="color == 'pink'")
    assert "a pink heart &lt;b&gt;bounces&lt;/b&gt;" in answer
    hostile = "<img src=x onerror=alert(1)> ${1+1} {{7*7}}"
    assert "&lt;img src=x" in app.search(hostile)
    assert "<img src=x" not in app.search(hostile)


def test_an_upload_is_bounded(app):
    assert app.ask("/query-video", "POST", body=bytes(1_000_001)).status == 413
    # In pieces, without saying how long it will be.
    pieces = iter([bytes(500_000)] * 3)
    assert app.ask("/query-video", "POST", body=pieces).status == 413
    empty = app.ask("/query-video", "POST", body=b"")
    assert (empty.status, "empty" in empty.json()["message"]) == (400, True)


def test_an_upload_keeps_neither_name_nor_place(app):
    names = {"X-File-Name": "../../../../tmp/evil.mp4"}
    answer = app.ask("/query-video", "POST", names, b"not a video")
    assert list(answer.json()) == ["token"]
    kept = [p for p in app.temporary.rglob("*") if p.is_file() and p.name.startswith("query-")]
    assert [path.suffix for path in kept] == [".mp4"]
    assert kept[0].read_bytes() == b"not a video"


def test_old_uploads_give_way(app):
    for number in range(40):
        assert app.ask("/query-video", "POST", body=b"%d" % number).status == 200
    kept = [p for p in app.temporary.rglob("query-*") if p.is_file()]
    assert len(kept) == 32


def test_another_host_name_is_refused(app):
    assert app.ask("/", headers={"Host": "evil.example"}).status == 421
    assert app.ask("/media/ring", headers={"Host": "evil.example:80"}).status == 421
    assert app.ask("/", headers={"Host": "localhost"}).status == 200


def test_another_sites_page_gets_nothing(app):
    evil = {"Origin": "http://evil.example"}
    joined = app.ask("/gradio_api/queue/join", "POST", evil, b"{}")
    assert joined.status == 403
    assert app.ask("/query-video", "POST", evil, b"x").status == 403
    assert app.ask("/query-video", "POST", {"Origin": "null"}, b"x").status == 403
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert app.ask("/thumbnail/ring.jpg", headers=picture).status == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert app.ask("/", headers=link).status == 200


def test_no_answer_is_lent_to_other_origins(app):
    ours = {"Origin": app.url}
    for path in ("/", "/config", "/media/ring", "/thumbnail/ring.jpg", "/theme.css"):
        answer = app.ask(path, headers=ours)
        assert answer.status == 200, path
        lent = [n for n in answer.headers if n.lower().startswith("access-control-")]
        assert lent == []
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_password_guards_everything(gallery, tmp_path):
    """And a row may not name a file outside the roots; and SIGTERM ends it like Ctrl-C."""
    words = ("--run", gallery.run.uri, "--user", "ann", "--allow-root", str(tmp_path))
    with App(tmp_path, *words, password=PASSWORD) as guarded:

        def status(path: str, user: str = "", word: str = "") -> int:
            given = base64.b64encode(f"{user}:{word}".encode()).decode()
            headers = {"Authorization": f"Basic {given}"} if user else {}
            return guarded.ask(path, headers=headers).status

        paths = ["/", "/config", "/theme.css", "/media/ring", "/thumbnail/ring.jpg",
                 "/gradio_api/queue/data?session_hash=a", "/nothing"]  # fmt: skip
        assert [status(path) for path in paths] == [401] * len(paths)
        assert guarded.ask("/query-video", "POST", body=b"x").status == 401
        assert [status(path, "ann", PASSWORD) for path in paths[:5]] == [200, 200, 200, 403, 403]
        assert status("/media/ring", "ann", "rosebud") == 401
        assert status("/media/ring", "vidembed", PASSWORD) == 401
        assert "no password" not in guarded.errors
        assert guarded.end(signal.SIGTERM) == 0
        assert list(guarded.temporary.iterdir()) == []


def test_a_port_that_is_taken_is_one_line(gallery, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = cli.main(["app", "--run", gallery.run.uri, "--port", str(port)])
    out, errors = capsys.readouterr()
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert f"port {port}" in errors
    assert "--port" in errors


def test_without_the_extra_it_says_what_to_install():
    code = (
        "import sys; sys.modules['gradio'] = None; from vidembed.cli import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", code, "app", "--run", "nowhere"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vidembed: the page needs Gradio: pip install 'vidembed[app]'\n"


@pytest.mark.parametrize("kind", ["lite", "server"])
def test_a_collection_is_served_like_a_run_until_ctrl_c(gallery, tmp_path, request, kind):
    """On all addresses of the machine, which without a password deserves a warning."""
    uri = str(tmp_path / "milvus.db") if kind == "lite" else request.getfixturevalue("milvus").uri
    load = ["load", gallery.run.uri, "--milvus", uri, "--collection", "page", "--index", "FLAT"]
    words = [sys.executable, "-m", "vidembed", *load]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(words, check=True, capture_output=True, env=environment)
    words = ["--milvus", uri, "--collection", "page", "--host", "0.0.0.0"]
    words += ["--allow-root", str(gallery.folder)]
    with App(tmp_path / "app", *words) as running:
        assert "collection page" in running.said[0]
        assert "no password" in running.errors
        assert shown_ids(running.search(STAR))[0] == "reel#1"
        assert shown_ids(running.search("a ring", chosen="color == 'purple'")) == ["ring"]
        found = shown_ids(running.search(STAR, top=20, group=True))
        assert sum(row.startswith("reel") for row in found) == 1
        assert running.media("reel#1", Range="bytes=0-3").status == 206
        assert running.media("nobody").status == 404
        assert running.ask("/thumbnail/reel%231.jpg").status == 200
        assert running.ask("/query-video", "POST", body=b"x").status == 200
        # A page that is open keeps its connections.
        hold = threading.Thread(target=_listen, args=(running,))
        hold.start()
        time.sleep(0.3)
        assert running.end(signal.SIGINT) == 0
        hold.join(20)
        assert list(running.temporary.iterdir()) == []
        assert "Traceback" not in running.errors


def _listen(app: App) -> None:
    with socket.create_connection(("127.0.0.1", app.port)) as line:
        line.sendall(b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while line.recv(4096):
            pass


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypisom" + bytes(16), "MP4"),
        (b"\0\0\0\x14ftypqt  " + bytes(16), "MOV"),
        (b"\x1a\x45\xdf\xa3" + bytes(8) + b"webm", "WebM"),
        (b"\x1a\x45\xdf\xa3" + bytes(8) + b"matroska", "Matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        ((b"\x47" + bytes(187)) * 3, "MPEG-TS"),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head, name):
    assert containers.container(head).name == name


@pytest.mark.parametrize(
    "head",
    [b"", b"root:x:0:0:root:/root:/bin/bash\n", b"<!doctype html>", b"PK\3\4", b"RIFF1234WAVE"],
)
def test_what_is_no_container_of_video_has_none(head):
    assert containers.container(head) is None


def test_every_range_of_a_small_file_is_what_slicing_gives():
    data = bytes(range(7))
    for first in range(7):
        for last in range(first, 9):
            span = ranges.asked_for(f"bytes={first}-{last}", 7)
            assert data[span.start : span.end] == data[first : last + 1]
    for count in range(1, 9):
        span = ranges.asked_for(f"bytes=-{count}", 7)
        assert data[span.start : span.end] == data[-count:]


def test_times_are_told_as_players_tell_them():
    told = [cards.clock(s) for s in (0, 3.25, 5.999, 59.94, 75, 3725.9)]
    assert told == ["0:00", "0:03.2", "0:06", "0:59.9", "1:15", "1:02:05"]
