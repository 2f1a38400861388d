// Guard rails of a key: words for the list, fields for the form.

import { bytes, compact, freshId, h, t } from "./dom.js";

const NUMBERS = [
  ["requests_per_minute", t("Requests a minute"), (value) => t("{value} requests a minute", { value: compact(value) })],
  ["streams", t("Answers at once"), (value) => t("{value} answers at once", { value: compact(value) })],
  ["turns_per_day", t("Turns a day"), (value) => t("{value} turns a day", { value: compact(value) })],
  ["tokens_per_day", t("Tokens a day"), (value) => t("{value} tokens a day", { value: compact(value) })],
  ["upload_bytes", t("Bytes of files"), (value) => t("{value} of files", { value: bytes(value) })],
  ["stored_bytes", t("Bytes of messages"), (value) => t("{value} of messages", { value: bytes(value) })],
  ["sessions", t("Sessions"), (value) => t("{value} sessions", { value: compact(value) })],
  ["growth_bytes", t("Bytes of messages a minute"), (value) => t("{value} of messages a minute", { value: bytes(value) })],
  ["tool_calls_per_turn", t("Tool calls a turn"), (value) => t("{value} tool calls a turn", { value: compact(value) })],
  ["tool_seconds_per_turn", t("Seconds of tools a turn"), (value) => t("{value} s of tools a turn", { value: compact(value) })],
  ["tool_chars_per_turn", t("Characters of tools a turn"), (value) => t("{value} characters of tools a turn", { value: compact(value) })],
];

const LISTS = [
  ["configs", t("Configs"), t("Ids, one a line. Empty: all.")],
  ["bots", t("Bots"), t("Ids, one a line. Empty: all.")],
  ["umos", t("UMOs"), t("One a line; * stands for anything. Empty: all.")],
  ["tools", t("Tools"), t("Names, one a line; * stands for anything. Empty: all.")],
  ["approve", t("Tools that ask first"), t("Names, one a line; * stands for anything. A person must approve their calls.")],
  ["addresses", t("Addresses"), t("Networks such as 10.0.0.0/8, one a line. Empty: from anywhere.")],
];

export function describeRules(rules) {
  if (!rules) return [];
  const words = [];
  if (rules.username) words.push(t("only as {name}", { name: rules.username }));
  if (rules.username_prefix) words.push(t("only as {name}…", { name: rules.username_prefix }));
  for (const [name, , text] of NUMBERS) if (rules[name] !== undefined) words.push(text(rules[name]));
  for (const [name, title] of LISTS) if (rules[name]) words.push(`${title}: ${rules[name].join(", ")}`);
  return words;
}

function field(label, input, hint) {
  input.id = freshId();
  const hintId = freshId();
  if (hint) input.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint ? h("span", { class: "hint", id: hintId }, hint) : null);
}

export function rulesFields(rules) {
  const username = h("input", { type: "text", value: rules.username ?? "", autocomplete: "off" });
  const prefix = h("input", { type: "text", value: rules.username_prefix ?? "", autocomplete: "off" });
  const numbers = NUMBERS.map(([name, label]) => [name, label, h("input", { type: "number", min: 1, value: rules[name] ?? "" })]);
  const lists = LISTS.map(([name, label, hint]) => [name, label, hint, h("textarea", { rows: 2, value: (rules[name] ?? []).join("\n"), spellcheck: "false" })]);
  const element = h("details", { class: "more", open: Object.keys(rules).length > 0 },
    h("summary", {}, t("Limits (optional)")),
    h("div", { class: "stack" },
      h("p", { class: "hint" }, t("Leave empty what is not to be limited. A limit holds over all workers of the server.")),
      h("div", { class: "columns" },
        field(t("Only as this username"), username),
        field(t("Only as usernames that begin with"), prefix),
        numbers.map(([, label, input]) => field(label, input))),
      h("div", { class: "columns" }, lists.map(([, label, hint, input]) => field(label, input, hint)))));
  return {
    element,
    read() {
      const found = {};
      if (username.value.trim()) found.username = username.value.trim();
      if (prefix.value.trim()) found.username_prefix = prefix.value.trim();
      for (const [name, , input] of numbers) if (input.value !== "") found[name] = Number(input.value);
      for (const [name, , , input] of lists) {
        const values = input.value.split("\n").map((line) => line.trim()).filter(Boolean);
        if (values.length) found[name] = values;
      }
      return Object.keys(found).length ? found : null;
    },
  };
}
