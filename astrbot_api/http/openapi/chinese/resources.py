"""Sessions, configs and bots."""

from __future__ import annotations

RESOURCES = {
    "List the sessions of a username, newest first.": "列出某个用户名的会话，最新创建的在前。",
    (
        "One page at a time: ask for {} {}, {} and so on until you have {} sessions. "
        "Sessions that began elsewhere than in the web chat have another {}. With {} the "
        "last used comes first."
    ): (
        "结果分页返回：依次请求 {} {}、{} 等，直到取得 {} 个会话。不是从网页聊天开始的会话，"
        "其 {} 有所不同。使用 {} 时，最近使用的会话在前。"
    ),
    "From {}; what is below counts as {}.": "页码，从 {} 开始；小于此值时按 {} 处理。",
    "Sessions a page, brought into {} to {}.": (
        "每页的会话数；超出 {} 至 {} 的范围时取最接近的值。"
    ),
    "Only this platform's.": "只列出该平台的会话。",
    "{}: newest first. {}: last used first.": "{}：最新创建的在前。{}：最近使用的在前。",
    "Its name.": "会话的名称。",
    "Where it takes place.": "会话所在的平台。",
    "Its username.": "会话所属的用户名。",
    "Its title, made after the first turn.": "会话的标题，在第一轮对话之后生成。",
    "{} for a group, else {}.": "群聊为 {}，否则为 {}。",
    "When it was made; ISO {}, UTC.": "创建时间，ISO {} 格式，UTC 时区。",
    "When it was last used; ISO {}, UTC.": "最近使用时间，ISO {} 格式，UTC 时区。",
    "The page's sessions.": "本页的会话。",
    "Which page this is.": "当前页码。",
    "Most sessions of a page.": "每页最多的会话数。",
    "Sessions on all pages together.": "全部会话的总数。",
    "List the configs that a chat may choose.": "列出聊天时可以选择的配置。",
    (
        "A config is an agent: its model, its system prompt and its tools. Name one in {} of "
        "a chat, and the session keeps it; there is always {}, which answers where none was "
        "chosen."
    ): (
        "一个配置就是一个智能体，包括它的模型、系统提示词和工具。聊天时通过 {} 指定后，会话"
        "会一直使用它；{} 始终存在，未指定时由它回复。"
    ),
    "For {} of chat.": "用作聊天接口的 {}。",
    "Its file, below the server's data directory.": "配置文件在服务器数据目录中的路径。",
    "Whether it is used where none is chosen.": "未指定配置时是否使用它。",
    "Every config; the default one is last.": "所有配置，默认配置排在最后。",
    "List the ids of the configured bots.": "列出已配置的机器人的 ID。",
    (
        "Bots that are switched off are listed too. An id is the first part of a UMO. The "
        "built-in platform {} is always there and is not listed."
    ): (
        "已停用的机器人也会列出。ID 是 UMO（统一消息来源）的第一部分。内置平台 {} 始终可用，"
        "因此不在列表中。"
    ),
    "Ids, as they stand in a UMO.": "机器人的 ID，与 UMO 中的写法一致。",
}
