"""The document as a whole, the answers that all routes have, and the page."""

from __future__ import annotations

GENERAL = {
    "AstrBot HTTP API": "AstrBot HTTP 接口",
    (
        "Talk to an agent over HTTP: chat over server-sent events, sessions, configs and bots."
    ): "通过 HTTP 与智能体对话：以服务器发送事件（SSE）聊天，并查询会话、配置与机器人。",
    (
        "Send your key as {} or as {}. Every answer that is not a stream or a file is {}; an "
        "error has {} and {} too."
    ): (
        "请在 {} 或 {} 请求头中携带密钥。除流和文件以外，所有响应的格式都是 {}；出错时还会"
        "带有 {} 和 {}。"
    ),
    "Chat": "聊天",
    "Talk to the agent.": "与智能体对话。",
    "Sessions": "会话",
    "Conversations.": "查询会话。",
    "Configs": "配置",
    "The agents to choose from.": "可供选择的智能体。",
    "IM": "即时通讯",
    "Documentation": "文档",
    "This documentation.": "本文档。",
    "The key needs the scope {}.": "密钥需要具有 {} 权限。",
    "A file of at most {} bytes.": "一个文件，最多 {} 字节。",
    "At most {} bytes of JSON.": "JSON 格式，最多 {} 字节。",
    "Your key, {}.": "你的密钥，形如 {}。",
    "Your key, {}, as a bearer token.": "你的密钥，形如 {}，以 Bearer 令牌的形式发送。",
    "OK": "成功",
    "Always {}.": "固定为 {}。",
    "What was asked for.": "所请求的数据。",
    "What is wrong and what to do about it.": "错误原因以及处理办法。",
    "A stable word to match.": "固定不变的错误码，供程序判断。",
    "Names this request in the server's log; also {}.": (
        "本次请求在服务器日志中的编号，与响应头 {} 相同。"
    ),
    "Get the OpenAPI document of this API.": "获取本接口的 OpenAPI 文档。",
    (
        "It is made from the server's code and has the limits of its settings. Generators "
        "make clients of it. No key is needed."
    ): "文档由服务器代码生成，其中的各项限制即当前设置的值，可用来自动生成客户端。无需密钥。",
    "Language of the texts; English where it is absent.": "文档的语言；省略时为英文。",
    "An OpenAPI 3.1 document.": "OpenAPI 3.1 文档。",
    "Get this documentation as a page on which requests can be tried.": (
        "打开可以在线调试的文档页面。"
    ),
    (
        "Everything that the page needs comes from this server. No key is needed to read it; "
        "give yours under “Authorize” to try requests."
    ): (
        "页面所需的全部资源都来自本服务器。阅读无需密钥；如要发送请求，请先点击“Authorize”"
        "填写密钥。"
    ),
    "Language of the page; {} chooses where it is absent.": (
        "页面的语言；省略时由 {} 请求头决定。"
    ),
    "The page.": "文档页面。",
    "This page needs JavaScript. Without it, read the OpenAPI document:": (
        "本页面需要 JavaScript。你也可以直接阅读 OpenAPI 文档："
    ),
    "The page could not load its files. Reload it; if that does not help, read:": (
        "页面资源加载失败，请刷新重试；若仍无法显示，请直接阅读："
    ),
}
