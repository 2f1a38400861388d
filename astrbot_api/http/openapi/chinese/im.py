"""Messages to messengers, and what became of them."""

from __future__ import annotations

IM = {
    "Bots and messages on messengers.": "即时通讯平台上的机器人和消息。",
    "Send a message into a conversation on a messenger or in the web chat.": (
        "向即时通讯平台或网页聊天中的某个会话发送消息。"
    ),
    (
        "The answer waits some seconds for the messenger: a {} has {}; a {} has {}, and the "
        "server goes on trying. Ask for its {} later. A message to the web chat is stored in "
        "its session, which is made when it is new, and shown in every open stream of it. With "
        "{} the message goes to each of them, and the answer tells of each."
    ): (
        "响应会等待平台数秒：{} 表示 {}；{} 表示 {}，服务器会继续尝试，之后可凭其 {} 查询。"
        "发往网页聊天的消息会保存到对应会话（不存在时自动创建），并显示在该会话所有打开的流中。"
        "使用 {} 时，消息会发给其中每一个，响应中分别给出结果。"
    ),
    "Send a message into a conversation; the same as POST /im/message.": (
        "向会话发送消息，与 POST /im/message 相同。"
    ),
    "A newer spelling of that route.": "该接口的新写法。",
    "Tell what became of a message.": "查询消息的投递结果。",
    "Finished deliveries are forgotten after some weeks.": "已结束的投递记录会在数周后清除。",
    "Of the answer to the message.": "发送消息时响应中给出的值。",
    "Names the delivery.": "投递的标识。",
    (
        "{}: not sent yet, or to be tried again. {}: on its way. {}: the messenger has taken "
        "it. {}: given up."
    ): "{}：尚未发送，或等待重试。{}：正在发送。{}：平台已接收。{}：已放弃。",
    (
        "The conversation: {}, split at the first two colons. {} is {} or {}. For a web chat "
        "{}, or with the session alone {}. {} in a conversation shows its own."
    ): (
        "会话的统一消息来源：{}，按前两个冒号拆分。{} 为 {} 或 {}。网页聊天写作 {}，"
        "也可以只写会话：{}。在会话中发送 {} 可查看它自己的值。"
    ),
    "Several UMOs in the place of {}: each gets the message.": (
        "代替 {} 的多个 UMO，每一个都会收到消息。"
    ),
    "A string, or a list of segments: {}.": "字符串，或消息段的列表：{}。",
    "Text. There is no {} here.": "文本。此处不支持 {}。",
    "The text. It may be Markdown.": "文本，可以是 Markdown。",
    "A file.": "文件。",
    "The file, by the id that its upload answered.": "文件的 ID，即上传时返回的值。",
    "As it was sent.": "与请求中的写法一致。",
    "Of {}: one result each, in their order.": "用于 {}：按顺序各一个结果。",
    "Why it failed: a stable word to match.": "失败原因的稳定代码，可用于程序判断。",
    "Why it failed, for people.": "供人阅读的失败原因。",
    "Where it goes.": "消息的去向。",
    "How often it was tried.": "已尝试的次数。",
    "Why the last attempt failed.": "最近一次尝试失败的原因。",
    "Ids of the messenger's own messages.": "平台自身消息的 ID。",
    "When it was accepted; ISO {}, UTC.": "接受时间，ISO {} 格式，UTC 时区。",
    "When it last changed; ISO {}, UTC.": "最近变更时间，ISO {} 格式，UTC 时区。",
    "When a queued one is tried next; ISO {}, UTC.": (
        "排队中的投递下次尝试的时间，ISO {} 格式，UTC 时区。"
    ),
    "When it was sent or given up; ISO {}, UTC.": "送达或放弃的时间，ISO {} 格式，UTC 时区。",
    "What messengers tell the server.": "即时通讯平台向服务器推送的事件。",
    "Hooks": "回调",
    "Take in an event of a messenger.": "接收即时通讯平台的事件。",
    (
        "For the messenger itself: enter this address there. No key is needed; the request must "
        "bear the messenger's own signature. A message that the bot is to answer starts a turn, "
        "and the answer goes back through the messenger."
    ): (
        "供平台自身调用：请在平台的设置中填写此地址。无需密钥，但请求必须带有平台自己的签名。"
        "需要机器人回复的消息会开始一轮对话，回复经由该平台发回。"
    ),
    "Answer a messenger that asks whether this address is its bot's.": (
        "响应平台对此地址的验证请求。"
    ),
    "Some do before they send events.": "有些平台在发送事件之前会这样做。",
    "The bot's id in bots.toml.": "机器人在 bots.toml 中的 ID。",
    "The event is taken in; the body is what the messenger expects.": (
        "事件已接收；响应体为平台所要求的内容。"
    ),
    "The messenger's own event, of a limited number of bytes.": (
        "平台自身格式的事件，字节数有上限。"
    ),
    "The request does not bear the messenger's signature.": "请求没有带平台的签名。",
    "Accepted": "已接受",
    "There is no such delivery.": "投递不存在。",
    "Too many messages to this target wait.": "等待发往该目标的消息过多。",
    "The messenger did not take the message.": "平台没有接收该消息。",
}
