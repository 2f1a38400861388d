// Server-sent events over fetch, because EventSource can neither POST nor send a key.

/** Time without a byte after which a connection is lost. The server sends heartbeats. */
const SILENCE_MS = 90_000;

/** Yield {id, event} for each event of a response. Comments are skipped. */
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const timer = setTimeout(() => reader.cancel().catch(() => {}), SILENCE_MS); // ends the reading
    const { value, done } = await reader.read();
    clearTimeout(timer);
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const frame = buffer.slice(0, end);
      buffer = buffer.slice(end + 2);
      const found = parseFrame(frame);
      if (found) yield found;
    }
  }
}

function parseFrame(frame) {
  let id = null;
  let data = null;
  for (const line of frame.split("\n")) {
    if (line.startsWith("data: ")) data = line.slice(6);
    else if (line.startsWith("id: ")) id = line.slice(4);
  }
  return data === null ? null : { id, event: JSON.parse(data) };
}
