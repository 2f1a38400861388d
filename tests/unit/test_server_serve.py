"""Checks and messages of ``serve`` before it starts anything."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from astrbot_api.cli.main import main
from astrbot_api.errors import SettingsError, StorageError
from astrbot_api.server.banner import Banner
from astrbot_api.server.choose_model import ModelChoice
from astrbot_api.server.master import Master
from astrbot_api.server.preparing import FirstAccess, check_whole_numbers
from astrbot_api.server.serve import (
    _check_address,
    _clean_host,
    _ensure_temporary_folder,
    _make_command,
    _make_environ,
    _reachable,
    _run_model,
)

from ..waiting import wait_for

NO_ACCESS = FirstAccess()


def make_banner(
    *, access: FirstAccess = NO_ACCESS, kind: str = "openai", is_default_dir: bool = True
) -> Banner:
    choice = ModelChoice(kind, "Model: some.")  # type: ignore[arg-type]
    url, folder = "http://127.0.0.1:6185", Path("/srv/my data")
    return Banner(url, folder, is_default_dir, choice, lambda: access, "astrbot")


def curl_of(text: str) -> list[str]:
    return shlex.split(next(line for line in text.splitlines() if "curl" in line))


def test_the_first_start_shows_the_key_in_a_curl_that_can_be_pasted() -> None:
    text = make_banner().render(FirstAccess("abk_1"))
    assert curl_of(text) == [
        *("curl", "-N", "http://127.0.0.1:6185/api/v1/chat"),
        *("-H", "Authorization: Bearer abk_1"),
        *("-H", "Content-Type: application/json"),
        *("-d", '{"message":"Hello","username":"alice"}'),
    ]


def test_later_starts_say_how_to_make_a_key() -> None:
    text = make_banner(is_default_dir=False).render(NO_ACCESS)
    assert "keys create NAME --scope chat --data-dir '/srv/my data'" in text
    assert '"Authorization: Bearer $ASTRBOT_KEY"' in text
    assert "--data-dir" not in make_banner().render(NO_ACCESS)


def test_only_a_stand_in_for_a_model_asks_to_be_replaced() -> None:
    hint = 'base_url = "http://127.0.0.1:11434/v1"'
    assert hint in make_banner(kind="embedded").render(NO_ACCESS)
    assert hint in make_banner(kind="none").render(NO_ACCESS)
    assert hint not in make_banner(kind="url").render(NO_ACCESS)


def test_the_first_key_and_password_are_created_when_they_are_shown_and_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    created = [NO_ACCESS, FirstAccess("abk_1", "pass-1")]
    banner = make_banner()
    banner.create_access = created.pop
    assert "abk_1" not in f"{banner}{created}"
    banner.show()
    banner.show()
    out = capsys.readouterr().out
    assert (out.count("curl"), out.count("pass-1"), len(created)) == (1, 1, 1)


def test_a_closed_output_names_the_commands_for_another_key_and_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    banner = make_banner(access=FirstAccess("abk_1", "pass-1"), is_default_dir=False)
    monkeypatch.setattr(sys, "stdout", None)
    banner.show()
    err = capsys.readouterr().err
    assert "keys create NAME --data-dir '/srv/my data'" in err
    assert "admin set-password --data-dir '/srv/my data'" in err
    assert "abk_1" not in err


def test_a_full_disk_at_the_first_start_is_reported_and_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    banner = make_banner()

    def fail() -> FirstAccess:
        raise StorageError("the disk is full")

    banner.create_access = fail
    banner.show()
    out, err = capsys.readouterr()
    assert "keys create NAME" in out
    assert "the next start tries again: the disk is full" in err


def test_a_port_that_is_taken_is_found_before_gunicorn_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}: Address already in use"):
            _check_address("127.0.0.1", port)
    assert _check_address("127.0.0.1", port) == port


@pytest.mark.parametrize("host", ["http://127.0.0.1", "127.0.0.1:6185", "192.0.2.1", "unix:/x"])
def test_a_host_that_is_no_address_of_this_machine_is_named(host: str) -> None:
    with pytest.raises(SettingsError, match="Give an address of this machine with --host"):
        _check_address(host, 0)


@pytest.mark.parametrize(("host", "clean"), [("[::1]", "::1"), ("*", "0.0.0.0"), ("::", "::")])
def test_a_host_may_be_written_as_in_an_address(host: str, clean: str) -> None:
    assert _clean_host(host) == clean


@pytest.mark.parametrize("value", ["0", "65", "1000", "auto", "1.5"])
def test_a_wrong_number_of_workers_is_refused_before_any_starts(value: str) -> None:
    with pytest.raises(SettingsError, match=f"a whole number from 1 to 64; got {value!r}"):
        check_whole_numbers({"WEB_CONCURRENCY": value})


def test_gunicorn_gets_no_empty_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = ModelChoice("openai", "Model: some.")
    monkeypatch.setenv("WEB_CONCURRENCY", "")
    monkeypatch.setenv("ASTRBOT_GRACEFUL_TIMEOUT_S", " ")
    check_whole_numbers(os.environ)
    environ = _make_environ(tmp_path, choice)
    assert not {"WEB_CONCURRENCY", "ASTRBOT_GRACEFUL_TIMEOUT_S"} & environ.keys()
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert _make_environ(tmp_path, choice)["WEB_CONCURRENCY"] == "3"


def test_a_current_folder_that_was_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = CliRunner().invoke(main, ["serve", "--port", "0"])
    assert done.exit_code == 2
    assert done.stderr == "astrbot-api: the current folder: No such file or directory\n"


def test_a_file_of_another_user_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "data/astrbot.db.lock")

    monkeypatch.setattr("astrbot_api.server.serve.prepare", refuse)
    done = CliRunner().invoke(main, ["serve", "--port", "0", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.startswith("astrbot-api: data/astrbot.db.lock: Permission denied; run this")


def test_temporary_files_are_in_the_data_directory_if_nothing_else_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(
        tempfile, "_candidate_tempdir_list", lambda: [os.environ.get("TMPDIR", "/proc/none")]
    )
    _ensure_temporary_folder(tmp_path)
    assert tempfile.gettempdir() == str(tmp_path / "tmp")


def test_a_data_directory_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    done = CliRunner().invoke(main, ["serve", "--port", "0", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert f"{tmp_path} is on a file system without locks (No locks available)" in done.output


def test_a_first_start_on_a_full_disk_names_the_file_and_leaves_no_part_of_it(
    tmp_path: Path,
) -> None:
    # A limit on files behaves like a full disk, and needs no file system of its own.
    start = "from astrbot_api.cli.main import main; main(['serve', '--port', '0'])"
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-Bc", start]
    environ = {**os.environ, "ASTRBOT_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    path = tmp_path / "data" / "configs" / "default.toml"
    assert done.stderr == f"astrbot-api: {path}: {os.strerror(errno.EFBIG)}\n"
    assert done.returncode == 2
    assert list(path.parent.iterdir()) == []


def test_port_0_is_any_free_one() -> None:
    assert _check_address("127.0.0.1", 0) > 0


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("example", "example")],
)
def test_the_printed_address_can_be_reached_from_here(host: str, shown: str) -> None:
    assert _reachable(host) == shown


def test_gunicorn_gets_its_configuration_by_path() -> None:
    command = _make_command("::1", 80, None)
    assert Path(command[command.index("-c") + 1]).name == "gunicorn_conf.py"
    assert command[command.index("-b") + 1] == "[::1]:80"
    assert "--workers" not in command
    assert _make_command("h", 80, 3)[-3:-1] == ["--workers", "3"]


def test_the_models_port_is_kept_for_it_alone(tmp_path: Path) -> None:
    with _run_model(tmp_path / "absent.gguf", is_demo=True) as variables:
        port = int(variables["ASTRBOT_LOCAL_MODEL_URL"].split(":")[2].removesuffix("/v1"))
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        assert variables["ASTRBOT_LOCAL_MODEL_DEMO"] == "1"
        assert len(variables["ASTRBOT_LOCAL_MODEL_KEY"]) > 40


def run_master(program: str, banner: Banner, data_dir: Path | None = None) -> int:
    environ = {**os.environ, "ASTRBOT_DATA_DIR": str(data_dir)}
    return Master([sys.executable, "-c", program], environ, banner).run()


def test_a_server_that_does_not_start_is_reported_in_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    banner = make_banner()
    banner.url = "http://127.0.0.1:1"
    assert run_master("raise SystemExit(3)", banner) == 3
    assert capfd.readouterr().err == (
        "astrbot-api: the server did not start: gunicorn ended with exit code 3; see above\n"
    )
    assert not banner.shown


def test_a_server_that_is_killed_gives_the_shells_status() -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    banner = make_banner()
    banner.url = "http://127.0.0.1:1"
    assert run_master(program, banner) == 128 + 9


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Restore signals for tests that run in a shell's background."""
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ([signal.SIGTERM], "SIGTERM"),
        ([signal.SIGINT], "SIGTERM"),
        ([signal.SIGINT, signal.SIGINT], "SIGTERM SIGQUIT"),
        ([signal.SIGQUIT], "SIGQUIT"),
        ([signal.SIGHUP, signal.SIGTERM], "SIGHUP SIGTERM"),
        ([signal.SIGUSR1, signal.SIGTERM], "SIGUSR1 SIGTERM"),
    ],
)
def test_signals_reach_gunicorn_as_its_owner_means_them(
    sent: list[signal.Signals], received: str, tmp_path: Path, default_signals: None
) -> None:
    log = tmp_path / "log"
    log.touch()
    last = received.rpartition(" ")[2]
    program = f"""
import signal, sys, time
def note(number, frame):
    with open({str(log)!r}, "a") as file:
        print(signal.Signals(number).name, file=file)
    if signal.Signals(number).name == {last!r}:
        sys.exit(0)
for name in ("SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), note)
with open({str(log)!r}, "a") as file:
    print("up", file=file)
while True:
    # Not pause(): a signal that comes just before it would be answered never.
    time.sleep(0.02)
"""

    def send() -> None:
        for count, number in enumerate(sent, 1):
            wait_for(lambda count=count: len(log.read_text().split()) >= count)
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    banner = make_banner()
    banner.url = "http://127.0.0.1:1"
    before = signal.getsignal(signal.SIGTERM)
    sender.start()
    assert run_master(program, banner, tmp_path) == 0
    sender.join()
    assert log.read_text().split() == ["up", *received.split()]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_signal_for_gunicorns_upgrade_is_refused_and_ends_nothing(
    tmp_path: Path, default_signals: None, capfd: pytest.CaptureFixture[str]
) -> None:
    up = tmp_path / "up"
    program = f"""
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path({str(up)!r}).touch()
while True:
    time.sleep(0.02)
"""

    def send() -> None:
        wait_for(up.exists)
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    banner = make_banner()
    banner.url = "http://127.0.0.1:1"
    sender.start()
    assert run_master(program, banner) == 0
    sender.join()
    assert capfd.readouterr().err == (
        "astrbot-api: ignored USR2; after an upgrade, send HUP: new workers load the new code\n"
    )
