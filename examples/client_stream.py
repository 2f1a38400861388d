"""Send a message and print the answer while it arrives. Broken streams are resumed.

KEY=abk_… python examples/client_stream.py "Hello"
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ.get("URL", "http://127.0.0.1:6185") + "/api/v1"
USERNAME = "alice"


def open_stream(path, body=None, last_id=""):
    headers = {"X-API-Key": os.environ["KEY"], "Content-Type": "application/json"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=30)


def read_events(stream):
    """Yield the number (empty for a pushed message) and the JSON object of each event."""
    number, event = "", None
    for line in stream:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
        elif line.startswith(b"id: "):
            number = line[4:].strip().decode()
        elif line == b"\n" and event:
            yield number, event
            number, event = "", None


def ask(message):
    """Yield the pieces of the answer. Resume the stream if it breaks off."""
    stream = open_stream("/chat", {"message": message, "username": USERNAME})
    run_id = last_id = ""
    while True:
        try:
            for number, event in read_events(stream):
                last_id = number or last_id
                if event["type"] == "run_started":
                    run_id = event["data"]["run_id"]
                elif event["type"] == "plain" and event["chain_type"] is None:
                    yield event["data"]
                elif event["type"] == "error":
                    raise RuntimeError(event["data"])
                elif event["type"] == "end":
                    return
            time.sleep(1)  # the server sent "retry"
            stream = open_stream(f"/chat/runs/{run_id}/stream?username={USERNAME}", None, last_id)
        except urllib.error.HTTPError:
            raise  # the server rejected the request
        except (OSError, http.client.HTTPException):
            if not run_id:
                raise  # the turn had not started
            stream = ()  # nothing to read: retry


if __name__ == "__main__":
    if len(sys.argv) != 2 or "KEY" not in os.environ:
        sys.exit(__doc__)
    try:
        for piece in ask(sys.argv[1]):
            print(piece, end="", flush=True)
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())  # JSON with "message" and "code"
    except (OSError, RuntimeError) as error:
        sys.exit(f"{URL}: {error}")
    print()
