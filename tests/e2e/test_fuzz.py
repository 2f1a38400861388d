"""A short ``make fuzz``: the server and its OpenAPI document agree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..fuzz.run import fuzz

pytestmark = pytest.mark.e2e

if not os.environ.get("CI"):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")

#: The same requests each time, so that faults are reproducible.
_SAME = ("--generation-deterministic", "--no-shrink", "--seed", "1")


def test_a_few_requests_per_operation_find_no_fault(tmp_path: Path) -> None:
    with_key = ["-n", "2", "--phases", "examples,coverage,fuzzing", *_SAME]
    without_key = ["-n", "2", "--phases", "examples,fuzzing", *_SAME]
    found = fuzz(tmp_path, with_key, without_key)
    if found:
        pytest.fail(found, pytrace=False)
