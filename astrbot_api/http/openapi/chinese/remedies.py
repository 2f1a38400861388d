"""The errors: what to do about each."""

from __future__ import annotations

REMEDIES = {
    "Correct the field that the message names.": "按消息所指出的字段改正。",
    "Send the field that the message names.": "补上消息所指出的字段。",
    "Send one JSON object, in UTF-8.": "请发送一个 UTF-8 编码的 JSON 对象。",
    "Send a text or an attachment beside the quotation.": "除引用外，还需发送文本或附件。",
    "Send {} instead; {} lists the ids.": "请改为发送 {}；{} 列出各个 ID。",
    "Send the key, best in the header {} or {}.": "请发送密钥，最好放在请求头 {} 或 {} 中。",
    "Ask the owner for a key that is valid; sending it again does not help.": (
        "请向服务器所有者索取有效的密钥；重复发送没有用。"
    ),
    "Check both; {} sets a new password.": "请检查用户名和密码；{} 可以设置新密码。",
    "Log in with {}.": "请通过 {} 登录。",
    "Log in again.": "请重新登录。",
    "Compare the secret of the bot in {} with that of the messenger.": (
        "请核对 {} 中机器人的密钥与消息平台上的是否一致。"
    ),
    "Ask the owner to give the key the scope, or use another key.": (
        "请让所有者为密钥加上该权限，或换用其他密钥。"
    ),
    "Reload the page.": "请刷新页面。",
    "Choose another username, or use a key with the scope {}.": (
        "请换一个用户名，或使用带有 {} 权限的密钥。"
    ),
    "Keep to what {} tells, or use another key.": "请遵守 {} 所示的限制，或换用其他密钥。",
    "Compare the path, and what is before {}, with this documentation.": (
        "请对照本文档检查路径，以及 {} 之前的部分。"
    ),
    "Choose one of {}.": "请从 {} 中选择。",
    "Choose a provider that the config has, or leave the field out.": (
        "请选择该配置中有的提供方，或省略此字段。"
    ),
    "Choose a model that the provider lists, or leave the field out.": (
        "请选择提供方列出的模型，或省略此字段。"
    ),
    "Choose one of {}; the server's log tells what is wrong with it.": (
        "请从 {} 中选择；服务器日志会说明它有什么问题。"
    ),
    "Send the {} of the session, too; read the session if it is long ago.": (
        "请同时发送会话的 {}；时间已久的，请读取会话。"
    ),
    "Upload the file again and use the new id.": "请重新上传文件并使用新的 ID。",
    "Check the id; a deleted session is gone for good.": "请检查 ID；已删除的会话无法恢复。",
    "Read the messages of the session again.": "请重新读取会话的消息。",
    "List the keys again.": "请重新列出密钥。",
    "Check the id; finished deliveries are forgotten after some weeks.": (
        "请检查 ID；已完成的投递记录几周后会被清除。"
    ),
    "Use one of the methods that the header {} names.": "请使用响应头 {} 中列出的方法。",
    "Send the session's own {}, or begin another session.": (
        "请发送该会话所属的 {}，或另开一个会话。"
    ),
    "Wait for the turn to end, or stop it, then try again.": "请等本轮结束或将其停止后再试。",
    "Use a new {} for a new request.": "新的请求请使用新的 {}。",
    "Send the request again after {}.": "请在 {} 所示的时间之后重新发送。",
    "Change the last turn alone; otherwise send a new message.": (
        "只能修改最后一轮；否则请发送新消息。"
    ),
    "Add {} where it is to go all the same.": "如仍要删除，请加上 {}。",
    "Send less; the owner sets the limit that the message names.": (
        "请减少内容；消息中指出的上限由服务器所有者设置。"
    ),
    "Delete attachments that are not needed.": "请删除不需要的附件。",
    "Send the type that the message names.": "请使用消息所指出的类型。",
    "Ask for a range within the size that the message tells.": "请在消息所示的大小之内选取范围。",
    "Connect with a WebSocket client of version {}.": "请使用版本 {} 的 WebSocket 客户端连接。",
    "Wait for the turns of the session, then try again after {}.": (
        "请等会话的各轮结束，并在 {} 所示的时间之后再试。"
    ),
    "Close a stream, then try again.": "请先关闭一个流再试。",
    "Wait as long as {} says.": "请等待 {} 所示的时间。",
    "Make session keys that live for a shorter time.": "请缩短会话密钥的有效时间。",
    "Wait as long as {} says; without it, a new key is needed.": (
        "请等待 {} 所示的时间；若没有该响应头，则需要新的密钥。"
    ),
    "Try again after {}; the messenger may be out of order.": (
        "请在 {} 所示的时间之后再试；消息平台可能有故障。"
    ),
    "Report the {} to the owner, whose log has the reason.": (
        "请把 {} 告知服务器所有者，原因记在服务器日志中。"
    ),
    "The owner corrects the file that the server's log names.": (
        "请服务器所有者改正日志中指出的文件。"
    ),
    "Use {}; the owner can run the server with gunicorn.": (
        "请使用 {}；服务器所有者可以改用 gunicorn 运行。"
    ),
    "Try again later; the owner's log has the endpoint's own words.": (
        "请稍后再试；服务器日志中有模型端点的原话。"
    ),
    "Correct the target or the message; {} names the delivery.": (
        "请改正目标或消息；{} 指明是哪次投递。"
    ),
    "Try again after {}.": "请在 {} 所示的时间之后再试。",
    "Try again at once; another worker answers.": "请立即重试，会由其他工作进程处理。",
    "Try again later, best with an {}.": "请稍后再试，最好带上 {}。",
    "Ask again; what was said is in the session.": "请重新提问；已有的内容保存在会话中。",
    "Follow the run with {}; {} names it.": "请用 {} 继续接收该次运行；{} 指明是哪一次。",
}
