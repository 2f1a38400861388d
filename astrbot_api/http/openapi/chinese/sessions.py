"""One session, and its messages."""

from __future__ import annotations

SESSIONS = {
    "Messages": "消息",
    "What was said in a session.": "会话中的消息。",
    "List the configs that a chat may choose; the same as GET /configs.": (
        "列出聊天时可以选择的配置，与 GET /configs 相同。"
    ),
    "For keys that have the scope {} alone.": "供只有 {} 权限的密钥使用。",
    "Whose session it is; here, or in the other of query and body.": (
        "会话所属的用户名，可以放在查询参数或请求体中。"
    ),
    "Only {}.": "只能是 {}。",
    "Make a session; the same as POST, for clients of AstrBot.": (
        "新建会话，与 POST 相同，供 AstrBot 的客户端使用。"
    ),
    "Its {} is a UUID. A chat makes its session by itself, so nobody needs this first.": (
        "它的 {} 是一个 UUID。聊天接口会自行创建会话，因此不必先调用本接口。"
    ),
    "Make a session with a name and a config of its own.": "新建会话，可以指定标题和配置。",
    "Delete several sessions of one username.": "删除某个用户名的多个会话。",
    (
        "Each is deleted by itself, as by DELETE; those that cannot be are listed in {}. A {} "
        "may have any characters here."
    ): ("逐个删除，效果与 DELETE 相同；无法删除的会列在 {} 中。这里的 {} 可以包含任意字符。"),
    "Most messages of {}, brought into {} to {}.": (
        "{} 中最多的消息数；超出 {} 至 {} 的范围时取最接近的值。"
    ),
    "Tell what a session is, its newest messages and its running turns.": (
        "查询会话的信息、最新的消息和正在进行的对话。"
    ),
    (
        "{} is the end of the conversation; the messages before it are had with {}. A run's "
        "stream can be joined while {} has it."
    ): ("{} 是会话末尾的消息，更早的消息可用 {} 取得。{} 中的对话仍在进行，可以接入它的事件流。"),
    "The conversation.": "会话的名称。",
    "Give a session another title.": "更改会话的标题。",
    "A title that was given here is never changed by the server.": (
        "在此设置的标题不会被服务器更改。"
    ),
    "Delete a session with its messages.": "删除会话及其消息。",
    (
        "It is gone at once; its turns are stopped. Attachments that no other message uses are "
        "swept later. The name is free for a new session."
    ): (
        "会话立即删除，正在进行的对话会被停止。没有其他消息使用的附件稍后清理。该名称可以用于新"
        "的会话。"
    ),
    "The {} of the page before; absent: the first page.": "上一页的 {}；省略时返回第一页。",
    "Most messages of the page, brought into {} to {}.": (
        "每页最多的消息数；超出 {} 至 {} 的范围时取最接近的值。"
    ),
    "{}: newest first. {}: oldest first.": "{}：最新的在前。{}：最早的在前。",
    "List the messages of a session, page by page.": "分页列出会话的消息。",
    (
        "Send the {} of a page as {} to get the next one, with the same {}. With {} the last "
        "page's highest {} is a cursor too: what comes later is found after it. A page of long "
        "messages has fewer of them than {}."
    ): (
        "将一页的 {} 作为 {} 发送即可取得下一页，{} 须保持不变。使用 {} 时，最后一页中最大的 {} "
        "也可以用作游标，之后的新消息会排在它后面。消息很长时，一页的消息数会少于 {}。"
    ),
    "Change the last message of the user.": "修改用户的最后一条消息。",
    (
        "No turn is run: regenerate its answer to have it answered again. Only what the user "
        "said last can be changed, and not while a turn runs."
    ): (
        "修改后不会自动回复，如需重新回复请调用重新生成接口。只能修改用户的最后一条消息，且对话"
        "进行时不能修改。"
    ),
    "The message, by its number.": "消息的编号。",
    "Answer the last message of the user once more, as a stream.": (
        "重新回复用户的最后一条消息，以流的形式返回。"
    ),
    (
        "{} is the answer's, or that of the message that it answers. The events are those of "
        "chat, without {}. The new answer takes the place of the old one when it is whole; if "
        "its turn fails, the old one stays."
    ): (
        "{} 是回复的编号，或所回复的那条消息的编号。事件与聊天接口相同，但没有 {}。新的回复完成"
        "后会取代旧的回复；如果失败，则保留旧的回复。"
    ),
    "The config that was chosen for it; {}: the default.": "为会话选择的配置；{} 表示默认配置。",
    "Its title. Blank: none, so that the next turn makes one.": (
        "会话的标题。空白表示没有标题，下一轮对话会生成一个。"
    ),
    "The config that answers in it.": "在会话中回复的配置。",
    "Their ids, at most {}.": "会话的名称，最多 {} 个。",
    "As of an error.": "错误代码。",
    "What is wrong with it.": "失败的原因。",
    "How many were deleted.": "已删除的会话数。",
    "How many were not.": "未能删除的会话数。",
    "Those that were not, and why.": "未能删除的会话及其原因。",
    "Its number; later ones are higher.": "消息的编号，越新的消息编号越大。",
    "Who said it: a username, or {}.": "发送者：用户名或 {}。",
    "How the sender is called.": "发送者的名称。",
    (
        "{} is {} or {}; {} is the list of its segments: what was sent, or {} and files in the "
        "order they came. The bot's may have {}, and {} where its turn failed."
    ): (
        "{} 为 {} 或 {}；{} 是消息段的列表：用户发送的内容，或按出现顺序排列的 {} 和文件。机器人"
        "的消息可能有 {}；对话失败时还有 {}。"
    ),
    "The same for the messages of one turn; {}: it was pushed.": (
        "同一轮对话的消息有相同的值；{} 表示主动推送的消息。"
    ),
    "Its id.": "对话的 ID。",
    "{}, or {} behind another turn of the session.": "{}；排在同一会话的其他对话之后时为 {}。",
    "When it was asked for; ISO {}, UTC.": "请求时间，ISO {} 格式，UTC 时区。",
    "When it began; {} while it waits.": "开始时间；排队时为 {}。",
    "Its newest messages, oldest first.": "最新的若干条消息，按时间顺序排列。",
    "For {} of its messages, newest first: what came before {}. {}: nothing did.": (
        "用作消息列表的 {}（最新的在前），可取得 {} 之前的消息；{} 表示之前没有消息。"
    ),
    "Its turns that run or wait, in their order.": "正在进行或排队的对话，按顺序排列。",
    "Whether {} has any.": "{} 是否非空。",
    "The page's messages.": "本页的消息。",
    "For {} of the next page; {}: this is the last.": "用作下一页的 {}；{} 表示这是最后一页。",
    "{} in it is a string or a list of segments, as in chat. The rest is ignored.": (
        "其中的 {} 是字符串或消息段的列表，与聊天接口相同。其他内容会被忽略。"
    ),
    "As in chat: {} gives the text in one {} event.": (
        "与聊天接口相同：{} 表示在一个 {} 事件中返回全文。"
    ),
    "Inbox": "收件箱",
    "All sessions of a user in one stream.": "在一个事件流中接收用户所有会话的消息。",
    "A stream of messages; it has no end.": "消息流，不会结束。",
    "Show every message of all sessions of a username, as it is stored.": (
        "实时接收某个用户名的所有会话中保存的每条消息。"
    ),
    (
        "The user's own, the agent's answers when they are whole, and what is pushed, on "
        "whichever worker. The first event is {}; each {} has its {}, and in {} what the list "
        "of messages has. The {} of an event is the number of its message: send the last one "
        "as {}, or as {}, and the stream continues there. When more than {} messages of all "
        "users came meanwhile, {} in the first event is true: read the sessions instead. A "
        "message that is too long for a line has {} and no content. A {} line before the end "
        "means: resume now."
    ): (
        "包括用户自己的消息、智能体的完整回复以及主动推送的消息，不论由哪个工作进程处理。第一个事件"
        "为 {}；每个 {} 带有所属的 {}，{} 的内容与消息列表相同。事件的 {} 是消息的编号：将最后一个"
        "编号作为 {} 或 {} 发送，即可从该处继续。如果期间所有用户的消息超过 {} 条，第一个事件中的 "
        "{} 为真，此时应重新读取会话。过长的消息带有 {} 而没有内容。结束之前的 {} 行表示应立即重新"
        "连接。"
    ),
}
