// Display of messages: in the console during a stream, and in sessions from the database.

import { ago, copy, explain, h, icon, t } from "./dom.js";
import { MarkdownView, showHidden } from "./markdown.js";

/** Create an element for a file. `load(id)` returns its blob. */
export function mediaElement(type, id, name, load) {
  const chip = h("a", { class: "filechip", download: name || "file" }, icon("file"), name || id || t("File"));
  if (!id || !load) return chip;
  const box = h("div", {}, chip);
  if (type === "file") {
    chip.href = "#";
    chip.addEventListener("click", async (event) => {
      if (chip.href.startsWith("blob:")) return;
      event.preventDefault();
      // Download the bytes on a click. Opened in a tab, an HTML file would run in this origin.
      const bytes = new Blob([await load(id)], { type: "application/octet-stream" });
      chip.href = URL.createObjectURL(bytes);
      chip.click();
      const url = chip.href;
      chip.href = "#";
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    });
    return box;
  }
  load(id).then((blob) => {
    const url = URL.createObjectURL(blob);
    const element = type === "image" ? h("img", { class: "media", src: url, alt: name || t("Picture") })
      : h(type === "record" ? "audio" : "video", { class: "media", src: url, controls: true, "aria-label": name });
    box.replaceChildren(element);
  }, () => {});
  return box;
}

function reasoningElement(text = "") {
  const body = h("div", {}, text);
  const element = h("details", { class: "fold" }, h("summary", {}, icon("think"), t("Reasoning")), body);
  return { element, replace: (all) => body.replaceChildren(all) };
}

function textElement(text = "") {
  const element = h("div", { class: "bubble rich" });
  const view = new MarkdownView(element, { copy: t("Copy"), copyText: copy, drawMath() {} });
  view.draw(text);
  return { element, replace: (all) => view.draw(all) };
}

const pretty = (value) => typeof value === "string" ? value : JSON.stringify(value, null, 2);

export function toolElement(call) {
  const result = h("dd", {}, h("span", { class: "muted" }, t("Running…")));
  const mark = h("span", { class: "badge" }, t("running"));
  const element = h("details", { class: "fold tool" },
    h("summary", {}, icon("tool"), h("b", {}, call.name ?? t("Tool")), mark),
    h("div", {}, h("dl", {}, h("dt", {}, t("Arguments")), h("dd", {}, h("pre", { tabindex: "0" }, pretty(call.args ?? {}))), h("dt", {}, t("Result")), result)));
  const finish = (text) => {
    result.replaceChildren(h("pre", { tabindex: "0" }, pretty(text)));
    mark.textContent = t("done");
    mark.className = "badge good";
  };
  const progress = ({ progress: done, total, message }) => {
    mark.textContent = [total ? `${done} / ${total}` : `${done}`, message].filter(Boolean).join(": ");
  };
  if (call.result !== undefined && call.result !== null) finish(call.result);
  return { element, finish, progress };
}

/** A call that needs approval. `decide(decision)` returns whether it is decided. */
function approvalElement({ name, arguments: args }, decide) {
  const button = (label, decision, kind = "") => h("button", { class: `btn small ${kind}`, type: "button", onclick: async () => {
    const buttons = element.querySelectorAll("button");
    buttons.forEach((one) => { one.disabled = true; });
    if (!await decide(decision)) buttons.forEach((one) => { one.disabled = false; });
  } }, label);
  const element = h("div", { class: "note warn stack", role: "group", "aria-label": name },
    h("p", {}, t("This needs your approval:"), " ", h("b", {}, name)), h("pre", { tabindex: "0" }, showHidden(pretty(args ?? {}))),
    h("div", { class: "actions" }, button(t("Approve"), "approve", "primary"), button(t("Reject"), "reject")));
  return element;
}

export function userMessage(parts, name, load, time) {
  return h("div", { class: "msg user" },
    h("div", { class: "by" }, h("b", {}, name), time ? ago(time) : null),
    parts.map((part) => {
      if (part.type === "plain") return h("div", { class: "bubble plain" }, part.text);
      if (part.type === "reply") return h("div", { class: "small muted" }, t("In reply to message {id}", { id: part.message_id }));
      return mediaElement(part.type, part.attachment_id, part.filename, load);
    }));
}

/** A button that copies an answer as Markdown. */
function copyButton(text) {
  const button = h("button", { class: "btn ghost icon-only small", type: "button", "aria-label": t("Copy"), title: t("Copy"), onclick: () => copy(text, button) }, icon("copy"));
  return button;
}

/** A stored message of the agent. */
export function storedAnswer(content, load, time) {
  const text = (content.message ?? []).filter((part) => part.type === "plain").map((part) => part.text ?? "").join("");
  const box = h("div", { class: "msg" }, h("div", { class: "by" }, h("b", {}, t("Agent")), time ? ago(time) : null, text ? copyButton(text) : null));
  for (const part of content.message ?? []) {
    if (part.type === "think") box.append(reasoningElement(part.think).element);
    else if (part.type === "tool_call") for (const call of part.tool_calls ?? []) box.append(toolElement(call).element);
    else if (part.type === "plain") box.append(textElement(part.text).element);
    else box.append(mediaElement(part.type, part.attachment_id, part.filename, load));
  }
  if (content.error) box.append(h("p", { class: "note bad" }, explain(content.error.message, content.error.code)));
  box.append(...cutNotes(content.agent_stats));
  return box;
}

/** Return a note for an incomplete answer. */
function cutNotes(stats) {
  const texts = {
    length: t("The answer was cut off at the model's length limit."),
    content_filter: t("The rest of the answer was blocked by a content filter."),
  };
  const text = texts[stats?.finish_reason];
  return text ? [h("p", { class: "note warn" }, text)] : [];
}

/** A streamed message of the agent, by the events of client.js. */
export class LiveAnswer {
  #approvals = new Map(); // pending calls: { element, settled }
  #released = null;

  /** `decide(id, decision)` sends a decision and returns whether the call is decided. */
  constructor(load, decide) {
    this.load = load;
    this.decide = decide;
    this.tools = new Map();
    this.parts = []; // shown parts in order: { kind, element, text, replace }
    this.waiting = h("div", { class: "bubble cursor" }, h("span", { class: "visually-hidden" }, t("The agent is answering.")));
    this.element = h("div", { class: "msg", "aria-busy": "true" }, h("div", { class: "by" }, h("b", {}, t("Agent"))), this.waiting);
  }

  #add(element, kind, replace) {
    this.#draw();
    this.element.insertBefore(element, this.waiting);
    this.parts.push({ kind, element, text: "", replace });
  }

  /** Extend the last part, or begin one. */
  #append(kind, text) {
    if (this.parts.at(-1)?.kind !== kind) {
      const { element, replace } = kind === "text" ? textElement() : reasoningElement();
      this.#add(element, kind, replace);
    }
    this.parts.at(-1).text += text;
    // Render once per frame, independent of the number of tokens.
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  #draw() {
    const last = this.parts.at(-1);
    last?.replace?.(last.text);
  }

  /** Remove the text of a step that is repeated. */
  #rewind({ chars, reasoningChars, calls, files }) {
    const left = { text: chars, reasoning: reasoningChars, call: calls, file: files };
    for (let at = this.parts.length - 1; at >= 0; at -= 1) {
      const part = this.parts[at];
      if (!left[part.kind]) continue;
      const said = [...part.text];
      const taken = part.kind === "call" || part.kind === "file" ? 1 : Math.min(said.length, left[part.kind]);
      left[part.kind] -= taken;
      part.text = said.slice(0, said.length - taken).join("");
      if (part.text) {
        part.replace(part.text);
      } else {
        part.element.remove();
        this.parts.splice(at, 1);
      }
    }
  }

  /** Wait until each pending call is decided. Returns false if there is none. */
  async decided() {
    if (!this.#approvals.size) return false;
    await new Promise((resolve) => { this.#released = resolve; });
    return true;
  }

  /** Stop waiting for decisions. */
  release() {
    for (const element of this.#approvals.values()) element.remove();
    this.#approvals.clear();
    this.#released?.();
    this.#released = null;
  }

  #ask(call) {
    const { id } = call;
    const decide = async (decision) => {
      const settled = await this.decide(id, decision);
      if (!settled) return false;
      element.remove();
      this.#approvals.delete(id);
      if (!this.#approvals.size) this.release();
      return true;
    };
    const element = approvalElement(call, decide);
    this.#approvals.get(id)?.remove();
    this.#approvals.set(id, element);
    this.#add(element, "approval");
  }

  apply(event) {
    if (event.type === "approval_required") {
      this.#ask(event);
      return;
    }
    if (this.#approvals.size) this.release(); // decided elsewhere
    if (event.type === "text" || event.type === "reasoning") {
      this.#append(event.type, event.text);
    } else if (event.type === "tool_call") {
      const made = toolElement({ name: event.name, args: event.arguments });
      this.#add(made.element, "call");
      this.tools.set(event.id, made);
    } else if (event.type === "tool_result") {
      this.tools.get(event.id)?.finish(event.result);
    } else if (event.raw.type === "tool_progress") {
      this.tools.get(event.raw.data.id)?.progress(event.raw.data);
    } else if (event.type === "media") {
      this.media = event;
    } else if (event.type === "attachment_saved" && this.media) {
      this.#add(mediaElement(this.media.kind, event.attachmentId, this.media.filename, this.load), "file");
      this.media = null;
    } else if (event.type === "error") {
      this.#add(h("p", { class: "note bad", role: "alert" }, explain(event.message, event.code)), "error");
    } else if (event.type === "rewind") {
      this.#rewind(event);
    } else if (event.type === "agent_stats") {
      this.stats = event.stats;
    } else if (event.type === "end") {
      this.finish();
    }
  }

  finish(note) {
    this.#draw();
    this.waiting.remove();
    this.element.removeAttribute("aria-busy");
    if (note) this.element.append(note);
    const text = this.parts.filter((part) => part.kind === "text").map((part) => part.text).join("");
    if (text && !this.copied) {
      this.copied = copyButton(text);
      this.element.querySelector(".by").append(this.copied);
    }
    const stats = this.stats;
    if (stats) {
      this.element.append(...cutNotes(stats));
      const tokens = stats.token_usage;
      const seconds = stats.end_time - stats.start_time;
      this.element.append(h("div", { class: "small muted" }, t("{input} tokens in, {output} out, {seconds} s", {
        input: tokens.input_other + tokens.input_cached, output: tokens.output, seconds: seconds.toFixed(1) })));
      this.stats = null;
    }
  }
}
