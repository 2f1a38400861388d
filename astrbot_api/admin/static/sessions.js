import { adminData, ago, byId, confirmDialog, emptyState, fill, h, icon, olderButton, roots, t, toast } from "./dom.js";
import { storedAnswer, userMessage } from "./messages.js";

const list = byId("list");
const reader = byId("reader");
let words = "";
let chosen = decodeURIComponent(location.hash.slice(1));
let asked = 0;

async function loadFile(id) {
  const answer = await fetch(`${roots.admin}/data/file?attachment_id=${encodeURIComponent(id)}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.blob();
}

function item(session) {
  return h("li", {}, h("button", { type: "button", "data-id": session.session_id, "aria-current": String(session.session_id === chosen), onclick: () => open(session.session_id, true) },
    h("span", { class: "title" }, session.display_name || session.session_id),
    h("span", { class: "small muted" }, h("bdi", {}, session.creator), session.platform_id === "webchat" ? "" : ` · ${session.platform_id}`, " · ", ago(session.updated_at))));
}

async function showList(before = null) {
  const number = ++asked;
  const query = new URLSearchParams({ q: words, ...(before ? { before } : {}) });
  try {
    const page = await adminData(`sessions?${query}`);
    if (number !== asked) return;
    if (!before) list.replaceChildren();
    list.append(...page.sessions.map(item));
    if (!list.children.length) {
      list.append(h("li", {}, words ? emptyState("list", t("Nothing found"), t("No title, user or id contains this text."))
        : emptyState("list", t("No sessions yet"), t("Sessions appear here after the first message to the agent."))));
    }
    const pager = byId("pager");
    pager.hidden = page.next === null;
    pager.replaceChildren(h("button", { class: "btn small", type: "button", onclick: () => showList(page.next) }, t("Show older entries")));
  } catch (error) {
    toast(error.message, "bad");
  }
  list.removeAttribute("aria-busy");
}

const show = (message) => message.content.type === "user"
  ? userMessage(message.content.message, message.sender_name, loadFile, message.created_at)
  : storedAnswer(message.content, loadFile, message.created_at);

function showNothing() {
  reader.replaceChildren(emptyState("chat", t("Choose a session"), t("Its messages are shown here.")));
}

async function open(sessionId, focus = false) {
  chosen = sessionId;
  history.replaceState(null, "", `#${encodeURIComponent(sessionId)}`);
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.id === chosen));
  const query = (more) => new URLSearchParams({ session_id: sessionId, ...more });
  await fill(reader, async () => {
    const page = await adminData(`sessions/messages?${query({})}`);
    const { session } = page;
    const thread = h("div", { class: "thread" }, page.messages.reverse().map(show));
    const older = olderButton(page.next, async (cursor) => {
      const more = await adminData(`sessions/messages?${query({ cursor })}`);
      thread.prepend(...more.messages.reverse().map(show));
      return more.next;
    });
    const inConsole = new URLSearchParams({ session: sessionId, user: session.creator });
    const download = (format, label) => h("a", { class: "btn small", href: `${roots.admin}/data/sessions/export?${query({ format })}` }, label);
    return [
      h("div", { class: "card-head" },
        h("div", {}, h("h2", {}, session.display_name || session.session_id), h("div", { class: "small muted" }, h("bdi", {}, session.creator), ` · ${session.session_id}`)),
        h("div", { class: "actions" },
          session.platform_id === "webchat" ? h("a", { class: "btn small", href: `${roots.admin}/console#${inConsole}` }, icon("chat"), t("Continue")) : null,
          download("md", "Markdown"), download("json", "JSON"),
          h("button", { class: "btn danger small", type: "button", onclick: () => remove(session) }, icon("trash"), t("Delete")))),
      h("div", { class: "inset" }, h("div", { class: "stack" }, older,
        page.messages.length ? thread : emptyState("chat", t("No messages"), t("The session has no messages, or they were deleted.")))),
    ];
  });
  if (focus && matchMedia("(max-width: 820px)").matches) reader.scrollIntoView();
  if (focus) reader.focus({ preventScroll: true });
}

async function remove(session) {
  if (!await confirmDialog(t("Delete this session?"), t("All its messages are deleted, for its user too. This cannot be undone."), t("Delete"))) return;
  try {
    await adminData(`sessions?${new URLSearchParams({ session_id: session.session_id })}`, { method: "DELETE" });
    toast(t("Deleted."));
    chosen = "";
    history.replaceState(null, "", location.pathname);
    showNothing();
    showList();
  } catch (error) {
    toast(error.message, "bad");
  }
}

let timer;
byId("q").addEventListener("input", (event) => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    words = event.target.value.trim();
    showList();
  }, 200);
});
byId("search").addEventListener("submit", (event) => event.preventDefault());

showList();
if (chosen) open(chosen);
else showNothing();
