"""The routes for clients of OpenAI's API."""

from __future__ import annotations

OPENAI = {
    "OpenAI": "OpenAI 兼容",
    "The same agents for clients of OpenAI's API: its base URL is {}.": (
        "供 OpenAI API 的客户端使用同样的智能体，基础 URL 为 {}。"
    ),
    "List the configs, as models.": "以模型的形式列出配置。",
    "A model here is an agent: a model with its prompt and its tools.": (
        "这里的模型就是智能体，包括模型、提示词和工具。"
    ),
    "Tell that there is such a config.": "查询某个配置是否存在。",
    "Its id is all there is to know.": "只返回它的 ID。",
    "The config's id.": "配置的 ID。",
    "The answer: one JSON object, or chunks that end with {}.": (
        "回复：一个 JSON 对象，或以 {} 结束的数据块。"
    ),
    "Answer a conversation, as OpenAI's chat completions do.": (
        "回复一段对话，与 OpenAI 的聊天补全接口相同。"
    ),
    (
        "The config's tools run on the server; their calls are not shown. The conversation is "
        "the request's own, and nothing of it is stored, unless {} is true or a {} is named. A "
        "client that leaves stops the turn then, else it runs to its end. Sampling parameters "
        "({}) are the config's business and are ignored."
    ): (
        "配置的工具在服务器上运行，调用过程不会返回。对话内容以请求为准，不会保存，除非 {} 为真或"
        "指定了 {}。不保存时，客户端断开连接会中止对话，否则对话会继续到结束。采样参数（{}）由配置"
        "决定，请求中的值会被忽略。"
    ),
    "What kind of error it is.": "错误的类型。",
    "The error.": "错误。",
    "The models.": "模型列表。",
    "A config, by its id or its name.": "配置的 ID 或名称。",
    (
        "The conversation. What comes before the last message is the context of this turn; {} "
        "and {} stand below the config's own prompt."
    ): (
        "对话内容。最后一条消息之前的内容是本轮对话的上下文；{} 和 {} 的优先级低于配置自身的"
        "提示词。"
    ),
    "Who says it. The last message must be the user's.": "发言者。最后一条消息必须来自用户。",
    (
        "A string, or parts: {}, and in the last message {} with a {} URL, {} with {} or an "
        "attachment's id as {}."
    ): (
        "字符串，或由片段组成的列表：{0}；最后一条消息中还可以有使用 {2} URL 的 {1}，以及 "
        "{3}（带有 {4}，或以附件 ID 作为 {5}）。"
    ),
    "Answer in chunks.": "以数据块的形式返回。",
    "{}: one more chunk with {} before the end.": "{}：在结束之前多返回一个包含 {} 的数据块。",
    "The username. Absent: {} and the beginning of the key.": (
        "用户名。省略时为 {} 加上密钥的开头部分。"
    ),
    (
        "Not OpenAI's: talk in this session. Its history is the context then, and of {} only "
        "the last one is read. Also as {}."
    ): (
        "OpenAI 没有的字段：在该会话中对话。此时以会话的历史为上下文，{} 中只读取最后一条。也可以写"
        "作 {}。"
    ),
    "Only {} in it is read.": "只读取其中的 {}。",
    (
        "{}: the turn is kept, in a new session that the answer names as {}. Otherwise nothing "
        "of it stays, unless it names a session."
    ): ("{}：将本轮对话保存在新的会话中，回复中的 {} 是会话的名称。否则不保存，除非指定了会话。"),
    "Refused unless it is empty: the config's tools run on the server.": (
        "必须为空，否则会被拒绝：配置的工具在服务器上运行。"
    ),
    "As {}.": "与 {} 相同。",
    "Only the type {}.": "类型只能是 {}。",
    "{}; {} where there was thinking, {} where tools made files.": (
        "{}；有思考过程时还有 {}，工具生成文件时还有 {}。"
    ),
    "{} and the run's id.": "{} 加上对话的 ID。",
    "When, in seconds since {}.": "时间，自 {} 年以来的秒数。",
    "The config.": "配置。",
    "The session that the turn is kept in, if it is.": "保存本轮对话的会话（如果保存）。",
    "The answer.": "回复。",
    "Tokens of all model calls of the turn.": "本轮对话中所有模型调用的用量。",
}
