// A subset of Markdown, rendered as elements and never as HTML, so that answers cannot run code.

import { h } from "./dom.js";

/** Longer texts are shown as they are. A page could not draw a million cells of a table. */
const MAX_CHARS = 100_000;

// Each pattern takes linear time: no text of a user or a model may freeze the page.
const FENCE = /^\s*```/;
const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+(\S.*)?$/s;
const HEADING = /^#{1,6}\s+(\S.*)?$/s;
const INLINE =
  /(`[^`\n]+`)|\*\*([^*\n]+)\*\*|\[([^[\]\n]+)\]\((https?:\/\/[^\s)]{1,2000})\)|(?<![*\w])\*([^*\s](?:[^*\n]*[^*\s])?)\*(?![*\w])/g;
const DASHES = /^:?-+:?$/;

function inline(text) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    found.push(text.slice(from, match.index));
    if (match[1]) found.push(h("code", {}, match[1].slice(1, -1)));
    else if (match[2]) found.push(h("strong", {}, match[2]));
    else if (match[5]) found.push(h("em", {}, match[5]));
    else found.push(h("a", { href: match[4], rel: "noreferrer noopener", target: "_blank" }, match[3]));
    from = match.index + match[0].length;
  }
  found.push(text.slice(from));
  return found.filter((part) => part !== "");
}

/** Return whether a table begins: a line with bars, followed by a line of dashes. */
function beginsTable(lines, at) {
  const rule = lines[at + 1] ?? "";
  if (!lines[at].includes("|") || !rule.includes("|")) return false;
  return rule.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").every((one) => DASHES.test(one.trim()));
}

function cells(line, name) {
  const parts = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/);
  return parts.map((part) => h(name, {}, inline(part.trim().replaceAll("\\|", "|"))));
}

function table(lines) {
  const [head, , ...rows] = lines;
  return h("div", { class: "table-box", tabindex: "0" }, h("table", {},
    h("thead", {}, h("tr", {}, cells(head, "th"))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells(row, "td"))))));
}

/** Return the blocks of a text. */
export function renderMarkdown(text) {
  if (text.length > MAX_CHARS) return [h("p", {}, text)];
  const blocks = [];
  const lines = text.split("\n");
  let paragraph = [];
  let list = null;
  const flush = () => {
    if (paragraph.length) blocks.push(h("p", {}, inline(paragraph.join("\n"))));
    paragraph = [];
    if (list) blocks.push(list);
    list = null;
  };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    if (FENCE.test(line)) {
      flush();
      const code = [];
      while (++at < lines.length && !FENCE.test(lines[at])) code.push(lines[at]);
      blocks.push(h("pre", { tabindex: "0" }, h("code", {}, code.join("\n"))));
      continue;
    }
    if (beginsTable(lines, at)) {
      flush();
      const from = at;
      while (at + 1 < lines.length && lines[at + 1].includes("|")) at += 1;
      blocks.push(table(lines.slice(from, at + 1)));
      continue;
    }
    const item = ITEM.exec(line);
    const heading = HEADING.exec(line);
    if (item) {
      const name = item[1] ? "ol" : "ul";
      if (paragraph.length || (list && list.localName !== name)) flush();
      list ??= h(name, item[1] ? { start: item[1] } : {});
      list.append(h("li", {}, inline(item[2] ?? "")));
    } else if (heading) {
      flush();
      blocks.push(h("p", {}, h("strong", {}, inline(heading[1] ?? ""))));
    } else if (line.trim() === "") {
      flush();
    } else {
      if (list) flush();
      paragraph.push(line);
    }
  }
  flush();
  return blocks;
}
