"""The errors: what the statuses and the codes mean."""

from __future__ import annotations

ERRORS = {
    "Bad Request: {}": "请求有误：{}",
    "Unauthorized: {}": "未通过身份验证：{}",
    "Forbidden: {}": "没有权限：{}",
    "Not Found: {}": "未找到：{}",
    "Method Not Allowed: {}": "不支持该请求方法：{}",
    "Conflict: {}": "冲突：{}",
    "Request Entity Too Large: {}": "请求体过大：{}",
    "Content Too Large: {}": "请求体过大：{}",
    "Unsupported Media Type: {}": "不支持的内容类型：{}",
    "Requested Range Not Satisfiable: {}": "请求的范围无效：{}",
    "Range Not Satisfiable: {}": "请求的范围无效：{}",
    "Too Many Requests: {}": "请求过多：{}",
    "Internal Server Error: {}": "服务器内部错误：{}",
    "Upgrade Required: {}": "需要升级协议：{}",
    "Not Implemented: {}": "不支持：{}",
    "The path speaks another protocol.": "该路径使用其他协议。",
    "The HTTP server in use cannot speak WebSocket.": "当前的 HTTP 服务器不支持 WebSocket。",
    "Bad Gateway: {}": "上游服务出错：{}",
    "Gateway Timeout: {}": "等待超时：{}",
    "Service Unavailable: {}": "服务暂不可用：{}",
    "A field or parameter has a wrong value.": "某个字段或参数的值不正确。",
    "A required field or parameter is missing.": "缺少必填的字段或参数。",
    "The body is not JSON.": "请求体不是有效的 JSON。",
    "The message has nothing to answer.": "消息中没有可以回复的内容。",
    "Several configs have this name; use the id.": "有多个配置同名，请改用 ID。",
    "The request has no key.": "请求没有携带密钥。",
    "The key is unknown, revoked, deleted or expired.": (
        "密钥不存在，或已被吊销、删除，或已过期。"
    ),
    "The key lacks the scope of this route.": "密钥没有此接口所需的权限。",
    "The owner's name or password is wrong.": "用户名或密码错误。",
    "A guard rail of the key does not allow it; the message names it.": (
        "密钥的限制不允许此操作，消息中会指出是哪一条。"
    ),
    (
        "The key has made, or has open, as many requests as it may; wait as long as Retry-After."
    ): "密钥的请求数或同时进行的请求已达上限，请按 Retry-After 等待。",
    (
        "The key has used up its turns or tokens; Retry-After, if any, is when it has more."
    ): "密钥的对话轮数或 token 已用完；如有 Retry-After，届时会恢复。",
    "The key has made as many session keys as it may.": "该密钥创建的会话密钥数已达上限。",
    "Log in first.": "请先登录。",
    "The login is not valid, or has ended.": "登录无效或已过期。",
    "A page sent something without its token.": "页面的请求没有携带令牌。",
    "There is no such key.": "密钥不存在。",
    "Too many logins failed.": "登录失败次数过多。",
    "The username is an administrator's.": "该用户名属于管理员。",
    "There is no such path.": "路径不存在。",
    "There is no config of this id or name.": "没有该 ID 或名称的配置。",
    "The config has no such provider.": "配置中没有该模型提供商。",
    "The provider has no such model.": "提供商没有该模型。",
    "There is no such bot, or it is not running.": "机器人不存在或未运行。",
    "There is no such attachment.": "附件不存在。",
    "There is no such session.": "会话不存在。",
    "The session has no such message.": "会话中没有该消息。",
    "The path does not answer this method.": "该路径不支持此请求方法。",
    "The session belongs to another username.": "该会话属于其他用户名。",
    "A turn of the session runs or waits.": "该会话有正在进行或排队的对话。",
    "The Idempotency-Key was used for another request.": ("该 Idempotency-Key 已用于其他请求。"),
    "The same request is being answered.": "同样的请求正在处理中。",
    "Only the last turn of a session can be changed.": "只能更改会话的最后一轮对话。",
    "A stored message uses the attachment.": "有已保存的消息正在使用该附件。",
    "The attachments of the key would take too much room.": "该密钥的附件占用空间将超出限额。",
    "The range is outside of the attachment.": "请求的范围超出了附件的大小。",
    "The body is larger than the limit.": "请求体超出大小限制。",
    "The body has another content type than this route reads.": (
        "请求体的内容类型不受此接口支持。"
    ),
    "Too many turns of this session run or wait.": "该会话正在进行或排队的对话过多。",
    "The server failed; its log has the reason under the request_id.": (
        "服务器出错，可凭 request_id 在日志中查找原因。"
    ),
    "The model's endpoint failed, or answered nothing.": "模型服务出错，或没有返回内容。",
    "The server stopped before the turn had ended.": "对话结束之前服务器已停止。",
    "The turn takes longer than an answer waits; it goes on.": (
        "对话耗时超过了响应的等待时间，仍在继续。"
    ),
    "The server's configuration is wrong.": "服务器的配置有误。",
    "The server has as many turns as it can take.": "服务器正在处理的对话已达上限。",
    "The server is going down; try again.": "服务器正在关闭，请重试。",
    "The server could not reach or keep its state.": "服务器无法读取或保存数据。",
    "The key has as many open streams as one worker allows it.": (
        "该密钥打开的流已达到单个工作进程的上限。"
    ),
    "There is no such run, or it is of another key and no username was sent.": (
        "运行不存在，或由其他密钥发起而请求未提供用户名。"
    ),
}
