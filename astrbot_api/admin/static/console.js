// The console: uses the real API with a real key, like any other client.

import { ApiFault, adminData, byId, codeBox, emptyState, explain, h, icon, openDialog, roots, t, toast } from "./dom.js";
import { Attaching } from "./attaching.js";
import { Client, ConnectionLost } from "./client.js";
import { LiveAnswer, storedAnswer, userMessage } from "./messages.js";

const STATE = "astrbot_console";
const KEYS = "astrbot_console_keys";
const MAX_EVENTS = 1000;
const RETRY_S = 90; // of an answer; longer than a silent connection is read

const state = { key: "", config: "", user: "", session: "", run: "", unsent: null, ...JSON.parse(sessionStorage.getItem(STATE) ?? "{}") };
const save = () => sessionStorage.setItem(STATE, JSON.stringify(state));

const thread = byId("thread");
const scroll = byId("scroll");
const message = byId("message");
const attaching = new Attaching(byId("attached"), upload);
let client; // for single requests, without retries
let answers; // for streams, which continue after failures
connect();
let busy = false;
let live = null; // { answer, stream } that is being received

// Keys. A stored key has no secret, so the console gets a session key for it.

const cachedKeys = () => JSON.parse(sessionStorage.getItem(KEYS) ?? "{}");

async function secretOf(choice, renew) {
  const known = cachedKeys();
  if (!choice.startsWith("pasted:") && (renew || !known[choice])) {
    try {
      known[choice] = await adminData("console-key", { method: "POST", body: { key_id: choice } });
    } catch (error) {
      if (!known[choice]) throw error; // otherwise the error of the old key is shown
    }
    sessionStorage.setItem(KEYS, JSON.stringify(known));
  }
  return known[choice].api_key;
}

/** Use the selected key. */
function connect() {
  const choice = state.key;
  const options = { apiKey: (renew) => secretOf(choice, renew), credentials: "omit" };
  client = new Client(roots.api, { ...options, retryS: 0 });
  answers = new Client(roots.api, { ...options, retryS: RETRY_S });
}

async function pasteKey() {
  const input = h("input", { type: "password", id: "pasted", autocomplete: "off", spellcheck: "false", autofocus: true });
  const secret = await openDialog(t("Paste a key"), (close) => h("form", { class: "stack", onsubmit: (event) => {
    event.preventDefault();
    close(input.value.trim());
  } }, h("div", { class: "field" }, h("label", { for: "pasted" }, t("Key")), input, h("span", { class: "hint" }, t("It is kept in this tab until you close it."))),
  h("div", { class: "actions end" }, h("button", { class: "btn primary", type: "submit" }, t("Use key")))));
  if (!secret) return null;
  const name = `pasted:${secret.slice(0, 12)}`;
  sessionStorage.setItem(KEYS, JSON.stringify({ ...cachedKeys(), [name]: { api_key: secret } }));
  return name;
}

const loadFile = (id) => client.files.download(id);

async function upload(file, options) {
  try {
    return await client.files.upload(file, options);
  } catch (error) {
    throw new Error(explainFault(error), { cause: error });
  }
}

/** Return the text for an error of the client or of the owner's routes. */
function explainFault(error) {
  const fault = error.cause?.status === undefined ? error : error.cause;
  if (fault instanceof ConnectionLost || fault.name === "AbortError") return t("The server does not respond. Is it running?");
  return fault instanceof ApiFault ? fault.message : explain(fault.message, fault.code);
}

// Requests and events

const eventsList = byId("events");
let eventCount = 0;

function noteEvent(id, event) {
  eventCount += 1;
  byId("counter").textContent = t("{count} events", { count: eventCount });
  const pinned = eventsList.scrollHeight - eventsList.scrollTop - eventsList.clientHeight < 40;
  eventsList.append(h("div", {}, h("span", { class: "at" }, id ?? ""), h("span", { class: "kind" }, event.type), " ", JSON.stringify(event)));
  if (eventsList.children.length > MAX_EVENTS) eventsList.firstChild.remove();
  if (pinned) eventsList.scrollTop = eventsList.scrollHeight;
}

function bodyOf(text, files = attaching.ready) {
  const parts = files.map((file) => ({ type: file.type, attachment_id: file.id }));
  const content = parts.length ? [...(text ? [{ type: "plain", text }] : []), ...parts] : text;
  return { message: content, username: state.user, ...(state.session ? { session_id: state.session } : {}), ...(state.config ? { config_id: state.config } : {}) };
}

function showCalls() {
  const body = JSON.stringify(bodyOf(message.value.trim() || "Hello"), null, 2);
  const url = `${location.origin}${roots.api}/chat`;
  const python = [
    "import json", "import os", "import urllib.request", "",
    `body = json.loads(r'''${body.replaceAll("'", "\\u0027")}''')`,
    "request = urllib.request.Request(", `    ${JSON.stringify(url)},`, "    data=json.dumps(body).encode(),",
    "    headers={", '        "Authorization": "Bearer " + os.environ["ASTRBOT_KEY"],', '        "Content-Type": "application/json",', "    },", ")",
    "with urllib.request.urlopen(request) as answer:", "    for line in answer:", '        if line.startswith(b"data: "):',
    "            event = json.loads(line[6:])", '            if event["type"] == "plain" and event["chain_type"] is None:',
    '                print(event["data"], end="", flush=True)',
  ].join("\n");
  const curl = `curl -N ${url} \\\n  -H "Authorization: Bearer $ASTRBOT_KEY" \\\n  -H 'Content-Type: application/json' \\\n  -d '${body.replaceAll("'", "'\\''")}'`;
  const isCurl = byId("tab-curl").getAttribute("aria-selected") === "true";
  byId("calls").replaceChildren(codeBox(isCurl ? "curl" : "Python", isCurl ? curl : python), h("p", { class: "hint" }, t("The same request, with your key in ASTRBOT_KEY.")));
}

const tabs = ["events", "curl", "python"].map((name) => byId(`tab-${name}`));

function selectTab(chosen) {
  tabs.forEach((tab) => {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
  });
  const showsEvents = chosen === tabs[0];
  eventsList.hidden = !showsEvents;
  byId("calls").hidden = showsEvents;
  byId("calls").setAttribute("aria-labelledby", chosen.id);
  if (!showsEvents) showCalls();
}

tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => selectTab(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(at + step + tabs.length) % tabs.length];
    selectTab(next);
    next.focus();
  });
});

// The conversation

function setBusy(value) {
  busy = value;
  byId("send").hidden = value;
  byId("stop").hidden = !value;
}

function add(element) {
  thread.querySelector(".empty")?.remove();
  const pinned = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  thread.append(element);
  if (pinned) scroll.scrollTop = scroll.scrollHeight;
}

function showEmpty() {
  thread.replaceChildren(emptyState("chat", t("Talk to your agent"), t("Messages are sent through the API with the selected key, like those of other clients.")));
}

function follow(event, answer) {
  if (event.type === "session_started") state.session = event.sessionId;
  if (event.type === "run_started") Object.assign(state, { run: event.runId, unsent: null });
  if (event.type === "end") state.run = "";
  if (["session_started", "run_started", "end"].includes(event.type)) save();
  const pinned = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  if (!event.pushed) answer.apply(event);
  else if (event.type === "text") answer.element.before(storedAnswer({ message: [{ type: "plain", text: event.text }] }, loadFile));
  if (pinned) requestAnimationFrame(() => { scroll.scrollTop = scroll.scrollHeight; });
}

/** Show a stream to its end, which may follow an approval. `onFault` extends an error note. */
async function readTurn(answer, stream, onFault = () => []) {
  setBusy(true);
  live = { answer, stream };
  try {
    do {
      let ended = false;
      for await (const event of live.stream) {
        noteEvent(event.number, event.raw);
        follow(event, answer);
        ended ||= event.type === "end";
      }
      if (ended) break;
      stream = live.stream;
      live.stream = answers.runs.resume(stream.reply.runId, { username: state.user, after: stream.lastEventId });
    } while (await answer.decided());
    answer.finish();
  } catch (error) {
    state.run = "";
    save();
    answer.release();
    const text = [error.status, explainFault(error)].filter(Boolean).join(": ");
    answer.finish(h("div", { class: "note bad", role: "alert" }, h("p", {}, text), ...onFault()));
  } finally {
    setBusy(false);
    live = null;
    message.focus();
  }
}

/** Decide about a pending call. Returns whether it is decided. */
async function decide(id, decision) {
  try {
    await live.stream.decide(id, decision);
  } catch (error) {
    if (error.status !== 409) { // 409: already decided elsewhere
      toast(explainFault(error), "bad");
      return false;
    }
  }
  return true;
}

// A message is kept until the server has started its turn. Its idempotency key lets a retry join
// a turn that the server has already started.

const newWord = () => [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");

async function send() {
  if (busy || attaching.waits || (!message.value.trim() && !attaching.files.length)) return;
  const user = byId("user").value.trim();
  if (!state.key || !user) {
    toast(state.key ? t("Enter a username first.") : t("Choose a key first."), "bad");
    byId(state.key ? "user" : "key").focus();
    return;
  }
  if (!await attaching.settled()) {
    toast(t("A file was not uploaded. Retry the upload, or remove the file."), "bad");
    return;
  }
  const text = message.value.trim();
  state.user = user;
  const files = attaching.take().map(({ id, type, name }) => ({ id, type, name }));
  const unsent = { word: newWord(), text, files, body: bodyOf(text, files) };
  message.value = "";
  grow();
  await deliver(unsent, showUnsent(unsent));
}

function showUnsent({ body, files }) {
  const parts = typeof body.message === "string" ? [{ type: "plain", text: body.message }]
    : body.message.map((part) => ({ ...part, filename: files.find((file) => file.id === part.attachment_id)?.name }));
  const shown = userMessage(parts, body.username, loadFile);
  add(shown);
  return shown;
}

async function deliver(unsent, shown) {
  state.unsent = unsent;
  save();
  const answer = new LiveAnswer(loadFile, decide);
  add(answer.element);
  scroll.scrollTop = scroll.scrollHeight;
  const { message: content, ...more } = unsent.body;
  await readTurn(answer, answers.chat(content, { ...more, idempotencyKey: unsent.word }),
    () => (state.unsent ? unsentButtons(unsent, shown, answer.element) : []));
}

/** Actions for a message that was not sent. */
function unsentButtons(unsent, shown, note) {
  const button = (label, act) => h("button", { class: "btn small", type: "button", onclick: () => {
    if (busy) return;
    note.remove();
    act();
  } }, label);
  return [h("div", { class: "actions" },
    button(t("Send again"), () => deliver(unsent, shown)),
    button(t("Edit message"), () => {
      shown.remove();
      state.unsent = null;
      save();
      message.value = [unsent.text, message.value].filter(Boolean).join("\n");
      attaching.restore(unsent.files);
      grow();
      message.focus();
    }))];
}

/** After a reload: restore a message whose sending was not confirmed. */
function restoreUnsent() {
  if (!state.unsent) return;
  const shown = showUnsent(state.unsent);
  const note = h("div", { class: "note bad msg", role: "alert" }, h("p", {}, t("This message was not sent, or its answer was lost.")));
  note.append(...unsentButtons(state.unsent, shown, note));
  add(note);
}

async function stop() {
  if (!state.run) { // the server does not respond
    live.stream.close();
    return;
  }
  try {
    await live.stream.stop();
    live?.answer.release();
  } catch (error) {
    toast(explainFault(error), "bad");
  }
}

/** After a reload: show the stored messages, and resume a running turn. */
async function restore() {
  if (!state.session || !state.key) {
    showEmpty();
    return restoreUnsent();
  }
  try {
    const query = { username: state.user, limit: 100, order: "desc" };
    const page = await client.request("GET", `/chat/sessions/${encodeURIComponent(state.session)}/messages`, { query });
    thread.replaceChildren(...page.messages.reverse().map(showStored));
  } catch (error) {
    state.run = "";
    if ([403, 404].includes(error.status)) state.session = "";
    else toast(explainFault(error), "bad"); // the session continues with the next message
    save();
    showEmpty();
    return restoreUnsent();
  }
  scroll.scrollTop = scroll.scrollHeight;
  if (!state.run) return restoreUnsent();
  const answer = new LiveAnswer(loadFile, decide);
  add(answer.element);
  scroll.scrollTop = scroll.scrollHeight;
  return readTurn(answer, answers.runs.resume(state.run, { username: state.user }));
}

function showStored(row) {
  const content = row.content;
  return content.type === "user" ? userMessage(content.message, row.sender_name ?? state.user, loadFile, row.created_at) : storedAnswer(content, loadFile, row.created_at);
}

// The form

function grow() {
  message.style.height = "auto";
  message.style.height = `${Math.min(200, message.scrollHeight + 2)}px`;
}

message.addEventListener("input", grow);
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) { // 229: Safari, after a composition
    event.preventDefault();
    send();
  }
});
message.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (!files.length) return;
  event.preventDefault();
  attaching.add(files);
});
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("send").disabled = false;
byId("stop").addEventListener("click", stop);
byId("attach").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  attaching.add([...event.target.files]);
  event.target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.querySelector(".console-main").addEventListener(name, (event) => {
    event.preventDefault();
    byId("composer").classList.toggle("drop", name === "dragover");
    if (name === "drop") attaching.add([...event.dataTransfer.files]);
  });
}

function startOver() {
  Object.assign(state, { session: "", run: "", unsent: null });
  save();
  attaching.clear();
  eventsList.replaceChildren();
  eventCount = 0;
  byId("counter").textContent = "";
  showEmpty();
  message.focus();
}

byId("new").addEventListener("click", () => { if (!busy) startOver(); });
byId("user").addEventListener("change", () => {
  if (busy || byId("user").value.trim() === state.user) return;
  state.user = byId("user").value.trim();
  startOver();
});
byId("config").addEventListener("change", (event) => {
  state.config = event.target.value;
  save();
});
byId("choices").addEventListener("submit", (event) => event.preventDefault());

/** Start over with a linked config, or continue a linked session as its user. */
function takeLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (!link.has("config") && !link.has("session")) return;
  Object.assign(state, { config: link.get("config") ?? "", session: link.get("session") ?? "", run: "" });
  state.user = link.get("user") ?? state.user;
  history.replaceState(null, "", location.pathname);
  save();
}

async function fillChoices() {
  const [keys, configs] = await Promise.all([adminData("keys"), adminData("configs")]);
  const usable = keys.filter((key) => !key.is_revoked && !key.is_expired && key.scopes.includes("chat"));
  const known = cachedKeys();
  const pasted = Object.keys(known).filter((name) => name.startsWith("pasted:"));
  const select = byId("key");
  select.replaceChildren(
    ...usable.map((key) => h("option", { value: key.key_id }, `${key.name} (${key.key_prefix}…)`)),
    ...pasted.map((name) => h("option", { value: name }, `${name.slice(7)}…`)),
    h("option", { value: "paste" }, t("Paste a key…")));
  if (![...select.options].some((option) => option.value === state.key)) state.key = usable[0]?.key_id ?? pasted[0] ?? "";
  if (state.key) select.value = state.key;
  else select.selectedIndex = -1;
  byId("config").replaceChildren(h("option", { value: "" }, t("Config of the session")), ...configs.map((config) => h("option", { value: config.id }, config.name)));
  byId("config").value = state.config;
  const bound = usable.find((key) => key.key_id === state.key)?.rules?.username;
  state.user = bound ?? (state.user || "alice");
  byId("user").value = state.user;
  connect();
  save();
}

byId("key").addEventListener("change", async (event) => {
  let choice = event.target.value;
  if (choice === "paste") choice = await pasteKey();
  if (choice) state.key = choice;
  save();
  await fillChoices();
});

takeLink();
try {
  await fillChoices();
  await restore();
} catch (error) {
  toast(error.message, "bad");
}
