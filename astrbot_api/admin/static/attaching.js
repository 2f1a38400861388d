// Files of the composer. They are uploaded immediately, and a message waits for them.

import { bytes, h, icon, t } from "./dom.js";

export class Attaching {
  /** `box` contains the files. `upload(file, options)` is that of a client's files. */
  constructor(box, upload) {
    this.box = box;
    this.upload = upload;
    this.files = [];
    this.waits = false;
  }

  /** Files whose upload is complete. */
  get ready() { return this.files.filter((one) => one.id); }

  /** Upload files, one by one. */
  add(files) {
    for (const file of files) {
      const one = { file, name: file.name || "pasted.png", type: "file", id: "", fault: "", part: 0 };
      this.files.push(one);
      this.#begin(one);
    }
  }

  /** Restore attachments. */
  restore(files) {
    this.files.push(...files);
    this.show();
  }

  /** Remove and return all files, to send them with a message. */
  take() {
    const taken = this.ready;
    this.clear();
    return taken;
  }

  clear() {
    for (const one of this.files) one.abort?.abort();
    this.files = [];
    this.show();
  }

  /** Resolve when no upload is running, to whether all uploads succeeded. */
  async settled() {
    this.waits = true;
    this.show();
    while (this.files.some((one) => one.running)) await Promise.all(this.files.map((one) => one.running));
    this.waits = false;
    this.show();
    return this.files.every((one) => one.id);
  }

  #begin(one) {
    Object.assign(one, { fault: "", part: 0, abort: new AbortController() });
    one.running = (this.last ?? Promise.resolve()).then(() => this.#upload(one)).then(
      (data) => Object.assign(one, { id: data.attachment_id, type: data.type, name: data.filename }),
      (error) => { one.fault = error.message; },
    ).finally(() => {
      one.running = null;
      this.show();
    });
    this.last = one.running;
    this.show();
  }

  #upload(one) {
    one.abort.signal.throwIfAborted();
    return this.upload(one.file, { filename: one.name, signal: one.abort.signal, progress: (done, total) => {
      one.part = total ? done / total : 0;
      this.#showPart(one);
    } });
  }

  #showPart(one) {
    if (!one.bar) return;
    one.bar.value = one.part;
    one.note.textContent = `${Math.floor(one.part * 100)} % · ${bytes(one.file.size)}`;
  }

  show() {
    this.box.hidden = this.files.length === 0;
    this.box.replaceChildren(...this.files.map((one) => this.#chip(one)),
      this.waits ? h("span", { class: "small muted", role: "status" }, t("The message is sent after the uploads.")) : "");
  }

  #chip(one) {
    one.bar = one.id || one.fault ? null : h("progress", { max: 1, value: one.part, "aria-label": one.name });
    one.note = h("span", { class: "small muted nowrap" });
    const again = one.fault ? h("button", { class: "btn ghost small", type: "button", onclick: () => this.#begin(one) }, t("Try again")) : null;
    const chip = h("span", { class: one.fault ? "filechip bad" : "filechip" }, icon("file"), h("span", { class: "name" }, one.name), one.bar, one.note,
      one.fault ? h("span", { class: "small", role: "alert" }, one.fault) : null, again,
      h("button", { class: "btn ghost icon-only small", type: "button", "aria-label": t("Remove {name}", { name: one.name }), onclick: () => {
        this.files.splice(this.files.indexOf(one), 1);
        one.abort?.abort();
        this.show();
      } }, icon("close")));
    this.#showPart(one);
    return chip;
  }
}
