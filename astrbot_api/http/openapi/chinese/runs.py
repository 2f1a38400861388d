"""Runs."""

from __future__ import annotations

RUNS = {
    (
        "Each frame of a stream has an `id:` line, the number of the event. Send the last "
        "one you have as `Last-Event-ID` (a browser's `EventSource` does) or as `after`, and "
        "the stream continues exactly there: on whichever worker answers, after a restart, "
        "and, for some time, after the run's end."
    ): (
        "流的每一帧都带有 `id:` 行，即该事件的编号。将已收到的最后一个编号作为 `Last-Event-ID"
        "`（浏览器的 `EventSource` 会自动发送）或 `after` 发送，流即从该处继续：无论由哪个工"
        "作进程应答、服务器是否重启过；运行结束后的一段时间内同样有效。"
    ),
    (
        "Its stream ends with `complete` (what was said until then), `message_saved` and "
        "`end`. A run that has ended already is none: `stopped_count` is 0."
    ): (
        "其流以 `complete`（此前已输出的内容）、`message_saved` 和 `end` 结束。已结束的运行不"
        "计入：`stopped_count` 为 0。"
    ),
    "Runs": "运行",
    "Show the stream of a run again, from any of its events on.": (
        "从任意事件起重新获取某次运行的流。"
    ),
    "Stop a run, wherever it runs or waits.": "停止一次运行，无论它在何处运行或等待。",
    "Stop what runs or waits in a session.": "停止会话中正在运行或等待的对话。",
    "Tell what became of a run, and what it answered.": "查询一次运行的状态及其回复。",
    "The `run_id` of the event `run_started`.": "事件 `run_started` 中的 `run_id`。",
    "The content of the stored reply; `null` before the end.": (
        "已保存的回复内容；结束前为 `null`。"
    ),
    (
        "The number of the last event that is known (its `id:` line). The header "
        "`Last-Event-ID` says the same; this parameter wins."
    ): (
        "已收到的最后一个事件的编号（其 `id:` 行）。请求头 `Last-Event-ID` 含义相同；以此参数为准。"
    ),
    "The run's events from there on, the last of which is `end`.": (
        "自该处起的运行事件，最后一个为 `end`。"
    ),
    "The session whose turn it is.": "该运行所属的会话。",
    "The session.": "会话。",
    "The stored message of the user.": "已保存的用户消息。",
    "The stored reply; `null` before the end.": "已保存的回复；结束前为 `null`。",
    (
        "The username of the session. Without it, the run must have been started with this API key."
    ): "会话的用户名。省略时，该运行须由此 API 密钥发起。",
    "Turns by their id.": "按 ID 访问对话轮次。",
    "Turns that ran or waited and now end.": "正在运行或等待、现已停止的对话数。",
    "What the two messages of the turn share.": "该轮两条消息共有的标识。",
    "When it began; `null`: it waits.": "开始时间；`null` 表示仍在等待。",
    "When it ended; `null` before.": "结束时间；结束前为 `null`。",
    "When the turn was asked for; ISO 8601, UTC.": "请求时间；ISO 8601，UTC。",
    "Why it failed, or was interrupted; `null` otherwise.": "失败或中断的原因；否则为 `null`。",
    (
        "With `username` (in the body or the query) all of its turns; without it those that "
        "were started with this API key."
    ): (
        "提供 `username`（在请求体或查询参数中）时停止其全部对话；省略时仅停止由此 API 密钥发"
        "起的对话。"
    ),
    "`queued`, `running`, `completed`, `failed`, `stopped` or `interrupted`.": (
        "`queued`、`running`、`completed`、`failed`、`stopped` 或 `interrupted`。"
    ),
    (
        "`true`: the stream begins with one `run_snapshot` event, which holds all that was "
        "said so far, and goes on after it."
    ): "`true`：流以一个 `run_snapshot` 事件开始，其中包含此前已输出的全部内容，随后继续。",
}
