// The work list: what was handed in, what came of it, and which one is looked at. Arrow keys, Home, End and Delete.
import { bytes } from "./heat.js";
import { el, percent } from "./dom.js";
import { KINDS, serious } from "./reading.js";

let numbers = 0;

export class WorkList {
  /** `chosen(entry)` whenever another is looked at (null: none is left); `gone(entry)` when one was taken out. */
  constructor(list, count, chosen, gone) {
    this.list = list;
    this.count = count;
    this.chosen = chosen;
    this.gone = gone;
    this.entries = [];
    this.current = null;
    list.addEventListener("keydown", (event) => this.key(event));
  }

  /** New entries for files; the first is looked at if none was. */
  add(files) {
    const added = [...files].map((file) => ({ id: ++numbers, file, state: "waiting", row: null, picture: null }));
    for (const entry of added) {
      entry.button = el("button", { type: "button", class: "entry", onclick: () => this.choose(entry) });
      entry.item = el("li", {}, entry.button);
      this.list.append(entry.item);
      this.show(entry);
    }
    this.entries.push(...added);
    this.tell();
    if (!this.current && added.length) this.choose(added[0]);
    return added;
  }

  choose(entry, focus = false) {
    this.current = entry;
    for (const each of this.entries) each.button.setAttribute("aria-current", String(each === entry));
    if (entry && focus) entry.button.focus();
    this.chosen(entry);
  }

  /** An entry's row has come, or it began to be read. */
  async update(entry, state, row = null) {
    entry.state = state;
    entry.row = row;
    if (row && row.shown) {
      const picture = await createImageBitmap(new Blob([bytes(row.shown)], { type: "image/jpeg" }));
      delete row.shown;
      if (!this.entries.includes(entry)) return picture.close();
      entry.picture?.close();
      entry.picture = picture;
    }
    this.show(entry);
    if (entry === this.current) this.chosen(entry);
  }

  show(entry) {
    const thumb = el("canvas", { class: "thumb", width: 44, height: 44, "aria-hidden": "true" });
    if (entry.picture) cover(thumb, entry.picture);
    const name = el("span", { class: "name" }, entry.row?.file || entry.file.name || "pasted image");
    entry.button.replaceChildren(thumb, el("span", {}, name, el("span", { class: "what" }, ...words(entry))));
  }

  key(event) {
    const at = this.entries.indexOf(this.current);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.entries.length - 1 }[event.key];
    if (to !== undefined && this.entries[to]) this.choose(this.entries[to], true);
    else if (event.key === "Delete" && this.current) this.remove(this.current);
    else if (to === undefined) return;
    event.preventDefault();
  }

  remove(entry) {
    const at = this.entries.indexOf(entry);
    this.drop(entry);
    this.entries.splice(at, 1);
    this.tell();
    this.choose(this.entries[Math.min(at, this.entries.length - 1)] || null, true);
  }

  /** Forget everything. */
  clear() {
    for (const entry of this.entries) this.drop(entry);
    this.entries = [];
    this.tell();
    this.choose(null);
  }

  drop(entry) {
    this.gone(entry);
    entry.picture?.close();
    entry.picture = entry.row = entry.file = null;
    entry.item.remove();
  }

  tell() {
    this.count.textContent = this.entries.length || "";
  }
}

function cover(canvas, picture) {
  const side = Math.min(picture.width, picture.height);
  const [left, top] = [(picture.width - side) / 2, (picture.height - side) / 2];
  canvas.getContext("2d").drawImage(picture, left, top, side, side, 0, 0, canvas.width, canvas.height);
}

function words({ state, row }) {
  if (state === "waiting") return ["waits"];
  if (state === "reading") return ["is being read"];
  if (row.error) return [el("span", { class: "wrong" }, row.error)];
  const refer = row.band === "refer" ? [" · ", el("span", { class: "refer" }, "refer")] : [];
  const warning = serious(row); // who skims the list must not take a photograph's class for an answer
  if (warning) return [el("b", {}, KINDS[warning.kind] || warning.kind), ...refer];
  return [el("b", {}, row.class), ` ${percent(row.probability)}`, ...refer];
}
