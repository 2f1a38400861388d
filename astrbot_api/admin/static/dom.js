// Elements, texts, dialogs and toasts that all pages use.

const SVG = "http://www.w3.org/2000/svg";
const html = document.documentElement;

export const roots = { admin: html.dataset.admin, api: html.dataset.api };
export const language = html.lang;

const catalogue = language.startsWith("zh")
  ? (await import("./catalogue.js")).default
  : {};

/** Translate an English text and replace `{name}` in it. */
export function t(text, values = {}) {
  const found = catalogue[text] ?? text;
  return found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Create an element: h("p", {class: "lead", onclick}, "text", child, …). */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  set(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  set(element, attributes);
  element.append(...children);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked" || name === "disabled" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

export const byId = (id) => document.getElementById(id);

let lastId = 0;
export const freshId = () => `x${++lastId}`;

// Requests to the server

/** Return the meaning of an error in the page's language, with the server's English message. */
export function explain(message, code) {
  const meaning = catalogue[`code:${code}`];
  return meaning ? `${meaning}（${message}）` : message;
}

export class ApiFault extends Error {
  constructor(message, status, code) {
    super(explain(message, code));
    this.status = status;
    this.code = code;
  }
}

/** Call a route of the owner. Returns `data` of the envelope. */
export async function call(path, { method = "GET", body } = {}) {
  const headers = { "X-CSRF-Token": html.dataset.csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiFault(t("The server does not respond. Is it running?"), 0, "offline");
  }
  const envelope = await answer.json().catch(() => ({}));
  if (answer.ok) return envelope.data;
  if (answer.status === 401 && !path.endsWith("/login")) {
    const page = location.pathname.split("/").pop();
    location.href = `${roots.admin}/login${page ? `?next=${page}` : ""}${location.hash}`;
  }
  throw new ApiFault(envelope.message ?? answer.statusText, answer.status, envelope.code);
}

export const adminData = (path, options) => call(`${roots.admin}/data/${path}`, options);
export const keyRoute = (path, options) => call(`${roots.admin}/../api/apikey/${path}`, options);

// Toasts and dialogs

export function toast(text, kind = "") {
  const element = h("div", { class: `toast ${kind}` }, text);
  byId("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 8000 : 3500);
}

/** Return a button for the next page: `load(cursor)` shows it and returns the cursor after it, or null. */
export function olderButton(cursor, load) {
  const button = h("button", { class: "btn small", type: "button", hidden: cursor === null, onclick: async () => {
    button.disabled = true;
    try {
      cursor = await load(cursor);
      button.hidden = cursor === null;
    } catch (error) {
      toast(error.message, "bad");
    }
    button.disabled = false;
  } }, t("Show older entries"));
  return button;
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without HTTPS there is no clipboard API, so use the old method.
    const area = h("textarea", { class: "visually-hidden", value: text });
    (button?.closest("dialog") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(t("Copied."));
  button?.focus();
}

/** Open a dialog with the result of `fill(close)`. Resolves when it is closed. */
export function openDialog(title, fill, { wide = false } = {}) {
  const id = freshId();
  const element = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": id });
  return new Promise((resolve) => {
    const close = (value) => {
      element.returnedValue = value;
      element.close();
    };
    element.append(
      h("div", { class: "dialog-head" },
        h("h2", { id }, title),
        h("button", { class: "btn ghost icon-only small", type: "button", "aria-label": t("Close"),
          onclick: () => close() }, icon("close"))),
      h("div", { class: "dialog-body" }, fill(close)),
    );
    element.addEventListener("close", () => {
      element.remove();
      resolve(element.returnedValue);
    });
    document.body.append(element);
    element.showModal();
    element.querySelector("[autofocus]")?.focus();
  });
}

/** A form in a dialog. `save` receives its values and may throw. */
export function formDialog(title, action, fields, save) {
  return openDialog(title, (close) => {
    const fault = h("div", {});
    const button = h("button", { class: "btn primary", type: "submit" }, action);
    return h("form", { class: "stack", novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        close(await save());
      } catch (error) {
        fault.replaceChildren(faultNote(error));
        button.disabled = false;
      }
    } }, fields, fault, h("div", { class: "actions end" },
      h("button", { class: "btn", type: "button", onclick: () => close() }, t("Cancel")), button));
  });
}

export function confirmDialog(title, text, action) {
  return openDialog(title, (close) => [
    h("p", {}, text),
    h("div", { class: "actions end" },
      h("button", { class: "btn", type: "button", onclick: () => close(false), autofocus: true }, t("Cancel")),
      h("button", { class: "btn danger solid", type: "button", onclick: () => close(true) }, action)),
  ]);
}

export function codeBox(name, text) {
  const button = h("button", { class: "btn ghost small", type: "button" }, icon("copy"), t("Copy"));
  button.addEventListener("click", () => copy(text, button));
  return h("div", { class: "codebox" },
    h("div", { class: "codebox-head" }, h("span", {}, name), button),
    h("pre", { tabindex: "0" }, text));
}

export function emptyState(iconName, title, text, ...actions) {
  return h("div", { class: "empty" }, h("div", { class: "disc" }, icon(iconName)), h("h2", {}, title), h("p", {}, text), ...actions);
}

export function faultNote(error) {
  return h("p", { class: "note bad", role: "alert" }, error.message);
}

/** A card with the configuration files that have errors, or null without any. */
export function invalidFiles(files) {
  if (!files.length) return null;
  return h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("Invalid files"))),
    h("div", { class: "inset stack" }, files.map((one) => h("div", { class: "note bad" },
      h("div", { class: "mono" }, one.error),
      h("div", {}, one.kept ? t("The last valid content of {file} stays in effect.", { file: one.name }) : t("{file} is not used.", { file: one.name }))))));
}

/** Fill an element with the result of `load`, or with its error. */
export async function fill(element, load) {
  try {
    element.replaceChildren(...[await load()].flat());
  } catch (error) {
    element.replaceChildren(h("div", { class: "card-head" }, faultNote(error)));
  }
  element.removeAttribute("aria-busy");
}

// Times and numbers

const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const whole = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const number = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });

export const compact = (value) => number.format(value);

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

export function ago(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS.at(-1);
  return h("time", { datetime: iso, title: whole.format(new Date(iso)), class: "nowrap" }, relative.format(Math.trunc(seconds / size), unit));
}

export const at = (iso) => whole.format(new Date(iso));

export function bytes(value) {
  const names = ["B", "KB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 1024 && step < names.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${new Intl.NumberFormat(language, { maximumFractionDigits: 1 }).format(value)} ${names[step]}`;
}

// Page frame

function cookie(name, value) {
  document.cookie = `${name}=${value}; path=${roots.admin}; max-age=31536000; samesite=strict`;
}

byId("theme")?.addEventListener("click", () => {
  const dark = html.dataset.theme ? html.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  html.dataset.theme = dark ? "light" : "dark";
  cookie("astrbot_theme", html.dataset.theme);
});

byId("logout")?.addEventListener("click", async () => {
  await call(`${roots.admin}/../api/auth/logout`, { method: "POST" }).catch(() => {});
  sessionStorage.clear();
  location.href = `${roots.admin}/login`;
});
