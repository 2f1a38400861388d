// Render Markdown as DOM nodes. marked parses it, and no text is ever inserted as HTML. Therefore
// it works with Trusted Types and a strict CSP.

import * as marked from "./marked.esm.js";

/** Escape the characters of a JSON text that do not show or that reorder others. */
export const showHidden = (text) => text.replace(/[\p{Cf}\p{Default_Ignorable_Code_Point}\u2028\u2029]/gu,
  (found) => found.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""));

/** Longer texts are shown as they are. */
const MAX_CHARS = 100_000;

/** Time to read a text, in milliseconds, after which its longer versions are shown as they are. */
const MAX_MS = 500;

/** Only the end of such a line is slow to read, so that no trial shows it. */
const MANY_BLANKS = / {2000}/;

/** Characters that are read without a trial. */
const TRIAL_CHARS = 8_000;

const SAFE_LINK = /^(https?:|mailto:|tel:|#|\/(?!\/))/i;

const INLINE_MATH = /^\\\((.+?)\\\)/s;
const BLOCK_MATH = /^(?:\$\$(.+?)\$\$|\\\[(.+?)\\\])/s;

// Marks may touch punctuation beside a wide character, as in **注意：**正文. CommonMark expects a space.
const WIDE = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff01-\uff60]/u;
const WIDE_MARKS = /^(\*\*|~~)(?=[^\s*~])((?:`[^`\n]*`|(?!\1)[^\n\\`])+)\1(?![*~])(.?)/u;

const reader = new marked.Marked({ gfm: true, breaks: true });
reader.use({
  extensions: [
    {
      name: "blockMath",
      level: "block",
      start: (text) => text.search(/\$\$|\\\[/),
      tokenizer(text) {
        const found = BLOCK_MATH.exec(text);
        return found ? { type: "blockMath", raw: found[0], text: found[1] ?? found[2] } : undefined;
      },
    },
    {
      name: "inlineMath",
      level: "inline",
      start: (text) => text.search(/\\\(|\$\$/),
      tokenizer(text) {
        const found = INLINE_MATH.exec(text) ?? BLOCK_MATH.exec(text);
        return found ? { type: "inlineMath", raw: found[0], text: found[1] ?? found[2] } : undefined;
      },
    },
    {
      name: "wideMarks",
      level: "inline",
      start: (text) => text.search(/\*\*|~~/),
      tokenizer(text) {
        const [, mark, inner, next] = WIDE_MARKS.exec(text) ?? [];
        if (!mark || /\s$/.test(inner) || !WIDE.test(inner + next)) return undefined;
        const raw = mark + inner + mark;
        return { type: mark === "**" ? "strong" : "del", raw, text: inner, tokens: this.lexer.inlineTokens(inner) };
      },
    },
  ],
});

/** Renders a growing text. Unchanged blocks keep their nodes. */
export class MarkdownView {
  /**
   * @param {HTMLElement} target
   * @param {{ copy: string, copyText: (text: string, button: Element) => void, drawMath: (node: Element, text: string, block: boolean) => void }} options
   */
  constructor(target, options) {
    this.target = target;
    this.options = options;
    this.blocks = [];
    this.plain = false;
    this.known = 0; // length of the longest text that was read
  }

  draw(text) {
    const tokens = this.read(text).filter((one) => one.type !== "space");
    let same = 0;
    while (same < tokens.length && this.blocks[same]?.raw === tokens[same].raw) same += 1;
    for (const block of this.blocks.splice(same)) block.node.remove();
    for (const token of tokens.slice(same)) {
      const node = this.makeBlock(token);
      this.target.append(node);
      this.blocks.push({ raw: token.raw, node });
    }
  }

  /** Return the blocks of a text. A model in a loop can write what marked cannot read, or not fast. */
  read(text) {
    let tokens = null;
    this.plain ||= MANY_BLANKS.test(text);
    if (text.length <= MAX_CHARS) {
      // marked needs quadratic time for some texts, so growing parts are read first.
      for (let chars = Math.max(TRIAL_CHARS, 2 * this.known); chars < text.length && !this.plain; chars *= 2) {
        this.lex(text.slice(0, chars), MAX_MS * Math.max(0.5, chars / text.length));
      }
      if (!this.plain) tokens = this.lex(text, MAX_MS);
    }
    return tokens ?? [{ type: "plain", raw: text }];
  }

  lex(text, maxMs) {
    const begun = performance.now();
    try {
      const tokens = reader.lexer(text);
      this.known = text.length;
      return tokens;
    } catch {
      this.plain = true; // nested too deeply
      return null;
    } finally {
      this.plain ||= performance.now() - begun > maxMs;
    }
  }

  makeBlock(token) {
    switch (token.type) {
      case "heading":
        return this.fill(h(`h${Math.min(6, token.depth + 2)}`), token.tokens);
      case "code":
        return this.makeCode(token);
      case "blockquote":
        return this.fillBlocks(h("blockquote"), token.tokens);
      case "list":
        return this.makeList(token);
      case "table":
        return this.makeTable(token);
      case "hr":
        return h("hr");
      case "blockMath":
        return this.makeMath(token, true);
      case "paragraph":
        return this.fill(h("p", { dir: "auto" }), token.tokens);
      case "text":
        return token.tokens ? this.fill(h("span"), token.tokens) : h("span", {}, unescapeText(token.text));
      case "plain":
        return h("p", { dir: "auto", class: "plain" }, token.raw);
      default:
        return h("p", { dir: "auto" }, token.raw); // HTML is shown as source text
    }
  }

  fillBlocks(parent, tokens) {
    for (const token of tokens) if (token.type !== "space") parent.append(this.makeBlock(token));
    return parent;
  }

  makeCode(token) {
    const code = h("code", {}, token.text);
    const copy = h("button", { type: "button", class: "copy" }, this.options.copy);
    copy.addEventListener("click", () => this.options.copyText(token.text, copy));
    const head = h("div", { class: "code-head" }, h("span", {}, token.lang ?? ""), copy);
    return h("div", { class: "code", dir: "ltr" }, head, h("pre", { tabindex: "0" }, code));
  }

  makeList(token) {
    const list = h(token.ordered ? "ol" : "ul", { dir: "auto" });
    if (token.ordered && token.start !== 1) list.start = Number(token.start) || 1;
    for (const item of token.items) {
      const line = h("li");
      if (item.task) {
        const box = h("input", { type: "checkbox", disabled: "", "aria-label": item.text });
        box.checked = item.checked;
        line.append(box, " ");
      }
      list.append(this.fillBlocks(line, item.tokens.filter((one) => one.type !== "checkbox")));
    }
    return list;
  }

  makeTable(token) {
    const makeRow = (cells, tag) =>
      h("tr", {}, ...cells.map((cell, at) => {
        const node = this.fill(h(tag, { dir: "auto" }), cell.tokens);
        if (token.align[at]) node.style.textAlign = token.align[at];
        return node;
      }));
    const table = h("table", {},
      h("thead", {}, makeRow(token.header, "th")),
      h("tbody", {}, ...token.rows.map((row) => makeRow(row, "td"))),
    );
    return h("div", { class: "table", tabindex: "0" }, table);
  }

  makeMath(token, block) {
    const node = h("span", { class: block ? "math block" : "math", dir: "ltr", tabindex: block ? "0" : null }, token.raw);
    this.options.drawMath(node, token.text, block);
    return node;
  }

  fill(parent, tokens) {
    for (const token of tokens ?? []) parent.append(this.makeInline(token));
    return parent;
  }

  makeInline(token) {
    switch (token.type) {
      case "strong":
        return this.fill(h("strong"), token.tokens);
      case "em":
        return this.fill(h("em"), token.tokens);
      case "del":
        return this.fill(h("del"), token.tokens);
      case "codespan":
        return h("code", {}, token.text);
      case "br":
        return h("br");
      case "link":
        return this.makeLink(token.href, this.fill(h("span"), token.tokens));
      case "image": // only a link, so that a model cannot make the page load foreign content
        return this.makeLink(token.href, h("span", {}, token.text || token.href));
      case "inlineMath":
        return this.makeMath(token, false);
      case "text":
      case "escape":
        return token.tokens ? this.fill(h("span"), token.tokens) : document.createTextNode(unescapeText(token.text));
      default:
        return document.createTextNode(token.raw);
    }
  }

  makeLink(href, label) {
    if (!SAFE_LINK.test(href)) return label;
    return h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, label);
  }
}

/** Undo marked's HTML escaping. */
function unescapeText(text) {
  return text
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'").replaceAll("&amp;", "&");
}

/** Create an element with attributes and children. */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
