"""The types of the JavaScript client compile in a strict TypeScript program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .npm_packages import NPM, find_node

CLIENT = Path(__file__).parent.parent.parent / "clients" / "js"

PROGRAM = """\
import { Client, TurnFailed, type ClientOptions } from "astrbot-api-client";

const options: ClientOptions = {
  apiKey: async (renew) => (renew ? "abk_new" : "abk_old"),
  retryS: 5,
};
const client = new Client("http://127.0.0.1:6185", options);

export async function chat(): Promise<string> {
  const stream = client.chat("Hello", { username: "alice" });
  try {
    for await (const event of stream) {
      if (event.type === "text") console.log(event.text.toUpperCase());
    }
  } catch (error) {
    if (error instanceof TurnFailed) return error.code;
    throw error;
  }
  return stream.reply.text;
}

export async function wrong(): Promise<void> {
  // @ts-expect-error: the message is missing
  client.chat();
  // @ts-expect-error: there is no such option
  new Client("http://127.0.0.1:6185", { apikey: "abk_x" });
}
"""


def test_a_strict_program_compiles_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    node = find_node("typescript")
    package = tmp_path / "node_modules" / "astrbot-api-client"
    shutil.copytree(CLIENT, package)
    (tmp_path / "program.ts").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [
            node, str(NPM / "node_modules" / "typescript" / "bin" / "tsc"), "--noEmit",
            "--strict", "--module", "nodenext", "--target", "es2022", "--lib",
            "es2022,dom,dom.iterable,dom.asynciterable", "program.ts",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == ""
