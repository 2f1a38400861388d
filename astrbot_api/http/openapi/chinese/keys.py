"""Keys: what a key may do, and session keys."""

from __future__ import annotations

KEYS = {
    "Keys": "密钥",
    "What a key may do.": "密钥的权限与限制。",
    "Make a short-lived key for a browser or a phone.": "为浏览器或手机创建短期密钥。",
    (
        "It is bound to one username and, if you want, to one session, one config and a budget, "
        "so that a program that you do not control can call this API directly. It never has more "
        "than your key: its limits hold for the session key too, and what it does is counted to "
        "your key. It ends with your key. The key needs the scope {}; a session key cannot make "
        "others."
    ): (
        "会话密钥绑定一个用户名，还可以绑定一个会话、一个配置和一份额度，从而让不受你控制的程序"
        "直接调用本接口。它的权限不会超过你的密钥：你的密钥的限制同样适用，用量也计入你的密钥，"
        "并随你的密钥一同失效。密钥需要 {} 权限；会话密钥不能再创建密钥。"
    ),
    "The only username that it may speak as.": "它唯一可以使用的用户名。",
    "The only session that it may name; absent: any of the username.": (
        "它唯一可以使用的会话；省略时可以使用该用户名的任何会话。"
    ),
    "The only config that it may use.": "它唯一可以使用的配置。",
    "{} and {}, or one of them; what your key has not is left out.": (
        "{} 和 {}，或其中之一；你的密钥没有的权限会被忽略。"
    ),
    "Seconds until it ends; {} to {}.": "有效期，单位为秒，{} 至 {}。",
    "Most turns in all.": "对话轮数的总上限。",
    "Most tokens in all; the turn that crosses it is finished.": (
        "token 的总上限；超出上限的那一轮对话会正常完成。"
    ),
    "Most requests a minute.": "每分钟的请求数上限。",
    "The key; shown this once.": "密钥本身，仅显示这一次。",
    "What it opens.": "它的权限。",
    "Its guard rails.": "它的限制。",
    "When it ends; ISO {}, UTC.": "失效时间，ISO {} 格式，UTC 时区。",
    "Tell a key its scopes, its guard rails and what is left of them.": (
        "查询密钥自身的权限、限制和剩余额度。"
    ),
    (
        "Any valid key may ask. A session key is told its own figures; those of the key that it "
        "was made with may end it earlier."
    ): ("任何有效的密钥都可以查询。会话密钥得到的是它自己的数字；创建它的密钥可能会更早用完额度。"),
    "What its owner calls it.": "所有者给它起的名称。",
    "Its first characters.": "密钥开头的几个字符。",
    "When it ends; {}: never.": "失效时间；{} 表示永不失效。",
    "Whether it was made with another key.": "是否由其他密钥创建。",
    "Its guard rails; an absent one is no limit.": "它的限制；没有列出的项不受限制。",
    "What it has used.": "已用的量。",
    "What is left of each limit that it has, by the limit's name.": (
        "每一项限制的剩余量，以限制的名称为键。"
    ),
    "Turns that have ended today, UTC.": "今天（UTC）已结束的对话轮数。",
    "Tokens of today.": "今天使用的 token 数。",
    "Turns in all.": "对话总轮数。",
    "Tokens in all.": "token 总数。",
    "Turns that run or wait now.": "正在进行或排队的对话数。",
    "Bytes of its attachments.": "附件占用的字节数。",
}
