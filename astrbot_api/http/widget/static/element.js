// The element <astrbot-chat>: a conversation in a shadow root.

const ICONS = {
  menu: "M4 6h16M4 12h16M4 18h16",
  add: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M5 12h14M13 6l6 6-6 6",
  stop: "M7 7h10v10H7z",
  attach: "M20 11l-8.5 8.5a5 5 0 01-7-7L13 4a3.3 3.3 0 014.7 4.7L9.5 17a1.7 1.7 0 01-2.4-2.4L14.5 7",
  voice: "M12 3a3 3 0 013 3v6a3 3 0 01-6 0V6a3 3 0 013-3zM6 11v1a6 6 0 0012 0v-1M12 18v3",
  chat: "M4 5h16v11H9l-5 4z",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 13h8l1-13",
};

const SCRIPT_URL = document.currentScript?.src ?? "";

const SHEET = new CSSStyleSheet();
SHEET.replaceSync(STYLE);

// Texts by error code. Their translations replace the server's message, which is English and names
// settings.
const ERRORS = [
  [/session_busy/, "Wait for the end of the answer."],
  [/_limited|too_many|_busy/, "Too many messages. Try again later."],
  [/_exhausted/, "The message limit is reached."],
  [/provider_|upstream_|_interrupted/, "The answer failed."],
  // Also of an upload or a list.
  [/_error/, "This failed. Try again later."],
  [/^context_/, "The conversation is too long."],
];

let ids = 0;

class AstrBotChat extends HTMLElement {
  static observedAttributes = ["lang", "heading", "theme"];

  /** Function that returns a session key or `{ api_key, username }`. Replaces `key` and `key-url`. */
  getKey = this.getKey ?? null; // set before the script was loaded

  /** Custom texts by their English originals. */
  texts = this.texts ?? {};

  #root = this.attachShadow({ mode: "open" });
  #busy = null; // { stream } of the running turn
  #opening = null; // { work, done, failed } of the conversation that is being loaded
  #sending = false; // whether a message waits for the loading
  #uploads = [];
  #sessionId = "";
  #user = "";
  #visited = null; // the response to the visit, if visitors need no key
  #lastUser = null;
  #lastBot = null;
  #ready = false;
  #cut = false; // whether an answer was running when the element was removed from the page
  #urls = []; // of the shown pictures, recordings and videos
  #follows = true; // whether to scroll to new messages

  connectedCallback() {
    if (this.#ready) {
      if (this.#cut) this.#reload();
      this.#cut = false;
      return;
    }
    this.#ready = true;
    this.#root.adoptedStyleSheets = [SHEET];
    this.#user = this.getAttribute("username") ?? "";
    const hasKey = this.getKey || ["key", "key-url", "public"].some((name) => this.hasAttribute(name));
    this.client = new Client(this.server, {
      apiKey: hasKey ? (renew) => this.#fetchKey(renew) : "",
      credentials: hasKey ? "omit" : "same-origin",
      retryS: Number(this.getAttribute("retry-s") ?? 60),
    });
    this.#build();
    if (!this.bubble) this.#start();
  }

  disconnectedCallback() {
    // A page that moves the element inserts it again at once.
    setTimeout(() => this.isConnected || this.#pause());
  }

  attributeChangedCallback() {
    if (this.#ready) this.#label();
  }

  /** Base URL of the API: the attribute `server`, or the origin of this script. */
  get server() {
    const named = this.getAttribute("server");
    if (named !== null) return new URL(named, document.baseURI).href;
    const at = SCRIPT_URL.lastIndexOf("/api/v1/");
    return at < 0 ? location.origin : SCRIPT_URL.slice(0, at);
  }

  // React and Vue set a property instead of an attribute if the element has one.
  set server(url) {
    url == null ? this.removeAttribute("server") : this.setAttribute("server", url);
  }

  get #takesFiles() {
    return this.getAttribute("files") !== "off" && this.#visited?.files !== false;
  }

  get bubble() {
    return this.getAttribute("mode") !== "inline";
  }

  /** Id of the shown session, or "" before the first message. */
  get sessionId() {
    return this.#sessionId;
  }

  /** Open the bubble. */
  open() {
    this.#panel.hidden = false;
    this.#launcher?.setAttribute("aria-expanded", "true");
    this.#start();
    this.#input.focus();
  }

  /** Close the bubble. */
  close() {
    if (!this.bubble) return;
    this.#panel.hidden = true;
    this.#launcher.setAttribute("aria-expanded", "false");
    this.#launcher.focus();
  }

  /** Send a text as the user, also before the bubble is opened. */
  send(text) {
    this.#start();
    this.#input.value = text;
    return this.#submit();
  }

  // --- parts -------------------------------------------------------------

  get #panel() { return this.#root.querySelector(".panel"); }
  get #launcher() { return this.#root.querySelector(".launcher"); }
  get #log() { return this.#root.querySelector(".log"); }
  get #input() { return this.#root.querySelector("textarea"); }
  get #status() { return this.#root.querySelector(".status"); }
  get #list() { return this.#root.querySelector(".sessions"); }
  get #chips() { return this.#root.querySelector(".chips"); }

  #t(text) {
    const language = (this.closest("[lang]")?.getAttribute("lang") || navigator.language || "en").toLowerCase();
    return this.texts[text] ?? (language.startsWith("zh") ? CHINESE[text] : null) ?? text;
  }

  #build() {
    const id = `astrbot-${(ids += 1)}`;
    const button = (name, label, action, extra = {}) => {
      const node = h("button", { type: "button", class: `icon ${name}`, "data-label": label, ...extra }, icon(name));
      node.addEventListener("click", action);
      return node;
    };
    const heading = h("h2", { id: `${id}-title` });
    const header = h("header", {},
      button("menu", "Conversations", () => this.#toggleList(), { "aria-expanded": "false" }),
      heading,
      button("add", "New conversation", () => this.#begin()),
    );
    if (this.bubble) header.append(button("close", "Close", () => this.close()));
    const file = h("input", { type: "file", multiple: "", hidden: "", tabindex: "-1", "aria-hidden": "true" });
    file.addEventListener("change", () => {
      this.#attach([...file.files]);
      file.value = "";
    });
    const input = h("textarea", { rows: "1", dir: "auto", "data-label": "Message", maxlength: "2000000" });
    input.addEventListener("input", () => this.#grow());
    input.addEventListener("keydown", (event) => this.#onKey(event));
    input.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) event.preventDefault();
      this.#attach(files);
    });
    const send = h("button", { type: "submit", class: "icon send", "data-label": "Send" }, icon("send"));
    const form = h("form", { class: "composer" }, file, input, send);
    if (this.#takesFiles) {
      input.before(button("attach", "Attach files", () => file.click()));
      if (navigator.mediaDevices && typeof MediaRecorder !== "undefined") {
        send.before(button("voice", "Record a voice message", () => this.#record(), { "aria-pressed": "false" }));
      }
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#busy) this.#busy.stream.stop().catch((error) => this.#say(this.#wordsOf(error)));
      else this.#submit();
    });
    const panel = h("section", { class: "panel", id, "aria-labelledby": `${id}-title`, role: this.bubble ? "dialog" : "region" },
      header,
      h("nav", { class: "sessions", hidden: "" }),
      h("div", { class: "log", role: "log", tabindex: "0" }),
      h("div", { class: "chips" }),
      h("p", { class: "status", role: "status" }),
      form,
    );
    const log = panel.querySelector(".log");
    log.addEventListener("scroll", () => {
      this.#follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    });
    log.addEventListener("click", () => setTimeout(() => this.#root.activeElement ?? this.#focusLog())); // a removed button
    new ResizeObserver(() => this.#scroll()).observe(log); // when opened or inserted, and by files or notes
    panel.addEventListener("dragover", (event) => event.preventDefault());
    panel.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#attach([...(event.dataTransfer?.files ?? [])]);
    });
    panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing) this.#list.hidden ? this.close() : this.#toggleList(false);
    });
    // The page cannot see that they are meant for a text field, and would run its shortcuts.
    for (const name of ["keydown", "keyup", "keypress", "paste", "drop"]) {
      panel.addEventListener(name, (event) => event.stopPropagation());
    }
    this.#root.append(panel);
    if (this.bubble) {
      panel.hidden = true;
      const launcher = h("button", {
        type: "button", class: "launcher", "aria-expanded": "false", "aria-controls": id, "data-label": "Open the chat",
      }, icon("chat"));
      launcher.addEventListener("click", () => (panel.hidden ? this.open() : this.close()));
      this.#root.append(launcher);
    }
    this.#label();
  }

  /** Set all labels in the current language. */
  #label() {
    const language = (this.closest("[lang]")?.getAttribute("lang") || navigator.language || "en").toLowerCase();
    this.#panel.lang = language.startsWith("zh") ? "zh-CN" : "en";
    this.#root.querySelector("h2").textContent = this.getAttribute("heading") ?? (this.#visited?.heading || this.#t("Chat"));
    for (const node of this.#root.querySelectorAll(".attach, .voice")) node.hidden = !this.#takesFiles;
    for (const node of this.#root.querySelectorAll("[data-label]")) {
      const text = this.#t(node.dataset.label);
      node.setAttribute("aria-label", text);
      node.tagName === "TEXTAREA" ? (node.placeholder = this.#t("Write a message")) : (node.title = text);
    }
    this.#log.setAttribute("aria-label", this.#t("Messages"));
    this.#list.setAttribute("aria-label", this.#t("Conversations"));
  }

  // --- authentication -----------------------------------------------------

  async #fetchKey(renew) {
    let found = this.getAttribute("key");
    if (this.getKey) found = await this.getKey();
    else if (this.hasAttribute("public")) found = await this.#visit(renew);
    else if (this.hasAttribute("key-url")) {
      found = await post(this.getAttribute("key-url"), { credentials: "same-origin", headers: { Accept: "application/json" } });
    }
    if (typeof found === "object" && found !== null) {
      this.#user = found.username ?? found.rules?.username ?? this.#user;
      return found.api_key ?? found.key;
    }
    return found;
  }

  /** Return a visitor's key: the stored one, or a new one if it is about to expire. */
  async #visit(renew) {
    const config = this.getAttribute("config") ?? "default";
    const place = `astrbot-visit:${this.server}:${config}`;
    let kept = readJson(readKept(place)) ?? {};
    const lasts = Date.parse(kept.expires_at) - Date.now() > 60_000;
    // Another page of the site may already have stored a new key.
    if (!lasts || (renew && kept.api_key === this.#visited?.api_key)) {
      kept = await post(`${this.client.base}/widget/visits`, {
        credentials: "omit",
        headers: { Accept: "application/json", "Content-Type": "application/json" },
        body: JSON.stringify({ config_id: config, visitor: kept.visitor ?? "" }),
      });
      keep(place, JSON.stringify(kept));
    }
    this.#visited = kept;
    this.#label();
    return kept;
  }

  async #who() {
    await this.client._getKey();
    return { username: this.#user || undefined };
  }

  get #place() {
    return `astrbot-chat:${this.server}:${this.getAttribute("config") ?? ""}:${this.#user}`;
  }

  // --- conversations ------------------------------------------------------

  /** Load a conversation. Messages that are sent during the load wait for it. */
  #load(work) {
    const load = { work };
    this.#opening = load;
    load.done = work(() => this.#opening === load).then((shown) => {
      if (shown && this.#opening === load) this.#opening = null;
    });
    return load.done;
  }

  /** Wait for the current load, and repeat it if it failed. */
  async #loaded() {
    if (this.#opening?.failed) {
      this.#root.querySelector(".failure")?.remove();
      this.#load(this.#opening.work);
    }
    while (this.#opening && !this.#opening.failed) await this.#opening.done;
    return !this.#opening;
  }

  /** Load the stored conversation, if none is shown. */
  #start() {
    if (!this.#log.hasChildNodes() && !this.#opening) this.#load((current) => this.#restore(current));
  }

  #reload() {
    return this.#load((current) => this.#show(this.#sessionId, current));
  }

  #loadFailed(error) {
    const load = this.#opening;
    load.failed = true;
    this.#showError(error, () => this.#load(load.work));
    return false;
  }

  /** Show the stored conversation. Returns whether it is shown, like all functions for `#load`. */
  async #restore(current) {
    try {
      await this.#who();
    } catch (error) {
      return current() && this.#loadFailed(error);
    }
    if (!current()) return false;
    const kept = this.getAttribute("session") ?? readKept(this.#place);
    if (kept) return this.#show(kept, current);
    this.#greet();
    return true;
  }

  #greet() {
    const greeting = this.getAttribute("greeting") ?? this.#visited?.greeting;
    if (greeting) this.#addMessage("bot").view.draw(greeting);
    const given = this.getAttribute("suggestions");
    const suggestions = given === null ? this.#visited?.suggestions : readJson(given);
    if (!Array.isArray(suggestions) || !suggestions.length) return;
    const row = h("div", { class: "suggestions" });
    for (const text of suggestions) {
      const one = h("button", { type: "button" }, String(text));
      one.addEventListener("click", () => this.send(String(text)));
      row.append(one);
    }
    this.#log.append(row);
  }

  #begin() {
    this.#opening = null;
    this.#leave();
    keep(this.#place, "");
    this.#greet();
    this.#input.focus();
  }

  /** Stop what needs the page. The turn continues on the server. */
  #pause() {
    this.recorder?.stop();
    this.#cut ||= Boolean(this.#busy && this.#sessionId);
    this.#busy?.stream.close();
    this.#setBusy(null);
  }

  #leave() {
    this.#busy?.stream.close();
    this.#setBusy(null);
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    this.#sessionId = "";
    this.#lastUser = this.#lastBot = null;
    this.#log.replaceChildren();
    this.#toggleList(false);
    this.#say("");
  }

  async #show(sessionId, current) {
    this.#leave();
    this.#sessionId = sessionId;
    keep(this.#place, sessionId);
    let session;
    try {
      session = await this.client.sessions.get(sessionId, await this.#who());
    } catch (error) {
      if (!current()) return false;
      if (error.status !== 404) return this.#loadFailed(error);
      this.#begin(); // the session was deleted elsewhere
      return true;
    }
    if (!current()) return false;
    this.#log.hidden = true; // without a layout for each message
    try {
      for (const message of session.history) this.#showStored(message);
    } finally {
      this.#log.hidden = false;
    }
    const [run] = session.active_runs ?? [];
    if (run) this.#follow(this.client.runs.resume(run.run_id, await this.#who()), this.#addMessage("bot"));
    this.#scroll(true);
    return true;
  }

  #showStored(message) {
    const who = message.content?.type === "bot" ? "bot" : "user";
    const shown = this.#addMessage(who);
    shown.id = message.id;
    const parts = message.content?.message ?? [];
    const text = parts.filter((one) => one.type === "plain").map((one) => one.text).join("");
    shown.setText(text);
    for (const part of parts) {
      if (part.type === "think") shown.setThinking(part.think);
      if (part.type === "tool_call") for (const call of part.tool_calls) shown.addTool(call.name, call.args, call.result);
      if (part.attachment_id) shown.addFile(part.type, part.attachment_id, part.filename ?? part.type);
    }
    if (message.content?.error) shown.addNote(this.#wordsOf(message.content.error));
    else this.#noteCut(shown, message.content?.agent_stats);
    this.#finish(shown);
  }

  async #toggleList(show = this.#list.hidden) {
    const menu = this.#root.querySelector(".menu");
    this.#list.hidden = !show;
    menu.setAttribute("aria-expanded", String(show));
    if (!show) return;
    const rows = h("ul");
    this.#list.replaceChildren(rows);
    try {
      let count = 0;
      for await (const session of this.client.sessions.list({ ...(await this.#who()), orderBy: "updated_at" })) {
        rows.append(this.#makeRow(session));
        if ((count += 1) === 50) break;
      }
      if (!count) this.#list.replaceChildren(h("p", {}, this.#t("No conversations yet.")));
    } catch (error) {
      this.#list.replaceChildren(h("p", {}, this.#wordsOf(error)));
    }
    this.#list.querySelector("button")?.focus();
  }

  #makeRow(session) {
    const title = session.display_name || this.#t("Untitled");
    const open = h("button", { type: "button", class: "row", dir: "auto" }, title);
    if (session.session_id === this.#sessionId) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => {
      this.#load((current) => this.#show(session.session_id, current));
      this.#input.focus();
    });
    const remove = h("button", { type: "button", class: "icon", "aria-label": `${this.#t("Delete")}: ${title}` }, icon("trash"));
    remove.addEventListener("click", async () => {
      if (!remove.classList.contains("sure")) {
        remove.classList.add("sure");
        remove.setAttribute("aria-label", `${this.#t("Delete?")} ${title}`);
        remove.replaceChildren(this.#t("Delete?"));
        return;
      }
      try {
        await this.client.sessions.delete(session.session_id, await this.#who());
      } catch (error) {
        this.#say(this.#wordsOf(error));
        return;
      }
      if (session.session_id === this.#sessionId) this.#begin();
      else this.#toggleList(true);
    });
    return h("li", {}, open, remove);
  }

  // --- one turn -----------------------------------------------------------

  async #submit() {
    const text = this.#input.value.trim();
    if (this.#busy || this.#sending || (!text && !this.#uploads.length)) return;
    const left = this.#uploads.filter((one) => !one.kept);
    if (left.length) {
      const failed = left.some((one) => one.failed);
      this.#say(failed ? this.#t("A file was not uploaded. Remove it, or attach it again.") : this.#t("Wait until the files are uploaded."));
      return;
    }
    const files = this.#uploads.map((one) => one.kept);
    const parts = files.map((one) => ({ type: one.type, attachment_id: one.attachment_id }));
    if (text) parts.unshift({ type: "plain", text });
    if (this.#opening) {
      this.#sending = true;
      const loaded = await this.#loaded();
      this.#sending = false;
      // Also sends text that was typed during the load. A run may have started in the meantime.
      return loaded && !this.#busy ? this.#submit() : undefined;
    }
    this.#input.value = "";
    this.#grow();
    this.#uploads = [];
    this.#drawChips();
    this.#root.querySelector(".suggestions")?.remove();
    const user = this.#addMessage("user");
    user.setText(text);
    for (const one of files) user.addFile(one.type, one.attachment_id, one.filename);
    await this.#ask(parts, user);
  }

  async #ask(parts, user) {
    const bot = this.#addMessage("bot");
    const stream = this.client.chat(parts, {
      username: this.#user || undefined,
      sessionId: this.#sessionId || undefined,
      configId: this.getAttribute("config") ?? undefined,
    });
    const error = await this.#follow(stream, bot, user);
    if (error && !stream.reply.runId) {
      bot.node.remove();
      this.#showError(error, () => this.#ask(parts, user)); // the user can send it again
    }
  }

  /** Show a stream in a message until its end. Return the error that broke it, or null. */
  async #follow(stream, bot, user = null) {
    const busy = { stream };
    this.#setBusy(busy);
    bot.node.setAttribute("aria-busy", "true");
    let drawn = 0;
    const draw = () => {
      drawn = 0;
      bot.setText(stream.reply.text);
      bot.setThinking(stream.reply.reasoning);
      this.#scroll();
    };
    let failure = null;
    try {
      for await (const event of stream) {
        if (event.pushed) {
          if (event.type === "text") this.#addMessage("bot", bot.node).setText(event.text);
          continue;
        }
        if (event.type === "session_started") {
          this.#sessionId = event.sessionId;
          keep(this.#place, event.sessionId);
        }
        if (event.type === "user_message_saved" && user) user.id = event.messageId;
        if (event.type === "tool_call") bot.addTool(event.name, event.arguments, null, event.id);
        if (event.type === "tool_result") bot.endTool(event.id, event.result);
        if (event.type === "approval_required") bot.addApproval(event, (decision) => this.#decide(stream, bot, event, decision));
        else bot.clearApprovals(); // the turn only continues when all calls are decided
        if (event.type === "attachment_saved") {
          const file = stream.reply.attachments.at(-1);
          bot.addFile(event.kind, event.attachmentId, file?.filename ?? event.kind);
        }
        drawn ||= requestAnimationFrame(draw);
      }
    } catch (error) {
      failure = error;
    }
    cancelAnimationFrame(drawn);
    if (this.#busy !== busy) return null; // another conversation is shown
    this.#setBusy(null);
    if (failure && !stream.reply.runId) return failure;
    draw();
    bot.node.removeAttribute("aria-busy");
    if (stream.reply.waiting.length) return null; // the stream continues after the last decision
    bot.id = stream.reply.messageId;
    const problem = stream.reply.error?.message;
    if (problem) {
      if (stream.reply.text === problem) bot.setText("");
      bot.addNote(this.#wordsOf(stream.reply.error));
    } else if (failure) this.#showError(failure, () => this.#reload());
    else this.#noteCut(bot, stream.reply.stats);
    if (user) this.#finish(user);
    this.#finish(bot);
    this.#scroll();
    this.#say(problem || failure ? "" : this.#t("The answer is complete."), true);
    return failure;
  }

  /** Decide a pending tool call. Return whether it worked; if not, the user can try again. */
  async #decide(stream, bot, approval, decision) {
    try {
      await stream.decide(approval.id, decision);
    } catch (error) {
      // Already decided elsewhere, and the turn may have ended since.
      if ([404, 409].includes(error.status) && !this.#busy) return this.#reload();
      this.#say(this.#wordsOf(error));
      return false;
    }
    this.#say("");
    if (!this.#busy && stream.reply.waiting.length) this.#follow(stream, bot);
    return true;
  }

  /** Add a note to an incomplete answer. */
  #noteCut(bot, stats) {
    if (stats?.finish_reason === "length") bot.addNote(this.#t("The answer was cut off at the model's length limit."));
    if (stats?.finish_reason === "content_filter") bot.addNote(this.#t("The rest of the answer was blocked by a content filter."));
  }

  async #regenerate() {
    const old = this.#lastBot;
    const message = old?.id ? old : this.#lastUser;
    if (this.#busy || !message?.id) return;
    const who = { username: this.#user || undefined };
    const stream = this.client.sessions.regenerate(this.#sessionId, message.id, who);
    const bot = this.#addMessage("bot");
    old?.node.replaceWith(bot.node);
    const error = await this.#follow(stream, bot);
    if (error && !stream.reply.runId) {
      if (error.code === "message_not_editable") return this.#reload(); // another tab went on
      old ? bot.node.replaceWith(old.node) : bot.node.remove();
      this.#showError(error, () => this.#regenerate());
    }
  }

  async #edit() {
    const message = this.#lastUser;
    if (this.#busy || !message?.id || message.body.hidden) return;
    const box = h("textarea", { dir: "auto", "aria-label": this.#t("Message") });
    box.value = message.text;
    const save = h("button", { type: "button", class: "primary" }, this.#t("Send"));
    const cancel = h("button", { type: "button" }, this.#t("Cancel"));
    const editor = h("div", { class: "editor" }, box, h("div", {}, cancel, save));
    message.body.hidden = true;
    message.body.after(editor);
    box.focus();
    const done = () => {
      this.#focusLog();
      editor.remove();
      message.body.hidden = false;
    };
    cancel.addEventListener("click", done);
    save.addEventListener("click", async () => {
      const text = box.value.trim();
      if (!text) return;
      try {
        const parts = [{ type: "plain", text }, ...message.files];
        await this.client.sessions.edit(this.#sessionId, message.id, parts, await this.#who());
      } catch (error) {
        this.#say(this.#wordsOf(error));
        return;
      }
      message.setText(text);
      done();
      await this.#regenerate();
    });
  }

  // --- messages -----------------------------------------------------------

  #addMessage(who, before = null) {
    const body = h("div", { class: "body", dir: "auto" });
    const name = h("span", { class: "hidden-label" }, this.#t(who === "bot" ? "Assistant" : "You"));
    const tools = h("div", { class: "tools" });
    const node = h("article", { class: `message ${who}` }, name, body, tools);
    const view = new MarkdownView(h("div", { class: "text" }), {
      copy: this.#t("Copy"),
      copyText: (copied, button) => this.#copy(copied, button),
      drawMath: (target, text, block) => this.#drawMath(target, text, block),
    });
    body.append(view.target);
    const calls = new Map();
    const message = {
      who, node, body, tools, view, id: null, text: "", files: [],
      setText: (text) => {
        if (text === message.text) return;
        message.text = text;
        if (who === "bot") view.draw(text);
        else view.target.textContent = text;
      },
      setThinking: (text) => {
        if (!text) return;
        message.thinking ??= h("details", { class: "thinking" }, h("summary", {}, this.#t("Thinking")), h("div"));
        if (!message.thinking.isConnected) view.target.before(message.thinking);
        message.thinking.lastChild.textContent = text;
      },
      addTool: (tool, args, result, id = "") => {
        const shown = h("details", { class: "tool" }, h("summary", {}, tool), h("pre", { tabindex: "0" }, toText(args)));
        view.target.before(shown);
        calls.set(id, shown);
        if (result != null) message.endTool(id, result);
      },
      addApproval: (approval, decide) => {
        if (body.querySelector(`.approval[data-id="${CSS.escape(approval.id)}"]`)) return; // a repeated event
        const choose = (text, decision, extra = {}) => {
          const node = h("button", { type: "button", ...extra }, text);
          node.addEventListener("click", async () => {
            this.#focusLog();
            for (const one of box.querySelectorAll("button")) one.disabled = true;
            if (await decide(decision)) box.remove();
            else for (const one of box.querySelectorAll("button")) one.disabled = false;
          });
          return node;
        };
        const box = h("div", { class: "approval", role: "group", "aria-label": approval.name, "data-id": approval.id },
          h("p", {}, this.#t("This needs your approval:")),
          h("pre", { tabindex: "0" }, `${approval.name} ${showHidden(toText(approval.arguments))}`),
          h("div", {}, choose(this.#t("Approve"), "approve", { class: "primary" }), choose(this.#t("Reject"), "reject")),
        );
        body.append(box);
        this.#scroll();
      },
      clearApprovals: () => body.querySelectorAll(".approval").forEach((one) => one.remove()),
      endTool: (id, result) => calls.get(id)?.append(h("pre", { tabindex: "0" }, toText(result))),
      addFile: (type, attachmentId, filename) => {
        message.files.push({ type, attachment_id: attachmentId });
        body.append(this.#makeFile(type, attachmentId, filename));
      },
      addNote: (text) => body.append(h("p", { class: "note", role: "alert" }, text)),
    };
    if (before) before.before(node);
    else this.#log.append(node);
    this.#scroll(who === "user");
    return message;
  }

  /** Add buttons to the last question and answer, and remove them from earlier ones. */
  #finish(message) {
    const button = (text, action) => {
      const node = h("button", { type: "button" }, this.#t(text));
      node.addEventListener("click", action);
      return node;
    };
    this.#lastBot?.tools.querySelector(".again")?.remove();
    if (message.who === "user") {
      this.#lastUser?.tools.replaceChildren();
      this.#lastUser = message;
      this.#lastBot = null;
      message.tools.append(button("Edit", () => this.#edit()));
      return;
    }
    this.#lastBot = message;
    if (message.text) message.tools.append(button("Copy", (event) => this.#copy(message.text, event.currentTarget)));
    const again = button("Regenerate", () => this.#regenerate());
    again.classList.add("again");
    message.tools.append(again);
  }

  #makeFile(type, attachmentId, filename) {
    const holder = h("div", { class: "file" });
    const save = h("button", { type: "button" }, `${filename} ⤓`);
    save.addEventListener("click", async () => {
      try {
        const link = h("a", { href: URL.createObjectURL(await this.client.files.download(attachmentId)), download: filename });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      } catch (error) {
        this.#say(this.#wordsOf(error));
      }
    });
    holder.append(save);
    const tags = { image: "img", record: "audio", video: "video" };
    if (tags[type]) this.#preview(tags[type], attachmentId, filename, holder);
    return holder;
  }

  async #preview(tag, attachmentId, filename, holder) {
    try {
      const blob = await this.client.files.download(attachmentId);
      const node = h(tag, tag === "img" ? { alt: filename } : { controls: "", "aria-label": filename });
      this.#urls.push((node.src = URL.createObjectURL(blob)));
      for (const name of ["load", "loadedmetadata"]) node.addEventListener(name, () => this.#scroll());
      node.addEventListener("error", () => node.remove()); // the page's CSP does not allow blob:
      holder.prepend(node);
    } catch {
      // without a preview; the button remains
    }
  }

  #drawMath(target, text, block) {
    const shown = h("span");
    loadMath(this.server).then((temml) => {
      temml.render(text, shown, { displayMode: block, throwOnError: true, errorColor: "currentColor" });
      target.replaceChildren(...shown.childNodes);
    }).catch(() => {}); // the formula remains as source text
  }

  // --- files --------------------------------------------------------------

  #attach(files) {
    if (!this.#takesFiles) return;
    for (const file of files) this.#upload(file);
  }

  async #upload(file) {
    const abort = new AbortController();
    const one = { name: file.name || "file", abort, done: 0, kept: null, failed: "" };
    this.#uploads.push(one);
    this.#drawChips();
    try {
      await this.#who();
      one.kept = await this.client.files.upload(file, {
        filename: one.name,
        signal: abort.signal,
        progress: (done, total) => {
          one.done = total ? done / total : 0;
          one.bar.value = one.done;
        },
      });
    } catch (error) {
      one.failed = this.#wordsOf(error);
    }
    this.#drawChips();
  }

  #drawChips() {
    this.#say(""); // a note about uploads
    this.#chips.replaceChildren(...this.#uploads.map((one) => {
      one.bar = h("progress", { max: "1", "aria-label": one.name });
      one.bar.value = one.kept ? 1 : one.done;
      const remove = h("button", { type: "button", "aria-label": `${this.#t("Remove")}: ${one.name}` }, "✕");
      remove.addEventListener("click", () => {
        one.abort.abort();
        this.#uploads = this.#uploads.filter((other) => other !== one);
        this.#drawChips();
      });
      const state = one.failed ? h("span", { class: "note", role: "alert" }, one.failed) : one.bar;
      return h("div", { class: "chip" }, h("span", {}, one.name), ...(one.kept ? [] : [state]), remove);
    }));
  }

  async #record() {
    const button = this.#root.querySelector(".voice");
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    try {
      const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
      const pieces = [];
      const recorder = new MediaRecorder(sound);
      this.recorder = recorder;
      recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
      recorder.addEventListener("stop", () => {
        for (const track of sound.getTracks()) track.stop();
        this.recorder = null;
        button.setAttribute("aria-pressed", "false");
        this.#say("");
        const type = recorder.mimeType || "audio/webm";
        const ending = type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm";
        this.#attach([new File(pieces, `voice.${ending}`, { type })]);
      });
      recorder.start();
      button.setAttribute("aria-pressed", "true");
      this.#say(this.#t("Recording. Press the button again to finish."));
    } catch {
      this.#say(this.#t("The microphone cannot be used."));
    }
  }

  // --- helpers ------------------------------------------------------------

  #setBusy(busy) {
    this.#busy = busy;
    const send = this.#root.querySelector(".send");
    send.dataset.label = busy ? "Stop" : "Send";
    send.replaceChildren(icon(busy ? "stop" : "send"));
    this.toggleAttribute("busy", Boolean(busy));
    this.#label();
  }

  #onKey(event) {
    // In Safari, the key that ends a composition is not composing, but has this code.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#submit();
  }

  #grow() {
    const input = this.#input;
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 200)}px`;
  }

  /** The texts for a key that is missing or not valid are for users of the page /chat. */
  #wordsOf(error) {
    if (this.hasAttribute("linked")) {
      if (error.code === "missing_api_key") return this.#t("Log in, or open the complete link that you were given.");
      if (error.code === "invalid_api_key") return this.#t("This link is no longer valid. Ask for a new one.");
    }
    const lost = error instanceof ConnectionLost || error.cause instanceof TypeError;
    if (lost) return this.#t("The connection broke. Try again later.");
    const text = ERRORS.find(([codes]) => codes.test(error.code))?.[1];
    const own = this.#t(text);
    return own !== text ? own : error.message || String(error);
  }

  async #copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // There is no clipboard without HTTPS, and in some frames.
      const area = h("textarea", { class: "hidden-label" });
      area.value = text;
      button.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    this.#say(this.#t("Copied."));
  }

  /** Show a short text below the messages. A quiet text is only for screen readers. */
  #say(text, quiet = false) {
    this.#status.textContent = text;
    this.#status.classList.toggle("hidden-label", quiet || !text);
  }

  #showError(error, retry) {
    const again = h("button", { type: "button" }, this.#t("Try again"));
    const box = h("div", { class: "failure", role: "alert" }, h("p", {}, this.#wordsOf(error)), again);
    again.addEventListener("click", () => {
      box.remove();
      retry();
    });
    this.#log.append(box);
    this.#scroll(true);
  }

  /** Keep the focus when a focused button is removed. */
  #focusLog() {
    this.#log.focus({ preventScroll: true });
  }

  /** Scroll to the end, unless the user scrolled up. */
  #scroll(always = false) {
    if (always || this.#follows) this.#log.scrollTop = this.#log.scrollHeight;
  }
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Request a key and return it. The client adds nothing to a ClientError. */
async function post(url, options) {
  const answer = await fetch(url, { method: "POST", ...options });
  const body = readJson(await answer.text());
  if (answer.ok && body) return body.data ?? body;
  throw Object.assign(new ClientError(body?.message ?? `HTTP ${answer.status}`), { code: body?.code });
}

function toText(value) {
  return typeof value === "string" ? value : JSON.stringify(value ?? {}, null, 1);
}

// If storage is not allowed, a reload begins a new conversation.
function keep(place, sessionId) {
  try {
    if (sessionId) localStorage.setItem(place, sessionId);
    else localStorage.removeItem(place);
  } catch {
    // storage is not allowed
  }
}

function readKept(place) {
  try {
    return localStorage.getItem(place) ?? "";
  } catch {
    return "";
  }
}

/** Return parsed JSON, or null if the text is not JSON. */
function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

let mathLoading = null;

/** Load the formula renderer on first use. */
function loadMath(server) {
  mathLoading ??= new Promise((resolve, reject) => {
    const url = `${server.replace(/\/+$/, "")}/api/v1/widget/temml.min.js`;
    // Pages with require-trusted-types-for must allow this policy by name.
    const policy = globalThis.trustedTypes?.createPolicy("astrbot-chat", { createScriptURL: (one) => one });
    const script = h("script");
    script.src = policy ? policy.createScriptURL(url) : url;
    script.addEventListener("load", () => resolve(globalThis.temml));
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  return mathLoading;
}

if (!customElements.get("astrbot-chat")) customElements.define("astrbot-chat", AstrBotChat);
