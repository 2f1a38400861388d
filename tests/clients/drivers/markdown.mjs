// Render texts with the Markdown of the admin pages and of the widget, without a browser.
//
//   node markdown.mjs PATH_OF_astrbot_api < TEXTS_AS_JSON > THE_TEXTS_OF_BOTH_AS_JSON

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const root = process.argv[2];

class Node {
  constructor(name, parts = []) {
    this.localName = name;
    this.parts = parts;
    this.style = {};
  }
  append(...parts) { this.parts.push(...parts); }
  remove() {}
  setAttribute() {}
  addEventListener() {}
  get text() { return this.parts.flat().map((one) => (one instanceof Node ? one.text : String(one))).join(""); }
}

globalThis.document = {
  createElement: (name) => new Node(name),
  createTextNode: (text) => text,
};

const read = (path) => fs.readFileSync(`${root}/${path}`, "utf8");
const adminSource = read("admin/static/markdown.js").replace(/^import .*$/m, "").replace("export function", "return function");
const renderMarkdown = new Function("h", adminSource)((name, attributes, ...parts) => new Node(name, parts.flat()));

const marked = await import(pathToFileURL(`${root}/http/widget/static/marked.esm.js`));
const MarkdownView = new Function("marked", `${read("http/widget/static/markdown.js")}; return MarkdownView;`)(marked);

const texts = JSON.parse(fs.readFileSync(0, "utf8"));
const shown = texts.map((text) => {
  const view = new MarkdownView(new Node("div"), { copy: "Copy", drawMath() {} });
  view.draw(text);
  return [new Node("div", renderMarkdown(text)).text, view.target.text];
});
console.log(JSON.stringify(shown));
