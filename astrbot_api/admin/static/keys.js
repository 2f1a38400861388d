import { adminData, ago, at, byId, bytes, codeBox, compact, confirmDialog, copy, emptyState, fill, formDialog, freshId, h, icon, keyRoute, openDialog, roots, t, toast } from "./dom.js";
import { USE_SERIES, fillDays, switchedChart } from "./chart.js";
import { describeRules, rulesFields } from "./rules.js";

const box = byId("keys");

const SCOPES = [
  { name: "chat", title: t("Chat"), text: t("Talk to the agent, and read, rename and delete the conversations of the usernames it names.") },
  { name: "file", title: t("Files"), text: t("Upload files for messages, and download them.") },
  { name: "config", title: t("Configs"), text: t("List the agents that a conversation can choose.") },
  { name: "im", title: t("Messengers"), text: t("Send messages through the bots, and list them.") },
  { name: "chat:admin", title: t("Reserved usernames"), text: t("Also use the reserved usernames. Few programs need this.") },
];

const scopeTitle = (name) => SCOPES.find((scope) => scope.name === name)?.title ?? name;

const post = (path, body) => keyRoute(path, { method: "POST", body });

function state(key) {
  if (key.is_revoked) return h("span", { class: "badge bad" }, t("Revoked"));
  if (key.is_expired) return h("span", { class: "badge warn" }, t("Expired"));
  if (!key.last_used_at) return h("span", { class: "badge" }, t("Never used"));
  return h("span", { class: "badge good" }, t("Active"));
}

function lines(key) {
  const rules = describeRules(key.rules);
  return h("td", {},
    h("div", { class: "title" }, key.name),
    h("div", { class: "small muted mono" }, `${key.key_prefix}…`),
    rules.length ? h("div", { class: "small muted" }, rules.join(" · ")) : null,
    key.session_keys ? h("div", { class: "small muted" }, t("{count} session keys, {consoles} of them for the console", { count: compact(key.session_keys), consoles: key.console_keys })) : null);
}

function row(key) {
  const ended = key.is_revoked || key.is_expired;
  const tokens = (key.use?.input_tokens ?? 0) + (key.use?.output_tokens ?? 0);
  const button = (name, label, action, kind = "") => h("button", {
    class: `btn ghost icon-only small ${kind}`, type: "button", title: label,
    "aria-label": `${label}: ${key.name}`, onclick: () => action(key) }, icon(name));
  return h("tr", { class: ended ? "dim" : "" },
    lines(key),
    h("td", { "data-label": t("Scopes") }, h("div", { class: "badges" }, key.scopes.map((scope) => h("span", { class: "badge" }, scopeTitle(scope))))),
    h("td", { "data-label": t("Last used") }, key.last_used_at ? ago(key.last_used_at) : h("span", { class: "muted" }, "–")),
    h("td", { "data-label": t("Expires") }, key.expires_at ? ago(key.expires_at) : h("span", { class: "muted" }, t("never"))),
    h("td", { "data-label": t("30 days") }, h("span", { class: "nowrap", title: t("Requests and tokens") }, key.use ? `${compact(key.use.requests)} / ${compact(tokens)}` : "–")),
    h("td", { "data-label": t("Stored") }, h("span", { class: "nowrap", title: t("Messages and files") }, `${bytes(key.stored.bytes)} / ${bytes(key.stored.file_bytes)}`)),
    h("td", { "data-label": t("State") }, state(key)),
    h("td", {}, h("div", { class: "actions tight" },
      button("chart", t("Use by day"), showUse),
      ended ? null : button("edit", t("Edit"), editKey),
      ended ? null : button("turn", t("Rotate"), rotateKey),
      ended ? null : button("stop", t("Revoke"), revokeKey),
      button("trash", t("Delete"), deleteKey))));
}

async function showKeys() {
  await fill(box, async () => {
    const keys = await adminData("keys");
    if (!keys.length) {
      return emptyState("key", t("No keys yet"), t("Create one for each program that uses the agent: a website, a script, an app."),
        h("button", { class: "btn primary", type: "button", onclick: createKey }, icon("plus"), t("Create key")));
    }
    return h("div", { class: "table-box", tabindex: "0" }, h("table", { class: "cards-on-phone" },
      h("thead", {}, h("tr", {}, [t("Name"), t("Scopes"), t("Last used"), t("Expires"), t("30 days"), t("Stored"), t("State")].map((name) => h("th", { scope: "col" }, name)),
        h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, t("Actions"))))),
      h("tbody", {}, keys.map(row))));
  });
}

function nameField(value) {
  const id = freshId();
  const input = h("input", { type: "text", id, value, maxlength: 200, autofocus: true, autocomplete: "off", placeholder: t("For example: web shop") });
  return { input, element: h("div", { class: "field" }, h("label", { for: id }, t("Name")), input) };
}

function scopesField(chosen) {
  const boxes = SCOPES.map((scope) => h("input", { type: "checkbox", value: scope.name, checked: chosen.includes(scope.name) }));
  return {
    read: () => boxes.filter((one) => one.checked).map((one) => one.value),
    element: h("fieldset", {}, h("legend", {}, t("Scopes")),
      SCOPES.map((scope, at) => h("label", { class: "check" }, boxes[at], h("span", { class: "label" }, scope.title), h("span", { class: "hint" }, scope.text)))),
  };
}

const TERMS = [["", t("Never")], ["7", t("In 7 days")], ["30", t("In 30 days")], ["90", t("In 90 days")], ["365", t("In a year")]];

function expiryField(current) {
  const id = freshId();
  const kept = current === undefined ? [] : [["keep", current ? t("Unchanged: {time}", { time: at(current) }) : t("Unchanged: never")]];
  const select = h("select", { id }, [...kept, ...TERMS].map(([value, text]) => h("option", { value }, text)));
  return {
    read: () => select.value === "keep" ? undefined : select.value === "" ? null : Number(select.value),
    element: h("div", { class: "field" }, h("label", { for: id }, t("Expires")), select),
  };
}

async function createKey() {
  const name = nameField("");
  const scopes = scopesField(["chat", "file", "config", "im"]);
  const expiry = expiryField();
  const rules = rulesFields({});
  const made = await formDialog(t("Create key"), t("Create key"),
    [name.element, scopes.element, expiry.element, rules.element],
    () => post("create", { ...(name.input.value.trim() ? { name: name.input.value } : {}), scopes: scopes.read(), expires_in_days: expiry.read(), rules: rules.read() }));
  if (made) {
    showKeys();
    showSecret(made, t("Your new key"));
  }
}

async function editKey(key) {
  const name = nameField(key.name);
  const scopes = scopesField(key.scopes);
  const expiry = expiryField(key.expires_at);
  const rules = rulesFields(key.rules ?? {});
  const read = () => ({ name: name.input.value, scopes: scopes.read(), rules: rules.read(), expires_in_days: expiry.read() });
  const before = Object.entries(read()).map(([field, value]) => [field, JSON.stringify(value)]);
  const changed = await formDialog(t("Edit key"), t("Save"), [name.element, scopes.element, expiry.element, rules.element], () => {
    // Only the changed fields: another page may have changed the others since this one was loaded.
    const now = read();
    const kept = before.filter(([field, value]) => JSON.stringify(now[field]) === value);
    if (kept.length === before.length) return key;
    for (const [field] of kept) delete now[field];
    return post("update", { key_id: key.key_id, ...now });
  });
  if (changed) {
    toast(t("Saved."));
    showKeys();
  }
}

function curlOf(secret) {
  const body = JSON.stringify({ message: "Hello", username: "alice" });
  return `curl -N ${location.origin}${roots.api}/chat \\\n  -H 'Authorization: Bearer ${secret}' \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
}

function showSecret(key, title) {
  return openDialog(title, (close) => {
    const id = freshId();
    const input = h("input", { type: "text", id, readonly: true, value: key.api_key, onfocus: (event) => event.target.select() });
    const button = h("button", { class: "btn primary", type: "button", autofocus: true }, icon("copy"), t("Copy"));
    button.addEventListener("click", () => copy(key.api_key, button));
    return [
      h("p", { class: "note warn" }, t("Copy it now. It is shown only once: the server stores only its hash.")),
      h("div", { class: "field" }, h("label", { for: id }, key.name), h("div", { class: "secret" }, input, button)),
      key.scopes.includes("chat") ? h("div", { class: "field" }, h("span", { class: "label" }, t("Try it")), codeBox("curl", curlOf(key.api_key))) : null,
      h("div", { class: "actions end" }, h("button", { class: "btn", type: "button", onclick: () => close() }, t("Done"))),
    ];
  }, { wide: true });
}

const GRACES = [[0, t("At once")], [3600, t("In an hour")], [86400, t("In a day")], [604800, t("In a week")]];

async function rotateKey(key) {
  const id = freshId();
  const select = h("select", { id }, GRACES.map(([value, text]) => h("option", { value }, text)));
  const made = await formDialog(t("Rotate {name}", { name: key.name }), t("Rotate"), [
    h("p", {}, t("The new key replaces this one, with the same name, scopes and limits. Give programs time to switch to it.")),
    h("div", { class: "field" }, h("label", { for: id }, t("The old key expires")), select),
  ], () => post("rotate", { key_id: key.key_id, grace_s: Number(select.value) }));
  if (made) {
    showKeys();
    showSecret(made, t("The new key"));
  }
}

async function end(path, key, title, text, action, done) {
  if (!await confirmDialog(title, text, action)) return;
  try {
    await post(path, { key_id: key.key_id });
    toast(done);
  } catch (error) {
    toast(error.message, "bad");
  }
  showKeys();
}

const revokeKey = (key) => end("revoke", key, t("Revoke {name}?", { name: key.name }),
  t("Further requests with this key are rejected with 401. This cannot be undone."), t("Revoke"), t("Revoked."));

const deleteKey = (key) => end("delete", key, t("Delete {name}?", { name: key.name }),
  t("The key stops working and is removed from the list with its statistics. Conversations and files are kept."), t("Delete"), t("Deleted."));

function showUse(key) {
  return openDialog(t("Use of {name}", { name: key.name }), () => {
    const area = h("div", { "aria-busy": "true" }, h("p", { class: "loading" }, t("Loading…")));
    fill(area, async () => switchedChart(fillDays((await adminData(`keys/${key.key_id}/use`)).days, 30), USE_SERIES));
    return [area, h("p", { class: "hint" }, t("Request counts are updated every few seconds."))];
  }, { wide: true });
}

byId("create").addEventListener("click", createKey);
showKeys();
