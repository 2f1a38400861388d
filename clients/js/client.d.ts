/** A client of the AstrBot HTTP API. */

/** A text, or a list of the API's message segments. */
export type Message = string | Segment[];

export interface Segment {
  type: "plain" | "reply" | "image" | "record" | "file" | "video";
  text?: string;
  message_id?: number | string;
  selected_text?: string;
  attachment_id?: string;
}

interface Base {
  /** The event's number in the run, or null if the server sends none. */
  number: number | null;
  /** Whether the event belongs to a pushed message instead of the reply. */
  pushed: boolean;
  /** The event's JSON object. */
  raw: Record<string, unknown>;
}

export type Event =
  | (Base & { type: "session_started"; sessionId: string })
  | (Base & { type: "user_message_saved"; messageId: number | null })
  | (Base & { type: "run_started"; runId: string })
  | (Base & { type: "text"; text: string })
  | (Base & { type: "reasoning"; text: string })
  | (Base & { type: "tool_call"; id: string; name: string; arguments: unknown })
  | (Base & { type: "tool_result"; id: string; result: string })
  | (Base & { type: "approval_required"; id: string; name: string; arguments: unknown; expiresAt: string })
  | (Base & { type: "media"; kind: string; filename: string })
  | (Base & { type: "attachment_saved"; attachmentId: string; kind: string })
  | (Base & { type: "agent_stats"; stats: Record<string, unknown> })
  | (Base & { type: "complete"; text: string; reasoning: string; truncated: boolean })
  | (Base & { type: "message_saved"; messageId: number | null; createdAt: string })
  | (Base & { type: "error"; code: string; message: string })
  | (Base & {
      type: "rewind"; chars: number; reasoningChars: number; calls: number; files: number;
      again: boolean;
    })
  | (Base & { type: "run_snapshot"; content: Record<string, unknown>; status: string })
  | (Base & { type: "end" })
  | (Base & { type: "inbox_opened"; after: number; reset: boolean })
  | (Base & { type: "inbox_message"; sessionId: string; message: StoredMessage })
  | (Base & { type: "unknown" });

/** The agent's reply so far. */
export interface Reply {
  sessionId: string;
  runId: string;
  text: string;
  reasoning: string;
  messageId: number | null;
  userMessageId: number | null;
  toolCalls: { id: string; name: string; arguments: unknown; result: string | null }[];
  attachments: { attachmentId: string; type: string; filename: string }[];
  stats: Record<string, unknown> | null;
  /** Tool calls that wait for a person's decision. See `ChatStream.decide`. */
  waiting: { id: string; name: string; arguments: unknown }[];
  error: { code: string; message: string } | null;
}

export interface StoredMessage {
  id: number;
  sender_id: string;
  sender_name: string;
  content: { type: "user" | "bot"; message: Record<string, unknown>[]; reasoning?: string } | null;
  llm_checkpoint_id: string | null;
  created_at: string;
}

export interface Session {
  session_id: string;
  platform_id: string;
  creator: string;
  display_name: string | null;
  is_group: 0 | 1;
  created_at: string;
  updated_at: string;
}

export interface Uploaded {
  attachment_id: string;
  filename: string;
  type: "image" | "record" | "video" | "file";
}

export type Progress = (done: number, total: number | null) => void;

interface Named {
  /** The user's name. Optional if the key is bound to a username. */
  username?: string;
}

interface Abortable {
  signal?: AbortSignal;
}

export interface ClientOptions {
  /**
   * A key, or a function that fetches a session key. The function is called again with `true` when
   * the session key has expired or used up its turns.
   */
  apiKey?: string | ((renew: boolean) => string | Promise<string>);
  /** Seconds for which to retry after a failure without any progress. 0: no retries. Default 120. */
  retryS?: number;
  /** Seconds without data after which a connection is closed. Default 60. */
  readTimeoutS?: number;
  fetch?: typeof fetch;
  credentials?: RequestCredentials;
}

export interface ChatOptions extends Named, Abortable {
  sessionId?: string;
  configId?: string;
  provider?: string;
  model?: string;
  streaming?: boolean;
  /** Your own key, if a restarted program must not send the message twice. */
  idempotencyKey?: string;
  [field: string]: unknown;
}

export class ClientError extends Error {}
export class ConnectionLost extends ClientError {}
export class StreamLost extends ConnectionLost {
  readonly reply: Reply;
}
export class TurnFailed extends ClientError {
  readonly code: string;
  readonly reply: Reply;
}
export class ApiError extends ClientError {
  readonly status: number;
  readonly code: string;
  readonly requestId: string;
  readonly retryAfterS: number | null;
  readonly temporary: boolean;
}
export class UnsupportedError extends ApiError {}

/** Convert a JSON object to an event. */
export function parseEvent(raw: Record<string, unknown>, number?: number | null, pushed?: boolean): Event;

/** The stream of a turn. Iterate over its events or await its text. It reconnects automatically. */
export class ChatStream implements AsyncIterableIterator<Event> {
  readonly reply: Reply;
  readonly lastEventId: number | null;
  next(): Promise<IteratorResult<Event>>;
  return(value?: unknown): Promise<IteratorResult<Event>>;
  [Symbol.asyncIterator](): this;
  /** Close the connection. The turn continues on the server. */
  close(): Promise<IteratorResult<Event>>;
  final(): Promise<Reply>;
  text(): Promise<string>;
  textDeltas(): AsyncGenerator<string>;
  stop(): Promise<number>;
  decide(
    approvalId: string, decision: "approve" | "reject" | "edit",
    options?: { arguments?: unknown; comment?: string },
  ): Promise<void>;
}

export class Client {
  constructor(baseUrl: string, options?: ClientOptions);
  chat(message: Message, options?: ChatOptions): ChatStream;
  inbox(options?: Named & Abortable & { after?: number | null }): AsyncGenerator<Event>;
  listConfigs(): Promise<{ id: string; name: string; path: string; is_default: boolean }[]>;
  request<T = unknown>(
    method: string,
    path: string,
    options?: Abortable & { query?: Record<string, unknown>; body?: unknown; idempotencyKey?: string },
  ): Promise<T>;
  readonly sessions: {
    list(options?: Named & { orderBy?: "created_at" | "updated_at" }): AsyncGenerator<Session>;
    get(sessionId: string, options?: Named): Promise<Session & Record<string, unknown>>;
    messages(sessionId: string, options?: Named): AsyncGenerator<StoredMessage>;
    create(options?: Named & { displayName?: string; configId?: string }): Promise<Session>;
    rename(sessionId: string, displayName: string, options?: Named): Promise<void>;
    delete(sessionId: string, options?: Named): Promise<void>;
    stop(sessionId: string, options?: Named): Promise<number>;
    edit(sessionId: string, messageId: number, message: Message, options?: Named): Promise<StoredMessage>;
    regenerate(sessionId: string, messageId: number, options?: Named & Abortable): ChatStream;
  };
  readonly runs: {
    get(runId: string, options?: Named): Promise<Record<string, unknown>>;
    resume(runId: string, options?: Named & Abortable & { after?: number | null }): ChatStream;
    stop(runId: string, options?: Named): Promise<number>;
    decide(
      runId: string, approvalId: string, decision: "approve" | "reject" | "edit",
      options?: Named & { arguments?: unknown; comment?: string },
    ): Promise<Record<string, unknown>>;
  };
  readonly files: {
    upload(
      source: Blob | BufferSource | string,
      options?: Abortable & { filename?: string; progress?: Progress; uploadId?: string },
    ): Promise<Uploaded>;
    download(attachmentId: string, options?: Abortable & { progress?: Progress }): Promise<Blob>;
    get(attachmentId: string): Promise<Record<string, unknown>>;
    delete(attachmentId: string, options?: { force?: boolean }): Promise<void>;
  };
  readonly im: {
    send(umo: string, message: Message): Promise<Record<string, unknown>>;
    listBots(): Promise<string[]>;
  };
  readonly keys: {
    getSelf(): Promise<Record<string, unknown>>;
    createSessionKey(
      username: string,
      options?: Record<string, unknown>,
    ): Promise<{ api_key: string; key_id: string; expires_at: string }>;
  };
}
