// Rules of a key: texts for the list, fields for the form.

import { bytes, compact, freshId, h, t } from "./dom.js";

const NUMBERS = [
  ["requests_per_minute", t("Requests per minute"), (value) => t("{value} requests per minute", { value: compact(value) })],
  ["streams", t("Concurrent turns"), (value) => t("{value} concurrent turns", { value: compact(value) })],
  ["turns_per_day", t("Turns per day"), (value) => t("{value} turns per day", { value: compact(value) })],
  ["tokens_per_day", t("Tokens per day"), (value) => t("{value} tokens per day", { value: compact(value) })],
  ["upload_bytes", t("Total size of files, in bytes"), (value) => t("{value} of files", { value: bytes(value) })],
  ["stored_bytes", t("Total size of messages, in bytes"), (value) => t("{value} of messages", { value: bytes(value) })],
  ["sessions", t("Sessions"), (value) => t("{value} sessions", { value: compact(value) })],
  ["growth_bytes", t("New messages per minute, in bytes"), (value) => t("{value} of new messages per minute", { value: bytes(value) })],
  ["tool_calls_per_turn", t("Tool calls per turn"), (value) => t("{value} tool calls per turn", { value: compact(value) })],
  ["tool_seconds_per_turn", t("Tool seconds per turn"), (value) => t("{value} tool seconds per turn", { value: compact(value) })],
  ["tool_chars_per_turn", t("Tool output characters per turn"), (value) => t("{value} tool output characters per turn", { value: compact(value) })],
];

const LISTS = [
  ["configs", t("Configs"), t("Ids, one per line. Empty: all.")],
  ["bots", t("Bots"), t("Ids, one per line. Empty: all.")],
  ["umos", t("UMOs"), t("One per line; * matches anything. Empty: all.")],
  ["tools", t("Tools"), t("Names, one per line; * matches anything. Empty: all.")],
  ["approve", t("Tools that require approval"), t("Names, one per line; * matches anything. A person must approve their calls.")],
  ["addresses", t("Addresses"), t("Networks such as 10.0.0.0/8, one per line. Empty: all.")],
];

const SHOWN = ["username", "username_prefix", ...NUMBERS.map(([name]) => name), ...LISTS.map(([name]) => name)];

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
      h("p", { class: "hint" }, t("Leave a field empty for no limit. Limits apply across all workers of the server.")),
      h("div", { class: "columns" },
        field(t("Only this username"), username),
        field(t("Only usernames with this prefix"), prefix),
        numbers.map(([, label, input]) => field(label, input))),
      h("div", { class: "columns" }, lists.map(([, label, hint, input]) => field(label, input, hint)))));
  return {
    element,
    read() {
      // Rules without a field here, such as session_id, are kept.
      const found = Object.fromEntries(Object.entries(rules).filter(([name]) => !SHOWN.includes(name)));
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
