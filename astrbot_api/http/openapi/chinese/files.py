"""Files."""

from __future__ import annotations

FILES = {
    "Files": "文件",
    "Attachments of messages.": "消息的附件。",
    "Upload a file.": "上传文件。",
    (
        "The body is {} with the file in the field {}. Name the {} of the answer in a segment of "
        "a message. {} comes from the bytes; the name of the file decides nothing."
    ): (
        "请求体为 {}，文件放在字段 {} 中。发送消息时，在消息段中填写响应里的 {} 即可引用该文件。"
        "{} 根据文件内容判断，与文件名无关。"
    ),
    "The file, with its name. Other fields are ignored.": "文件及其文件名。其他字段会被忽略。",
    "Upload a file; the same as POST /file.": "上传文件，与 POST /file 相同。",
    "The body is {} with the file in the field {}.": "请求体为 {}，文件放在字段 {} 中。",
    "Download an attachment.": "下载附件。",
    (
        "Any key with the scope {} may download any attachment. {} and {} work as in HTTP. "
        "Pictures, audio, video and plain text may be shown by a browser; all else is to be saved."
    ): (
        "任何具有 {} 权限的密钥都可以下载任意附件。{} 和 {} 的行为符合 HTTP 规范。"
        "图片、音频、视频和纯文本可以由浏览器直接显示，其他文件只供保存。"
    ),
    "One range of bytes; several are answered with the whole.": (
        "一个字节范围；请求多个范围时返回整个文件。"
    ),
    "The {} of a copy; if that is still good, the answer is a {}.": (
        "已有副本的 {}；副本仍然有效时，响应状态码为 {}。"
    ),
    "The bytes, with their own media type.": "文件内容，其媒体类型与文件一致。",
    "The range that was asked for.": "所请求的范围。",
    "The copy is still good.": "副本仍然有效。",
    "Download an attachment; the same as GET /file.": "下载附件，与 GET /file 相同。",
    "Here the id is part of the path.": "此处的 ID 是路径的一部分。",
    "Tell what is known of an attachment, without its bytes.": "查询附件的信息，不含文件内容。",
    "Its name, type, size and SHA-{}, and when it was stored.": (
        "包括文件名、类型、大小、SHA-{} 和保存时间。"
    ),
    "Delete it although a stored message uses it.": "即使有已保存的消息正在使用该附件，也删除。",
    "Delete an attachment.": "删除附件。",
    (
        "One that a stored message uses stays, and the answer is a {}, unless {} is true. Other "
        "attachments with the same bytes are not touched."
    ): (
        "有已保存的消息正在使用的附件不会被删除，响应状态码为 {}，除非 {} 为 true。"
        "内容相同的其他附件不受影响。"
    ),
    "What the attachment is known by.": "附件的 ID。",
    "What its sender called it, without folders.": "上传者所用的文件名，不含目录。",
    "What it is, from its bytes; {} is audio.": "根据文件内容判断的类型；{} 表示音频。",
    "Its media type, from its bytes.": "根据文件内容判断的媒体类型。",
    "How large it is.": "文件的大小，单位为字节。",
    "SHA-{} of its bytes, in hexadecimal.": "文件内容的 SHA-{} 值，以十六进制表示。",
    "When it was stored; ISO {}, UTC.": "保存时间，ISO {} 格式，UTC 时区。",
}
