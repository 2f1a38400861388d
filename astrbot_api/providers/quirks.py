"""Patterns of error texts that a change of the request can fix.

Each pattern is from real error texts of the endpoints named beside it. :mod:`.fixes` chooses
the change. :mod:`.request_adapter` stores it and applies it to later requests.
"""

from __future__ import annotations

import re


def may_pass(status: int) -> bool:
    """Return whether the same request may succeed later.

    Source: statuses that OpenAI's SDKs retry. 501 and 505 are permanent.
    """
    return status in (408, 409, 425, 429) or (status >= 500 and status not in (501, 505))


def is_balance_used_up(text: str) -> bool:
    """Return whether a 429 is about an exhausted balance, so that a retry cannot help."""
    return bool(_SPENT.search(text))


def is_flagged(status: int, text: str) -> bool:
    """Return whether an error is about forbidden content, so that another key cannot help."""
    return status == 403 and bool(_FLAGGED.search(text))


def is_misread_call(text: str) -> bool:
    """Return whether the endpoint could not parse what its model wrote, so that a retry may help.

    Such errors quote the model, so they must not be searched for anything else.
    """
    return bool(_MISREAD.search(text))


def is_moderated(text: str) -> bool:
    """Return whether an error is about forbidden content, so that it must not be sent again.

    An account with many such requests may be blocked.
    """
    return bool(_MODERATED.search(leave_out_echo(text)))


def leave_out_echo(text: str) -> str:
    """Return an error without the refused part of the request, which a client may have chosen."""
    return _ECHO.split(text, maxsplit=1)[0]


def is_too_long(text: str) -> bool:
    """Return whether an error is about the length of the conversation, not about a rate."""
    return bool(_TOO_LONG.search(text)) and not _THROTTLED.search(text)


def _any_case(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | flags)


#: OpenAI, DeepSeek, Moonshot, MiniMax, Anthropic, xAI, Zhipu, Volcengine, Hunyuan, One API.
_SPENT = _any_case(
    r"insufficient[_ ](user_)?(quota|balance|funds|credit)"
    r"|exceeded[ _](your )?current[ _](token )?quota"
    r"|billing_hard_limit|out of credits|used all available credits|credit balance is too low"
    r"|have any credits|your specified (workspace )?(api )?usage limit"
    r"|balance is insufficient|overdue (balance|payment)|arrear|quota[^.]{0,60}is not enough"
    r"|欠费|预扣费额度失败|(余额|额度|余量)(不足|已?用[尽完])"
)

#: OpenRouter, xAI: a 403 about what the conversation says, not about the key.
_FLAGGED = _any_case(
    r"(input|content|prompt)[^.]{0,40}(flagged|violat)|violat[^.]{0,40}(usage|content)"
    r"|flagged_input|content_policy"
)

#: Azure, OpenAI, Qwen, DeepSeek, Zhipu, Moonshot, Volcengine, MiniMax.
_MODERATED = _any_case(
    r"content_filter\b|content management policy|ResponsibleAIPolicy|moderation_blocked"
    r"|safety system|flagged as potentially|data_inspection_failed|inappropriate content"
    r"|content exists risk|considered high risk|(?<!-)sensitive ?(content|information)"
    r"|new_sensitive|敏感(内容|信息)"
)

#: What pydantic (vLLM, SGLang, FastAPI) writes before the refused part of the request.
_ECHO = re.compile(r"['\"]input\\*['\"]\s*:")

#: Groq, Cerebras, Ollama, llama.cpp, Gemini.
_MISREAD = _any_case(
    r"malformed_function_call|unexpected_tool_call|tool_use_failed|output_parse_failed"
    r"|json_validate_failed|failed to (call a function|generate tool)"
    r"|(error parsing|failed to parse) tool.?call"
)

#: OpenAI, vLLM, llama.cpp, Anthropic, Gemini, Mistral, Qwen, Groq, Ollama, DeepSeek, Moonshot,
#: MiniMax, Zhipu, TGI, ExLlama. The last lines are translations by gateways.
_TOO_LONG = _any_case(
    r"context[_ ](length|window|size)|maximum context|max_?(model_?len|seq_?len)"
    r"|(prompt|input|messages?(?!\\*['\"]\s*:)|conversation)[^.]{0,40}too (long|large)"
    r"|too many (input |prompt )?tokens|reduce the length|\bn_keep\b"
    r"|token count[^.]{0,60}(exceed|supports)"
    r"|tokens?[^.]{0,60}exceeds?[^.]{0,40}(limit|maximum|context)"
    r"|(prompt|input)[_ ](tokens?|length)[^.]{0,30}exceed|tokens?:? \d+ > \d+|(model )?token limit"
    r"|(prompts?|inputs?) tokens?[^.]{0,20}greater than|at most \d+ (prompt|input) tokens"
    r"|range of input length|(request|entity|payload) (is )?too large|sequence length"
    r"|max(imum)? (input|prompt) (length|characters)|content length exceeds"
    r"|have less than \d+ tokens|tokens.? \+ .max_new_tokens|max_tokens must be at least 1, got -"
    r"|exceed\w* (the )?(model'?s? )?max\w*[^.]{0,20}(token|length)|too large for model"
    r"|(messages|input)\S{0,40} string too long"
    r"|(输入|提示词?|对话|消息|请求|prompt|上下文|token).{0,16}(过长|超)|请求.{0,3}过大"
    r"|超.{0,12}(上下文|长度|上限)"
    r"|zu lang|longitud máxima|demasiado larg|longueur maximale|trop long|長すぎ|длин[уаы]|слишком "
    r"длин|너무 (길|깁)"
)

#: Bedrock: "Too many tokens, please wait before trying again."
_THROTTLED = _any_case(r"throttling|wait before trying again")

#: OpenAI, Azure: the description of a tool (with Responses, without ``function``), and its maximum
#: length.
LONG_DESCRIPTION = _any_case(
    r"tools\W\d+\W{1,2}(?:function\.)?description\b.{0,40}too long.{0,60}?(\d{2,6})"
)

#: The context's length, before or after its name.
LIMIT = _any_case(
    r"(?:limit|max\w{0,30}|at most|context (?:length|size|window)|should be \[\d+,|supports?"
    r"|[^-]>|<=|n_ctx)[^\d]{0,40}(\d[\d,]{2,12})|(\d[\d,]{2,12}) max"
)

#: Ollama, vLLM, llama.cpp, OpenRouter, Groq.
NO_TOOLS = _any_case(
    r"support\w* (tool|function)|(tool|function)[^.]{0,40}(not support|unsupported|support\b"
    r"|requires\b|enable)|(tools|functions) (is|are) not|不支持.{0,8}(工具|函数|tool|function)"
)

#: Words for "not supported". The next patterns combine them with words for images and audio:
#: OpenAI, Groq, DeepSeek, vLLM.
_NOT_TAKEN = (
    r"not support|unsupported|does ?n[o']t (support|accept)|cannot|can't|not accept|invalid|unknown"
    r"|not (a )?multimodal|no endpoints|not allowed|not enabled|expected `?text|must be a string"
    r"|should be a valid string|invalid type: sequence|text[- ]only|not a\b|at most 0|不支持"
)
NO_IMAGES = _any_case(
    r"\A(?=.*(image|vision|visual|multimodal|\bvlm\b|\bmm input|图|视觉|多模态))"
    rf"(?=.*({_NOT_TAKEN}))",
    re.DOTALL,
)
NO_AUDIO = _any_case(rf"\A(?=.*(audio|sound|音频|语音))(?=.*({_NOT_TAKEN}))", re.DOTALL)
#: Serde, pydantic, Go, Jinja, Qwen, Zhipu.
NO_PARTS = _any_case(
    r"(must|should) be a (valid )?string|expected?\w* (a )?string|invalid type: sequence|str type"
    r"|not of type .?string|array into go struct|\(not .{0,2}list.{0,2}\) to str|必须为字符串"
    r"|unknown variant `(image_url|input_audio|file)`|should be .text.|only supports? text\b"
    r"|取值范围 \[.text.\]"
)
#: Errors about one image, not about images in general: OpenAI, Anthropic, Gemini, Ollama, Qwen.
BAD_IMAGE = _any_case(
    r"image_parse_error|unsupported image|(invalid|process|decode|load|parse|unable to)[^.]{0,30}"
    r"image|image[^.]{0,30}(valid|corrupt|broken|decode|too (large|small|big)|exceed)"
    r"|image[^.]{0,60}(restrictions|requirements)|multimodal (content|data|file)|data-?uri"
    r"|图片.{0,6}(格式|错误|无法|解析|损坏|过大)"
)

#: Errors about the format of one image, which may say "not supported" without meaning the model:
#: vLLM (Pillow), Gemini, OpenAI, Qwen, Anthropic, Ollama, LM Studio.
BAD_FORMAT = _any_case(
    r"cannot (identify|open)[^.]{0,20}image|image[_ ]format|mime[_ ]?type|media_type|image/[a-z]"
    r"|base64"
)

#: Too many images, and the limit: vLLM, Groq, Mistral, Anthropic, Bedrock, Azure.
TOO_MANY_IMAGES = _any_case(
    r"too many images|too much media|number of images|at most [1-9]\d* image"
)
IMAGE_LIMIT = _any_case(
    r"at most (\d{1,6}) image|(?:up to|max\w{0,20}(?: is| of|:)?|limit(?: of)?|>)\s*(\d{1,6})"
)

#: Gemma's templates, Gemini's, Mistral's old ones, o1, Anthropic, JSON schemas of gateways.
NO_SYSTEM = _any_case(
    r"(system|developer)[ _](role|message|instruction|prompt)s?[^.]{0,40}(not |unsupported|n't )"
    r"|(role|value)[^.]{0,20}['\"`](system|developer)['\"`][^.]{0,60}(not |unsupported|n't )"
    r"|not support[^.]{0,20}(system|developer)|不支持 ?.?system|system.{0,12}不支持"
    r"|['\"`](system|developer)['\"`\\]* is not (one of|a valid)"
    r"|(invalid|unexpected|unknown) (role|variant):?[ '\"`\\]*(system|developer)"
    r"|(role|input) should be ['\"]?user['\"]? or ['\"]?assistant|first message must be"
    r"|only user and assistant roles are supported(?!, with)"
)

#: Jinja templates (llama.cpp, vLLM), Mistral, Perplexity, Anthropic, Qwen.
ALTERNATE = _any_case(
    r"roles?[^.]{0,30}alternat|alternat[^.]{0,40}roles?|unexpected role|expected last role"
    r"|after the \(?optional\)? system message|multiple \S+ roles in a row"
    r"|(consecutive|successive)[^.]{0,20}messages|messages of the same role|交替"
    r"|system messages?[^.]{0,30} (at the (beginning|start)|first)\b|system.{0,16}最开始"
    r"|roles are supported, with the exception of an initial"
)

#: Mistral, OpenAI; Anthropic and Bedrock, which reject the ids of Kimi behind the same gateway.
SHORT_IDS = _any_case(
    r"tool call id[^.]{0,80}length of 9|tool_calls?[\[\].\w]{0,12}id\b[^.]{0,30}too long"
    r"|tool_?(use|call)_?\.?id\b.{0,90}pattern"
)

#: Gateways, o1-pro, OpenAI's unverified organisations, Qwen.
NO_STREAM = _any_case(
    r"(?<![\w-])stream(ing|ed)?\b(?![ _]options)[^.]{0,40}(not |n't |unsupported|must be .?false)"
    r"|(not|n't) support[^.]{0,20}\bstream(ing)?\b(?![ _]options)|verified to stream|不支持流"
)

#: Gemini's compatible endpoint, Mistral, Moonshot.
WANTS_TOOL_NAME = _any_case(
    r"function_?response\.name|\.name\W{1,4}[\w-]+\W{1,4}does not match"
    r"|(tool|function)\b[^.]{0,60}\bname\b|\bname\b[^.]{0,60}\btool\b"
)

_NO_VALUE = "not callable: null|NoneType|NullValue|not a function: got Undefined"

#: An assistant message without text: pydantic, serde, older OpenAI models, Anthropic, Zhipu,
#: Moonshot, and templates of llama.cpp, LM Studio and vLLM.
WANTS_TEXT = _any_case(
    r"content(?![a-z_]).{0,60}(none|null|required|empty|blank|missing|valid string"
    r"|expected a string|non-whitespace|不能为空)"
    r"|(missing|required|empty|null|none)\b.{0,40}\bcontent\b|assistant.{1,3}must not be empty"
    rf"|{_NO_VALUE}",
    re.DOTALL,
)

#: Anthropic and gateways in front of it.
WANTS_MAX_TOKENS = _any_case(
    r"(max_tokens\b[^.]{0,20}\brequired|(missing|requires?)\b[^.]{0,30}max_tokens)"
)

#: Bedrock, Anthropic, LiteLLM: calls in a conversation of a request without tools.
WANTS_TOOLS = _any_case(
    r"toolconfig field must be defined|expects the .?tools=?.? param|must define tools"
)

#: Anthropic; Mistral, Perplexity, templates: a conversation that ends with the assistant's message.
NO_PREFILL = _any_case(
    r"assistant message prefill|must end with (a )?user|expected last role user"
    r"|last message[^.]{0,60}(must|is from the assistant)"
)

#: Anthropic: a call of another model, or one whose thinking a gateway lost.
UNTHOUGHT = _any_case(r"expected .?thinking.? or .?redacted_thinking|start with a thinking block")

#: OpenAI: a model that thinks by default takes tools only if it does not think.
NO_EFFORT = _any_case(r"tools with reasoning_effort")

#: OpenAI's models that need Responses, always or for reasoning together with tools.
WANTS_RESPONSES = _any_case(
    r"(only supported in|only available (in|through|via)|use) (the )?/?v1/responses"
    r"|not a chat model[^.]{0,40}v1/chat/completions"
)

#: Gateways to Gemini that pass a tool's text on, where an object is needed.
WANTS_OBJECT = _any_case(r"function_?response\.response")

#: Missing fields of a message: DeepSeek and Moonshot; Gemini.
WANTS_REASONING = _any_case(
    r"(missing|must|required|needs?|absent|without)[^.]{0,80}(reasoning_content|reasoning)\b"
    r"|(reasoning_?content|content\[\]\.thinking)[^.]{0,60}(missing|must|required|passed back)"
)
WANTS_SIGNATURE = _any_case(r"missing[^.]{0,30}thought_?signature")

#: Attached fields that the endpoint rejects: Anthropic, OpenRouter, Gemini, old DeepSeek.
STALE = _any_case(
    r"(invalid|corrupt|expired|verif|decrypt|decode)[^.]{0,60}(signature|thinking|"
    r"reasoning|encrypted)|(signature|thinking block|encrypted content|reasoning)[^.]{0,60}"
    r"(invalid|corrupt|cannot be|could not be|not valid|must not|should not|not supported|"
    r"unsupported|not permitted)|without its required (following|preceding) item"
    r"|items are not persisted"
)

#: OpenAI, Azure, Groq, Mistral (pydantic), Gemini, serde, Go, Ollama, LiteLLM, OpenRouter.
UNKNOWN_FIELD = _any_case(
    r"unrecogni[sz]ed|unknown|unsupported|not support|n't support|not permitted|not allowed"
    r"|unexpected|extra (inputs?|fields?)|cannot find field|no longer|deprecated|additional "
    r"propert|not a valid (parameter|field)|invalid (parameter|argument|field)|does not accept"
    r"|too large|too long|at most|must be less|should be in|not (a )?recogni[sz]ed|unavailable now"
    r"|no endpoints"
)

#: Weaker words, enough for a field whose name is not an ordinary word.
REFUSED = _any_case(
    rf"{UNKNOWN_FIELD.pattern}|invalid|not valid|not enabled|unavailable|only|cannot|must|should"
    r"|may not|range|restricted|incompatible|不支持|不合法|非法|无效|取值"
)

#: The index of the tool in an error text.
TOOL_PLACES = (
    _any_case(r"function_?declarations[.\[]+(\d{1,6})"),
    _any_case(r"tools[.\[]+(\d{1,6})"),
)
SCHEMA = _any_case(r"schema|parameters|function|tool|properties|propert")

#: llama.cpp and LM Studio: a schema that has no grammar, which may be that of any tool.
NO_GRAMMAR = _any_case(r"schema (conversion failed|error at)|failed to parse grammar")

#: Moonshot, Volcengine: a schema that may be that of any tool.
BAD_SCHEMA = _any_case(r"tools\.function\.parameters")

#: Its place in the parameters of some tool: llama.cpp, Moonshot.
SCHEMA_PLACE = _any_case(
    r"schema error at #((?:/[\w$.-]+)+)|json schema\b.{0,30}at path '(properties[\w$.-]+)"
)

#: Too many tools, and the limit: OpenAI, Copilot, gateways.
TOO_MANY_TOOLS = _any_case(
    r"'tools': array too long.{0,40}maximum length (\d{1,4})"
    r"|more than (\d{1,4}) (?:tools|functions)"
    r"|(?:too many|number of) (?:tools|functions).{0,30}\b(?:max|most|limit)\D{0,20}(\d{1,4})"
    r"|(?:at most|maximum of|up to|max) (\d{1,4}) (?:tools|functions)"
    r"|(?:tools|functions|工具|函数)\D{0,20}最多\D{0,6}(\d{1,4})"
)

#: llama.cpp: a template that cannot be used with tools. Other errors have these words, too.
NO_PARSER = _any_case(r"\A(?!.*(exception|schema)).*unable to generate parser for this", re.DOTALL)

#: Rejections sent with a status of 500 or more: llama.cpp, Ollama, Python's servers.
MEANT = _any_case(
    rf"{NO_TOOLS.pattern}|{ALTERNATE.pattern}|{NO_GRAMMAR.pattern}|unexpected keyword"
    r"|not supported|\) to str|roles are supported|failed to load image|llava embedding"
    rf"|{_NO_VALUE}"
)
