// A client of the AstrBot HTTP API for browsers, Node 20, Deno and Bun, without dependencies.
// The types are in client.d.ts.

/** Base class of all errors of this module. */
export class ClientError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The server could not be reached within the retry time. */
export class ConnectionLost extends ClientError {}

/** A stream broke off and cannot be resumed. `reply` has the received part. */
export class StreamLost extends ConnectionLost {
  constructor(message, reply, options) {
    super(message, options);
    this.reply = reply;
  }
}

/** The turn ended with an `error` event. `reply` has the part before it. */
export class TurnFailed extends ClientError {
  constructor(code, message, reply) {
    super(message);
    Object.assign(this, { code, reply });
  }
}

/** The server rejected a request. AstrBot sends no `code`. */
export class ApiError extends ClientError {
  constructor(status, code, message, requestId = "", retryAfterS = null) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfterS });
  }

  /** Whether the same request can succeed later. */
  get temporary() {
    return [429, 502, 503, 504].includes(this.status) && !FINAL_CODES.has(this.code);
  }
}

/** The server does not have this route. It is an AstrBot or an older server. */
export class UnsupportedError extends ApiError {}

// Codes with status 429 or 502 for which a retry does not help soon.
const FINAL_CODES = new Set(["quota_exceeded", "budget_exhausted", "provider_error"]);

// AstrBot's errors have no code, so clients match these texts.
const CODES_OF_TEXTS = {
  "Missing API key": "missing_api_key",
  "Invalid API key": "invalid_api_key",
  "Insufficient API key scope": "insufficient_scope",
};

const MEDIA = ["image", "record", "file", "video"];

// After this many connections broke within the same `complete` event, it is built from the
// received text.
const TRIES_OF_COMPLETE = 3;

/** Return the error of a response, or null if it succeeded. */
function readError(answer, text, request) {
  let envelope = null;
  try {
    envelope = JSON.parse(text);
  } catch {
    // not JSON, so there is no envelope
  }
  const known = envelope !== null && typeof envelope === "object" && "status" in envelope;
  if (answer.status < 400 && !(known && envelope.status === "error")) return null;
  let message = (known && envelope.message) || "";
  const code = (known && envelope.code) || CODES_OF_TEXTS[message] || "";
  let Kind = ApiError;
  const missing = answer.status === 404 || answer.status === 405;
  if (missing && ["", "path_not_found", "method_not_allowed"].includes(code)) {
    Kind = UnsupportedError;
    message = `this server does not have ${request}`;
  }
  const wait = answer.headers.get("retry-after");
  const seconds = wait === null ? null : Number.isFinite(Number(wait)) ? Number(wait) : 5;
  return new Kind(
    answer.status,
    code,
    message || `the server answered ${request} with HTTP ${answer.status}`,
    answer.headers.get("x-request-id") || "",
    seconds,
  );
}

/** Exponential backoff, limited by the time since the first failure. The first retry is immediate. */
class Backoff {
  constructor(limitS) {
    this.limitS = limitS;
    this.reset();
  }

  reset() {
    this.failures = 0;
  }

  /** Return the seconds to wait before the next retry, or null if the limit is reached. */
  next(atLeastS = 0) {
    // Not since the last progress: a tool can be silent for minutes, and a laptop can sleep.
    const now = Date.now();
    if (!this.failures) this.since = now;
    this.failures += 1;
    let waitS = 0;
    if (this.failures > 1) {
      waitS = Math.min(10, 0.2 * 2 ** Math.min(this.failures - 2, 10)) * (0.7 + Math.random() * 0.6);
    }
    waitS = Math.max(waitS, atLeastS);
    return (now - this.since) / 1000 + waitS >= this.limitS ? null : waitS;
  }
}

/** Parses server-sent events from chunks of bytes. */
class FrameParser {
  constructor() {
    this.decoder = new TextDecoder();
    this.buffer = "";
    this.data = [];
    this.id = "";
    this.retryS = 0;
    this.comments = 0; // heartbeats, for example
  }

  /** The received part of an incomplete frame. */
  get partial() {
    return this.buffer || this.data.join("\n");
  }

  feed(chunk) {
    const lines = (this.buffer + this.decoder.decode(chunk, { stream: true })).split("\n");
    this.buffer = lines.pop();
    const frames = [];
    for (const line of lines) {
      const frame = this.take(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (frame) frames.push(frame);
    }
    return frames;
  }

  take(line) {
    if (line === "") return this.finish();
    const at = line.indexOf(":");
    const name = at < 0 ? line : line.slice(0, at);
    let text = at < 0 ? "" : line.slice(at + 1);
    if (text.startsWith(" ")) text = text.slice(1);
    if (name === "data") this.data.push(text);
    else if (name === "id") this.id = text;
    else if (name === "retry" && /^\d+$/.test(text)) this.retryS = Number(text) / 1000;
    else if (name === "") this.comments += 1;
    return null;
  }

  finish() {
    const text = this.data.join("\n");
    const id = this.id;
    this.data = [];
    this.id = "";
    try {
      const value = JSON.parse(text);
      if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
      return { data: value, id };
    } catch {
      return null;
    }
  }
}

function readObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

/** Convert a JSON object to an event. Unknown types become `unknown`. */
export function parseEvent(raw, number = null, pushed = false) {
  const data = raw.data;
  const fields = data !== null && typeof data === "object" ? data : {};
  const make = (type, more = {}) => ({ type, ...more, number, pushed, raw });
  switch (raw.type) {
    case "plain":
      return parsePlain(raw.chain_type ?? null, data, make);
    case "session_id":
      return make("session_started", { sessionId: String(raw.session_id ?? "") });
    case "user_message_saved":
      return make("user_message_saved", { messageId: fields.id ?? null });
    case "run_started":
      return make("run_started", { runId: fields.run_id ?? "" });
    case "attachment_saved":
      return make("attachment_saved", { attachmentId: fields.id ?? "", kind: fields.type ?? "" });
    case "approval_required":
      return make("approval_required", {
        id: fields.id ?? "",
        name: fields.tool ?? "",
        arguments: fields.arguments ?? null,
        expiresAt: fields.expires_at ?? "",
      });
    case "agent_stats":
      return make("agent_stats", { stats: fields });
    case "complete":
      return make("complete", {
        text: data ?? "",
        reasoning: raw.reasoning ?? "",
        truncated: Boolean(raw.truncated),
      });
    case "message_saved":
      return make("message_saved", {
        messageId: fields.id ?? null,
        createdAt: fields.created_at ?? "",
      });
    case "error":
      return make("error", { code: raw.code ?? "", message: String(data ?? "") });
    case "rewind":
      return make("rewind", {
        chars: fields.chars ?? 0, reasoningChars: fields.reasoning_chars ?? 0,
        calls: fields.calls ?? 0, files: fields.files ?? 0, again: Boolean(fields.again),
      });
    case "run_snapshot":
      return make("run_snapshot", { content: fields.content ?? {}, status: fields.status ?? "" });
    case "end":
      return make("end");
    case "inbox_opened":
      return make("inbox_opened", { after: fields.after ?? 0, reset: Boolean(fields.reset) });
    case "message":
      return make("inbox_message", { sessionId: raw.session_id ?? "", message: fields });
    default:
      if (MEDIA.includes(raw.type)) {
        // AstrBot sends "[FILE]stored name|displayed name".
        const name = String(data ?? "").replace(/^\[\w+\]/, "").split("|").pop();
        return make("media", { kind: raw.type, filename: name });
      }
      return make("unknown");
  }
}

function parsePlain(chain, data, make) {
  if (chain === null) return make("text", { text: data ?? "" });
  if (chain === "reasoning") return make("reasoning", { text: data ?? "" });
  const fields = readObject(data);
  if (chain === "tool_call") {
    return make("tool_call", {
      id: fields.id ?? "",
      name: fields.name ?? "",
      arguments: fields.args ?? null,
    });
  }
  if (chain === "tool_call_result") {
    return make("tool_result", { id: fields.id ?? "", result: fields.result ?? "" });
  }
  return make("unknown"); // AstrBot has further values, such as agent_stats
}

/** State machine of one turn, without I/O: the next request, and the reply so far. */
class Turn {
  constructor({ body = null, username, runId = "", after = null, path = "/chat", key, retryS }) {
    this.body = body;
    this.username = username ?? "";
    this.path = path;
    this.key = key || makeId();
    this.repeatable = path === "/chat";
    this.ended = false;
    this.decided = false; // a call, while the stream was open
    this.begun = false;
    this.lastNumber = after;
    this.backoff = new Backoff(retryS);
    this.parser = new FrameParser();
    this.cutCompletes = 0;
    this.skipped = 0;
    this.reply = {
      sessionId: "", runId, text: "", reasoning: "", messageId: null, userMessageId: null,
      toolCalls: [], attachments: [], stats: null, error: null, waiting: [],
    };
  }

  nextCall() {
    this.parser = new FrameParser();
    const headers = { Accept: "text/event-stream" };
    if (this.body !== null && !this.reply.runId) {
      if (this.repeatable) headers["Idempotency-Key"] = this.key;
      return { method: "POST", path: this.path, body: this.body, headers };
    }
    if (this.lastNumber !== null) headers["Last-Event-ID"] = String(this.lastNumber + this.skipped);
    return {
      method: "GET",
      path: `/chat/runs/${encodeURIComponent(this.reply.runId)}/stream`,
      query: { username: this.username || null },
      headers,
    };
  }

  /** Return the events that a chunk completes, without duplicates. */
  feed(chunk) {
    const events = [];
    const before = this.measure();
    for (const frame of this.parser.feed(chunk)) {
      const number = /^\d+$/.test(frame.id) ? Number(frame.id) : null;
      if (number !== null && this.lastNumber !== null && number <= this.lastNumber) continue;
      if (this.skipped && number !== null) events.push(this.makeComplete());
      const pushed = this.isPushed(frame.data, number);
      if (number !== null) this.lastNumber = number;
      events.push(...this.fold(parseEvent(frame.data, number, pushed)));
    }
    if (this.measure() !== before) {
      this.backoff.reset();
      this.cutCompletes = 0;
    }
    return events;
  }

  /** Return the seconds to wait before a rejected request is retried. Throw if a retry is useless. */
  takeRefusal(answer, text, call) {
    if (answer.status === 204) {
      // Nothing follows the last event. But a decision may have been made after this answer.
      this.ended = !this.decided;
      this.decided = false;
      return 0;
    }
    const error = readError(answer, text, `${call.method} /api/v1${call.path}`);
    if (error === null) {
      throw new ApiError(answer.status, "", "the server did not answer with a stream of events");
    }
    if (this.begun && !error.temporary) {
      const reason = `the stream cannot be resumed: ${error.message}`;
      throw new StreamLost(reason, this.reply, { cause: error });
    }
    const waitS = error.temporary ? this.backoff.next(error.retryAfterS ?? 0) : null;
    if (waitS === null) throw error;
    return waitS;
  }

  /** Return the seconds to wait after a connection broke. Throw if the limit is reached. */
  takeBreak(cause) {
    if (this.parser.partial.startsWith('data: {"type":"complete"')) {
      this.cutCompletes += 1;
      // A proxy cuts this long line each time. The text was already received.
      if (this.cutCompletes >= TRIES_OF_COMPLETE && this.lastNumber !== null) this.skipped = 1;
    }
    const waitS = this.backoff.next(this.parser.retryS);
    if (waitS === null) {
      const reason = cause ? `the server cannot be reached: ${cause.message}` : "the stream broke off";
      if (this.begun) throw new StreamLost(reason, this.reply, { cause });
      throw new ConnectionLost(reason, { cause });
    }
    return waitS;
  }

  throwFailure() {
    const { error, waiting } = this.reply;
    if (error) throw new TurnFailed(error.code, error.message, this.reply);
    const names = waiting.map((one) => one.name).join(", ");
    if (names) throw new TurnFailed("approval_required", `waits for an approval: ${names}`, this.reply);
  }

  /** Return a value that changes with progress, also by heartbeats. Repeated events do not change it. */
  measure() {
    return [this.lastNumber, this.reply.text.length, this.reply.reasoning.length, this.parser.comments].join();
  }

  isPushed(raw, number) {
    if (number !== null || !this.reply.runId) return false;
    if (raw.message_id != null) return String(raw.message_id) !== this.reply.runId;
    // attachment_saved and message_saved have no run id.
    return this.lastNumber !== null && raw.type !== "run_snapshot";
  }

  makeComplete() {
    this.skipped = 0;
    const { text, reasoning, runId } = this.reply;
    const raw = { type: "complete", data: text, reasoning, streaming: true, message_id: runId };
    return parseEvent(raw, this.lastNumber + 1);
  }

  /** Add an event to the reply. Return the events for the caller. */
  fold(event) {
    const reply = this.reply;
    this.begun = true;
    if (event.pushed) return [event];
    if (event.type === "approval_required") {
      // The event is repeated if another worker takes over the run.
      reply.waiting = reply.waiting.filter((one) => one.id !== event.id);
      reply.waiting.push({ id: event.id, name: event.name, arguments: event.arguments });
      return [event];
    }
    reply.waiting = []; // the turn only continues when all calls are decided
    switch (event.type) {
      case "text": reply.text += event.text; break;
      case "reasoning": reply.reasoning += event.text; break;
      case "session_started": reply.sessionId = event.sessionId; break;
      case "run_started": reply.runId = event.runId; break;
      case "user_message_saved": reply.userMessageId = event.messageId; break;
      case "complete":
        if (!event.truncated) Object.assign(reply, { text: event.text, reasoning: event.reasoning });
        break;
      case "message_saved": reply.messageId = event.messageId; break;
      case "agent_stats": reply.stats = event.stats; break;
      case "error": reply.error = { code: event.code, message: event.message }; break;
      case "end": this.ended = true; break;
      case "rewind":
        reply.text = withoutEnd(reply.text, event.chars);
        reply.reasoning = withoutEnd(reply.reasoning, event.reasoningChars);
        reply.toolCalls.length = Math.max(0, reply.toolCalls.length - event.calls);
        reply.attachments.length = Math.max(0, reply.attachments.length - event.files);
        break;
      case "run_snapshot": return [event, ...this.catchUp(event)];
      case "tool_call":
        reply.toolCalls.push({
          id: event.id, name: event.name, arguments: event.arguments, result: null,
        });
        break;
      case "tool_result": {
        const call = reply.toolCalls.findLast((one) => one.id === event.id);
        if (call) call.result = event.result;
        break;
      }
      case "media":
        reply.attachments.push({ attachmentId: "", type: event.kind, filename: event.filename });
        break;
      case "attachment_saved":
        if (reply.attachments.length) reply.attachments.at(-1).attachmentId = event.attachmentId;
        break;
      default:
    }
    return [event];
  }

  /** Return the missed text of a snapshot. AstrBot resumes with snapshots and without numbers. */
  catchUp(snapshot) {
    const parts = Array.isArray(snapshot.content.message) ? snapshot.content.message : [];
    const whole = parts.filter((one) => one?.type === "plain").map((one) => one.text ?? "").join("");
    const before = this.reply.text;
    this.reply.text = whole;
    if (!whole.startsWith(before) || whole === before) return [];
    return [parseEvent({ type: "plain", data: whole.slice(before.length), chain_type: null })];
  }
}

/** Remove the last characters (code points, not UTF-16 units) of a text. */
function withoutEnd(text, chars) {
  return chars ? [...text].slice(0, -chars).join("") : text;
}

/** The stream of a turn. Iterate over its events or await its text. It reconnects automatically. */
export class ChatStream {
  #client;
  #turn;
  #events;
  #lastNumber; // of the last event that the loop received; the turn may have read more
  #abort = new AbortController();

  constructor(client, turn, signal) {
    this.#client = client;
    this.#turn = turn;
    this.#lastNumber = turn.lastNumber;
    this.#events = this.#read();
    if (signal?.aborted) this.#abort.abort();
    signal?.addEventListener("abort", () => this.#abort.abort(), { once: true });
  }

  /** The reply so far. */
  get reply() {
    return this.#turn.reply;
  }

  /** Number of the last event that the loop received. Pass it to `client.runs.resume`. */
  get lastEventId() {
    return this.#lastNumber;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    return this.#events.next();
  }

  /** Close the connection. The turn continues on the server. */
  async return(value) {
    this.#abort.abort();
    await this.#events.return();
    return { done: true, value };
  }

  close() {
    return this.return();
  }

  /** Read to the end and return the reply. */
  async final() {
    for await (const _ of this); // eslint-disable-line
    this.#turn.throwFailure();
    return this.reply;
  }

  /** Read to the end and return the whole text. */
  async text() {
    return (await this.final()).text;
  }

  /** Yield the pieces of the reply's text. */
  async *textDeltas() {
    for await (const event of this) if (event.type === "text" && !event.pushed) yield event.text;
    this.#turn.throwFailure();
  }

  /** Stop the turn. Its stream ends with the text so far. */
  async stop() {
    if (!this.reply.runId) return 0;
    return this.#client.runs.stop(this.reply.runId, { username: this.#turn.username || undefined });
  }

  /**
   * Decide a pending tool call like `client.runs.decide`, then continue the loop. If the loop has
   * already ended, start it again.
   */
  async decide(approvalId, decision, { arguments: changed, comment } = {}) {
    const username = this.#turn.username || undefined;
    await this.#client.runs.decide(this.reply.runId, approvalId, decision, { username, arguments: changed, comment });
    if (this.#turn.ended) {
      this.#turn.ended = false;
      this.#events = this.#read();
    } else this.#turn.decided = true;
  }

  async *#read() {
    const turn = this.#turn;
    while (!turn.ended) {
      const call = turn.nextCall();
      let cause = null;
      let sent = false;
      let reader = null;
      try {
        const answer = await this.#client._open(call, this.#abort.signal);
        sent = true;
        if (!isStream(answer)) {
          const text = await this.#client._readText(answer);
          await sleep(turn.takeRefusal(answer, text, call), this.#abort.signal);
          continue;
        }
        reader = answer.body.getReader();
        for (;;) {
          const { done, value } = await this.#client._readSoon(reader);
          if (done) break;
          for (const event of turn.feed(value)) {
            this.#lastNumber = event.number ?? this.#lastNumber;
            yield event;
          }
        }
      } catch (error) {
        if (error instanceof ClientError || this.#abort.signal.aborted) throw error;
        cause = error;
      } finally {
        reader?.cancel().catch(() => {});
      }
      if (turn.ended) return;
      await this.#checkRepeat(call, cause, sent);
      await sleep(turn.takeBreak(cause), this.#abort.signal);
    }
  }

  /** Throw if a retry could ask the model twice because the first request may have arrived. */
  async #checkRepeat(call, cause, sent) {
    if (call.method !== "POST" || this.reply.runId || (!sent && neverSent(cause))) return;
    if (this.#turn.repeatable && (await this.#client._repeatsSafely())) return;
    throw new ConnectionLost(
      "the connection broke before the answer; this server may ask the model twice, so the " +
        `message is not sent again: ${cause?.message ?? "the stream ended"}`,
      { cause },
    );
  }
}

/** A client of one server. */
export class Client {
  /**
   * @param {string} baseUrl With or without `/api/v1`.
   * @param {object} [options] See client.d.ts.
   */
  constructor(baseUrl, options = {}) {
    // In pages and workers, it may be relative. Elsewhere, fetch would fail until the retries end.
    if (!globalThis.location && !/^https?:\/\//i.test(baseUrl)) {
      throw new TypeError(`the base URL must begin with http:// or https://: ${baseUrl}`);
    }
    this.base = `${String(baseUrl).replace(/\/+$/, "").replace(/\/api\/v1$/, "")}/api/v1`;
    this.options = { retryS: 120, readTimeoutS: 60, ...options };
    this._fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    this._known = null;
    this._key = null;
    this.sessions = new Sessions(this);
    this.files = new Files(this);
    this.runs = new Runs(this);
    this.im = new Im(this);
    this.keys = new Keys(this);
  }

  /** Send a message to the agent. The request is sent when you read the stream. */
  chat(message, options = {}) {
    const {
      username, sessionId, configId, provider, model, streaming, idempotencyKey, signal, ...more
    } = options;
    const body = present({
      message, username, session_id: sessionId, config_id: configId, selected_provider: provider,
      selected_model: model, enable_streaming: streaming, ...more,
    });
    const turn = new Turn({ body, username, key: idempotencyKey, retryS: this.options.retryS });
    return new ChatStream(this, turn, signal);
  }

  /** Return the configs that a chat can choose. */
  async listConfigs() {
    return (await this.request("GET", "/configs")).configs;
  }

  /** Yield every new message of all sessions of a username, endlessly. */
  async *inbox({ username, after = null, signal } = {}) {
    const backoff = new Backoff(this.options.retryS);
    const abort = new AbortController();
    signal?.addEventListener("abort", () => abort.abort(), { once: true });
    try {
      for (;;) {
        const headers = { Accept: "text/event-stream" };
        if (after !== null) headers["Last-Event-ID"] = String(after);
        const parser = new FrameParser();
        let waitS = null;
        let reader = null;
        try {
          const call = { method: "GET", path: "/chat/inbox", query: { username }, headers };
          const answer = await this._open(call, abort.signal);
          if (isStream(answer)) {
            reader = answer.body.getReader();
            for (;;) {
              const { done, value } = await this._readSoon(reader);
              if (done) break;
              for (const frame of parser.feed(value)) {
                backoff.reset();
                const event = parseEvent(frame.data, frame.id ? Number(frame.id) : null);
                if (event.type === "inbox_opened") after ??= event.after;
                if (event.type === "inbox_message") after = event.number;
                yield event;
              }
            }
          } else {
            const text = await this._readText(answer);
            waitS = waitAfter(readError(answer, text, "GET /api/v1/chat/inbox"), backoff);
          }
        } catch (error) {
          if (error instanceof ClientError || abort.signal.aborted) throw error;
        } finally {
          reader?.cancel().catch(() => {});
        }
        waitS ??= backoff.next(parser.retryS);
        if (waitS === null) throw new ConnectionLost("the inbox cannot be reached");
        await sleep(waitS, abort.signal);
      }
    } finally {
      abort.abort();
    }
  }

  /**
   * Send a request below `/api/v1` and return `data` of its response. Safe requests are retried:
   * all methods except POST, and POST with an idempotency key.
   */
  async request(method, path, { query, body, idempotencyKey, signal } = {}) {
    const headers = idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {};
    const backoff = new Backoff(this.options.retryS);
    for (;;) {
      let answer;
      let text;
      try {
        answer = await this._open({ method, path, query, body, headers }, signal);
        text = await this._readText(answer);
      } catch (error) {
        if (error instanceof ClientError || signal?.aborted) throw error;
        let again = method !== "POST" || (!answer && neverSent(error));
        if (!again && idempotencyKey) again = await this._repeatsSafely();
        const waitS = again ? backoff.next() : null;
        if (waitS === null) throw new ConnectionLost(`${method} ${path}: ${error.message}`, { cause: error });
        await sleep(waitS, signal);
        continue;
      }
      const error = readError(answer, text, `${method} /api/v1${path}`);
      if (error === null) return readObject(text).data;
      await sleep(waitAfter(error, backoff), signal);
    }
  }

  /** Send one request. If the session key has expired, request a new one and retry once. */
  async _open({ method, path, query, body, headers = {} }, signal) {
    const url = this.base + path + toQuery(query);
    const json = body !== undefined && !(body instanceof FormData);
    for (let renewed = false; ; renewed = true) {
      const key = await this._getKey(renewed);
      const answer = await this._fetch(url, {
        method,
        signal,
        ...(this.options.credentials ? { credentials: this.options.credentials } : {}),
        headers: {
          Accept: "application/json",
          ...headers,
          ...(key ? { Authorization: `Bearer ${key}` } : {}),
          ...(json ? { "Content-Type": "application/json" } : {}),
        },
        body: json ? JSON.stringify(body) : body,
      });
      if (answer.headers.has("x-request-id")) this._known = true;
      if (renewed || !(await this._needsAnotherKey(answer))) return answer;
      await answer.body?.cancel();
    }
  }

  /** Return whether a session key has expired or used up its turns for good. */
  async _needsAnotherKey(answer) {
    if (typeof this.options.apiKey !== "function") return false;
    if (answer.status !== 429 || answer.headers.has("retry-after")) return answer.status === 401;
    // Proxies and other limits send no Retry-After either, and a new key does not lift them.
    return readObject(await this._readText(answer.clone())).code === "budget_exhausted";
  }

  async _getKey(renew = false) {
    const { apiKey } = this.options;
    if (typeof apiKey !== "function") return apiKey ?? "";
    if (this._key === null || renew) this._key = Promise.resolve(apiKey(renew));
    try {
      return await this._key;
    } catch (error) {
      this._key = null;
      throw error instanceof ClientError ? error : new ClientError(`no key: ${error.message}`, { cause: error });
    }
  }

  /** Read a chunk. Throw if nothing arrives within the read timeout, not even a heartbeat. */
  async _readSoon(reader) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("the server went silent")), this.options.readTimeoutS * 1000);
    });
    try {
      return await Promise.race([reader.read(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Return a whole body as text. Throw like _readSoon. */
  async _readText(answer) {
    const reader = answer.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    try {
      for (let done = !reader; !done; ) {
        const piece = await this._readSoon(reader);
        ({ done } = piece);
        text += decoder.decode(piece.value, { stream: !done });
      }
    } finally {
      reader?.cancel().catch(() => {});
    }
    return text;
  }

  /** Return whether the server supports Idempotency-Key. AstrBot does not. */
  async _repeatsSafely() {
    if (this._known === null) {
      try {
        const answer = await this._open({ method: "GET", path: "/keys/self" });
        this._known = answer.headers.has("x-request-id");
        await answer.body?.cancel();
      } catch {
        return true; // unknown, because the server is unreachable; the caller retries and asks again
      }
    }
    return this._known;
  }
}

/** Runs, by id. */
class Runs {
  constructor(client) {
    this.client = client;
  }

  get(runId, { username } = {}) {
    return this.client.request("GET", `/chat/runs/${encodeURIComponent(runId)}`, { query: { username } });
  }

  /** Return the stream of a run after the event number `after`, or from the beginning. */
  resume(runId, { username, after = null, signal } = {}) {
    const { retryS } = this.client.options;
    return new ChatStream(this.client, new Turn({ runId, username, after, retryS }), signal);
  }

  async stop(runId, { username } = {}) {
    const path = `/chat/runs/${encodeURIComponent(runId)}/stop`;
    return (await this.client.request("POST", path, { body: present({ username }) })).stopped_count;
  }

  /** Decide a pending tool call: "approve", "reject" or, with `arguments`, "edit". */
  async decide(runId, approvalId, decision, { username, arguments: changed, comment } = {}) {
    const path = `/chat/runs/${encodeURIComponent(runId)}/approvals/${encodeURIComponent(approvalId)}`;
    const body = present({ decision, username, arguments: changed, comment });
    return this.client.request("POST", path, { body });
  }
}

/** Sessions. */
class Sessions {
  constructor(client) {
    this.client = client;
  }

  /** Yield the sessions of a username. Pages are fetched on demand. */
  async *list({ username, orderBy } = {}) {
    for (let page = 1, seen = 0; ; page += 1) {
      const query = { username, page, page_size: 100, order_by: orderBy };
      const data = await this.client.request("GET", "/chat/sessions", { query });
      yield* data.sessions;
      seen += data.sessions.length;
      if (!data.sessions.length || seen >= data.total) return;
    }
  }

  get(sessionId, { username } = {}) {
    return this.client.request("GET", pathOf(sessionId), { query: { username } });
  }

  /** Yield the messages of a session, oldest first. */
  async *messages(sessionId, { username } = {}) {
    let cursor;
    do {
      const query = { username, cursor, limit: 100, order: "asc" };
      const data = await this.client.request("GET", `${pathOf(sessionId)}/messages`, { query });
      yield* data.messages;
      cursor = data.next_cursor;
    } while (cursor != null);
  }

  create({ username, displayName, configId } = {}) {
    const body = present({ username, display_name: displayName, config_id: configId });
    return this.client.request("POST", "/chat/sessions/new", { body });
  }

  async rename(sessionId, displayName, { username } = {}) {
    const body = present({ username, display_name: displayName });
    await this.client.request("PATCH", pathOf(sessionId), { body });
  }

  async delete(sessionId, { username } = {}) {
    await this.client.request("DELETE", pathOf(sessionId), { query: { username } });
  }

  async stop(sessionId, { username } = {}) {
    const body = present({ username });
    return (await this.client.request("POST", `${pathOf(sessionId)}/stop`, { body })).stopped_count;
  }

  /** Edit the user's last message. To get a new reply, call `regenerate` afterwards. */
  edit(sessionId, messageId, message, { username } = {}) {
    const parts = typeof message === "string" ? [{ type: "plain", text: message }] : message;
    const body = present({ username, content: { type: "user", message: parts } });
    return this.client.request("PATCH", `${pathOf(sessionId)}/messages/${messageId}`, { body });
  }

  /** Regenerate the reply to a message. The new reply replaces the old one. */
  regenerate(sessionId, messageId, { username, signal, ...more } = {}) {
    const path = `${pathOf(sessionId)}/messages/${messageId}/regenerate`;
    const body = present({ username, ...more });
    const turn = new Turn({ body, username, path, retryS: this.client.options.retryS });
    return new ChatStream(this.client, turn, signal);
  }
}

/** Larger files are uploaded in chunks if the server supports it. */
const CHUNKED_ABOVE_BYTES = 8 * 1024 * 1024;

/** Return the SHA-256, or undefined. Browsers hash only data in memory, and only on TLS pages. */
async function hashBlob(blob) {
  if (blob.size > 8 * CHUNKED_ABOVE_BYTES || !globalThis.crypto?.subtle) return undefined;
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Attachments. */
class Files {
  constructor(client) {
    this.client = client;
  }

  /**
   * Upload a Blob, a File or bytes. Retries store the file only once. Files above 8 MiB are sent in
   * chunks if the server supports it, and only missing chunks are sent again. To resume after an
   * error, even in another program, pass the error's `uploadId`.
   */
  async upload(source, { filename, progress, signal, uploadId } = {}) {
    const blob = source instanceof Blob ? source : new Blob([source]);
    const name = filename ?? source.name ?? "file";
    if (uploadId || blob.size > CHUNKED_ABOVE_BYTES) {
      const begun = await this.#beginChunks(blob, name, uploadId, signal);
      if (begun) return this.#sendChunks(begun, blob, progress, signal);
    }
    const idempotencyKey = makeId();
    const form = new FormData();
    form.append("file", blob, name);
    if (progress && typeof XMLHttpRequest !== "undefined") {
      return this.#send(form, idempotencyKey, progress, signal);
    }
    const data = await this.client.request("POST", "/file", { body: form, idempotencyKey, signal });
    progress?.(blob.size, blob.size);
    return data;
  }

  /** Return a chunked upload with its received chunks, or null if the server has no such uploads. */
  async #beginChunks(blob, name, uploadId, signal) {
    if (uploadId) {
      const status = await this.#postOnce("status", { upload_id: uploadId }, signal);
      return { upload_id: uploadId, ...status };
    }
    const body = present({ filename: name, total_size: blob.size, sha256: await hashBlob(blob) });
    try {
      return { ...(await this.#postOnce("init", body, signal)), received_chunks: [] };
    } catch (error) {
      if (error instanceof ApiError && [404, 405].includes(error.status)) return null; // AstrBot before 4.29
      throw error;
    }
  }

  /** Send the missing chunks and complete the upload. */
  async #sendChunks({ upload_id, chunk_size, total_chunks, received_chunks }, blob, progress, signal) {
    const received = new Set(received_chunks);
    const sizeOf = (number) => Math.min(chunk_size, blob.size - number * chunk_size);
    let done = [...received].reduce((sum, number) => sum + sizeOf(number), 0);
    try {
      if (done) progress?.(done, blob.size);
      for (let number = 0; number < total_chunks; number += 1) {
        if (received.has(number)) continue;
        const form = new FormData();
        form.append("upload_id", upload_id);
        form.append("chunk_index", String(number));
        form.append("chunk", blob.slice(number * chunk_size, (number + 1) * chunk_size), "chunk");
        await this.#postOnce("chunk", form, signal);
        done += sizeOf(number);
        progress?.(done, blob.size);
      }
      return await this.#postOnce("complete", { upload_id }, signal);
    } catch (error) {
      error.uploadId = upload_id;
      throw error;
    }
  }

  #postOnce(step, body, signal) {
    const idempotencyKey = makeId();
    return this.client.request("POST", `/files/upload/${step}`, { body, idempotencyKey, signal });
  }

  /** Upload with XMLHttpRequest, because fetch reports no upload progress. */
  async #send(form, idempotencyKey, progress, signal) {
    const backoff = new Backoff(this.client.options.retryS);
    for (let renew = false; ; ) {
      const key = await this.client._getKey(renew);
      const answer = await sendByXhr(`${this.client.base}/file`, form, key, idempotencyKey, progress, signal);
      renew = answer?.status === 401 && !renew && typeof this.client.options.apiKey === "function";
      if (renew) continue;
      let waitS;
      if (answer === null) {
        waitS = backoff.next();
        if (waitS === null) throw new ConnectionLost("the upload broke off");
      } else {
        const error = readError(answer, answer.text, "POST /api/v1/file");
        if (error === null) return readObject(answer.text).data;
        waitS = waitAfter(error, backoff);
      }
      await sleep(waitS, signal);
    }
  }

  /** Download an attachment as a Blob. The download resumes after a broken connection. */
  async download(attachmentId, { progress, signal } = {}) {
    const backoff = new Backoff(this.client.options.retryS);
    let parts = [];
    let done = 0;
    let total = null;
    let tag = "";
    let type = "";
    while (total === null || done < total) {
      const headers = done && tag ? { Range: `bytes=${done}-`, "If-Range": tag } : {};
      let waitS = null;
      let cause = null;
      try {
        const query = { attachment_id: attachmentId };
        const answer = await this.client._open({ method: "GET", path: "/file", query, headers }, signal);
        type = answer.headers.get("content-type") ?? "";
        const wrong = type.startsWith("application/json") && !answer.headers.has("content-disposition");
        if (![200, 206].includes(answer.status) || wrong) {
          const text = await this.client._readText(answer);
          waitS = waitAfter(readError(answer, text, "GET /api/v1/file"), backoff);
        } else {
          if (answer.status === 200) [parts, done] = [[], 0];
          tag = answer.headers.get("etag") ?? "";
          const length = answer.headers.get("content-length");
          total = length === null ? null : done + Number(length);
          for (const reader = answer.body.getReader(); ; ) {
            const piece = await this.client._readSoon(reader);
            if (piece.done) break;
            parts.push(piece.value);
            done += piece.value.length;
            backoff.reset();
            progress?.(done, total);
          }
          if (total === null) break;
        }
      } catch (error) {
        if (error instanceof ClientError || signal?.aborted) throw error;
        cause = error;
      }
      if (total !== null && done >= total) break;
      waitS ??= backoff.next();
      if (waitS === null) throw new ConnectionLost(`the download broke off: ${cause?.message}`, { cause });
      await sleep(waitS, signal);
    }
    return new Blob(parts, { type });
  }

  get(attachmentId) {
    return this.client.request("GET", `/files/${encodeURIComponent(attachmentId)}`);
  }

  async delete(attachmentId, { force = false } = {}) {
    const query = force ? { force: "true" } : {};
    await this.client.request("DELETE", `/files/${encodeURIComponent(attachmentId)}`, { query });
  }
}

/** Messages to messengers. */
class Im {
  constructor(client) {
    this.client = client;
  }

  /** Send a message to a conversation on a messenger. Retries send it only once. */
  send(umo, message) {
    const body = { umo, message };
    return this.client.request("POST", "/im/message", { body, idempotencyKey: makeId() });
  }

  async listBots() {
    return (await this.client.request("GET", "/im/bots")).bot_ids;
  }
}

/** The limits of the own key, and session keys. */
class Keys {
  constructor(client) {
    this.client = client;
  }

  getSelf() {
    return this.client.request("GET", "/keys/self");
  }

  createSessionKey(username, more = {}) {
    return this.client.request("POST", "/keys/session", { body: { username, ...more } });
  }
}

function sendByXhr(url, form, key, idempotencyKey, progress, signal) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", url);
    if (key) xhr.setRequestHeader("Authorization", `Bearer ${key}`);
    xhr.setRequestHeader("Idempotency-Key", idempotencyKey);
    xhr.upload.onprogress = (event) => progress(event.loaded, event.total);
    xhr.onload = () => {
      const headers = { get: (name) => xhr.getResponseHeader(name) };
      resolve({ status: xhr.status, headers, text: xhr.responseText });
    };
    xhr.onerror = () => resolve(null);
    xhr.onabort = () => reject(new ClientError("the upload was cancelled"));
    signal?.addEventListener("abort", () => xhr.abort(), { once: true });
    xhr.send(form);
  });
}

function isStream(answer) {
  const type = answer.headers.get("content-type") ?? "";
  return answer.status === 200 && type.startsWith("text/event-stream");
}

/** Return the seconds to wait before a rejected request is retried. Throw if a retry is useless. */
function waitAfter(error, backoff) {
  if (error === null) {
    throw new UnsupportedError(200, "", "the server's answer is not what this route promises");
  }
  const waitS = error.temporary ? backoff.next(error.retryAfterS ?? 0.5) : null;
  if (waitS === null) throw error;
  return waitS;
}

/** Return whether a request definitely did not arrive. Browsers do not report the reason. */
function neverSent(error) {
  return ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"].includes(error?.cause?.code);
}

function sleep(seconds, signal) {
  if (seconds <= 0) return undefined;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/** Return a random id. crypto.randomUUID does not exist on pages without TLS. */
function makeId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");
}

function present(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value != null));
}

function toQuery(query) {
  const text = new URLSearchParams(present(query ?? {})).toString();
  return text ? `?${text}` : "";
}

function pathOf(sessionId) {
  return `/chat/sessions/${encodeURIComponent(sessionId)}`;
}
