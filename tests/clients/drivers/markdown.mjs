// Render texts with the Markdown of the owner's pages and of the widget, without a browser.
// With hidden, show the hidden characters of arguments instead.
//
//   node markdown.mjs FOLDER_OF_THE_WIDGETS_SCRIPTS [hidden] < TEXTS_AS_JSON > SHOWN_TEXTS_AS_JSON

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];

class Node {
  parts = [];
  style = {};
  append(...parts) { this.parts.push(...parts); }
  remove() {}
  setAttribute() {}
  addEventListener() {}
  get text() { return this.parts.map((one) => (one instanceof Node ? one.text : String(one))).join(""); }
}

globalThis.document = {
  createElement: () => new Node(),
  createTextNode: (text) => text,
};

const marked = await import(pathToFileURL(`${folder}/marked.esm.js`));
const source = fs.readFileSync(`${folder}/markdown.js`, "utf8").replace(/^import .*$/m, "").replace(/^export /gm, "");
const { MarkdownView, showHidden } = new Function("marked", `${source}\nreturn { MarkdownView, showHidden };`)(marked);

const texts = JSON.parse(fs.readFileSync(0, "utf8"));
const shown = texts.map((text) => {
  if (process.argv[3] === "hidden") return showHidden(text);
  const view = new MarkdownView(new Node(), { copy: "Copy", drawMath() {} });
  view.draw(text);
  return view.target.text;
});
console.log(JSON.stringify(shown));
