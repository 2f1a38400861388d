"""Chat."""

from __future__ import annotations

CHAT = {
    "Send a message to the agent and stream its answer.": (
        "向智能体发送消息，并以流的形式接收回复。"
    ),
    (
        "The answer is `text/event-stream`: each event is `data: ` and one line of JSON, in "
        "this order: `session_id`, `user_message_saved`, `run_started`, any number of "
        "`plain` (with `chain_type` `null` for the answer's text, `reasoning` for thinking, "
        "`tool_call` and `tool_call_result` for tools), `agent_stats`, `complete` with the "
        "whole text, `message_saved`, `end`. A turn that fails has `error` (with a `code`) "
        "before `end`. Comment lines (`: heartbeat`) fill silences."
    ): (
        "响应类型为 `text/event-stream`，每个事件由 `data: ` 和一行 JSON 组成，依次为："
        "`session_id`、`user_message_saved`、`run_started`、任意多个 `plain`（`chain_type` "
        "为 `null` 表示回复正文，`reasoning` 表示思考过程，`tool_call` 和 "
        "`tool_call_result` 表示工具调用及其结果）、`agent_stats`、包含完整正文的 "
        "`complete`、`message_saved`、`end`。对话失败时，`end` 之前会有一个带 `code` 的 "
        "`error` 事件。没有新内容时，会以注释行（`: heartbeat`）保持连接。"
    ),
    (
        "The turn belongs to the server: a client that leaves does not stop it, and the "
        "answer is stored. Turns of one session run one after another."
    ): (
        "对话在服务器上进行：客户端断开连接不会中止对话，回复仍会保存。同一会话中的对话按顺"
        "序逐轮进行。"
    ),
    "A stream of events, the last of which is {}.": "事件流，最后一个事件为 {}。",
    "Server-sent events.": "服务器发送事件（SSE）。",
    (
        "A string, or a list of segments: {}. A text that begins with {} and names a command "
        "is answered by it."
    ): "字符串，或由消息段组成的列表：{}。以 {} 开头且与某个指令同名的文本由该指令处理。",
    "What the segment is; {} may not stand alone.": "消息段的类型；{} 不能单独出现。",
    "Of {}: the file, by the id that its upload answered.": (
        "用于 {}：文件的 ID，即上传时返回的值。"
    ),
    "Of {}: the text.": "用于 {}：文本内容。",
    "Of {}: the stored message of this session that is quoted.": (
        "用于 {}：所引用的消息的编号，须为本会话中已保存的消息。"
    ),
    "Of {}: the part of the message that is quoted.": "用于 {}：所引用的消息片段。",
    (
        "The conversation. Absent, {} or blank: a new one, named by a UUID. An unknown name "
        "is a new conversation of that name."
    ): (
        "会话的名称。省略、为 {} 或空白时新建会话，并以 UUID 命名；名称不存在时，以该名称新建会话。"
    ),
    "Another name of {}, used when that is absent or {}.": ("{} 的别名，在其省略或为 {} 时使用。"),
    (
        "{} (the default): the answer comes piece by piece. {}: in one {} event. The answer "
        "is a stream either way."
    ): "{}（默认）：逐段返回回复。{}：在一个 {} 事件中返回全文。两种情况下响应都是流。",
    "The config of this session from now on; wins over {}. {} goes back.": (
        "本会话此后使用的配置，优先于 {}。填写 {} 可恢复默认配置。"
    ),
    "The same by name; refused when two configs have it.": (
        "同上，但按名称指定；有多个配置同名时会被拒绝。"
    ),
    "A provider of the config, for this turn only.": (
        "仅在本轮对话中使用的模型提供商，须在配置之中。"
    ),
    "A model of the provider, for this turn only.": (
        "仅在本轮对话中使用的模型，须由该提供商提供。"
    ),
    "{}: the user's message is answered but not stored.": (
        "{}：回复用户的消息，但不保存这条消息。"
    ),
    "{} in it wins over the field. Others are ignored.": (
        "其中的 {} 优先于同名字段，其他内容会被忽略。"
    ),
    (
        "Whose session it is. An integer is taken as its digits. A key that is bound to one "
        "username may leave it out."
    ): "会话所属的用户名。整数按其数字文本处理。绑定到单一用户名的密钥可以省略它。",
    (
        "A stream of events, the last of which is {}; or, with {} {}, one JSON object."
    ): "事件流，最后一个事件为 {}；{} 为 {} 时返回一个 JSON 对象。",
    "The turn has begun ({} {}).": "对话已开始（{} 为 {}）。",
    (
        "With {} {} a turn that fails is an error with a status of its own ({} is a {}); what "
        "it said is stored all the same."
    ): "{} 为 {} 时，对话失败会返回相应的错误状态码（{} 为 {}），已生成的内容仍会保存。",
    (
        "{} (the default): a stream of events. {}: one JSON object, when the turn has ended. "
        "{}: the turn's ids, at once."
    ): "{}（默认）：事件流。{}：对话结束后返回一个 JSON 对象。{}：立即返回本轮对话的 ID。",
    "The turn; also in the header {}.": "对话的 ID，也在响应头 {} 中。",
    "The whole answer.": "完整的回复。",
    "The whole thinking.": "完整的思考过程。",
    "The answer as it is stored: {} and files.": "所保存的回复：{} 和文件。",
    "Tokens and times; {} for the answer of a command.": ("用量与时间；由指令回复时为 {}。"),
    "The stored answer.": "所保存的回复的编号。",
    "{} of the event {}; {}: it is not stored.": "事件 {1} 的 {0}；{2} 表示没有保存。",
    "WebSocket": "WebSocket 连接",
    "Turns over one connection.": "在一个连接上进行多轮对话。",
    "The connection speaks WebSocket from now on.": "连接此后使用 WebSocket 协议。",
    "Open a WebSocket that carries any number of turns.": (
        "打开一个 WebSocket 连接，可以进行任意多轮对话。"
    ),
    (
        "Send {} with the fields of chat beside it; the events of the turn come back as JSON "
        "frames, each with the {} of its turn, and without {}. Several turns may run at once. {} "
        "gives {}. A frame that is refused gives {} and the connection goes on; {} is {} or {}. "
        "The handshake succeeds with any key: one that is not good enough is told by the code "
        "{}, and the connection is closed with {}. The key is checked anew for every turn."
    ): (
        "发送 {} 以及聊天接口的字段，对话的事件会以 JSON 帧返回，每个帧带有所属对话的 {}，但没有 "
        "{}。可以同时进行多轮对话。发送 {} 会得到 {}。被拒绝的帧会得到 {}，连接不会断开；{} 为 {} "
        "或 {}。无论密钥是否有效，握手都会成功；密钥无效时会收到代码 {}，随后连接以 {} 关闭。每轮"
        "对话都会重新检查密钥。"
    ),
    (
        "A word of the client's own for this request. Sent again within a day, with the same "
        "body, it is not done again."
    ): "客户端为该请求自定的标识。一天之内以相同的请求体再次发送时，不会重复执行。",
    (
        "A client that does not know whether its request arrived sends it again with the same "
        "{}: it gets the same turn, from its first event."
    ): (
        "客户端不确定请求是否送达时，可以使用相同的 {} 再次发送：会得到同一轮对话，从第一个事件"
        "开始。"
    ),
}
