// A thousand sites: only the rows in view exist, and of those only what differs is touched.
import { el, setClass, setShare, setText } from "./dom.js";
import { bytes, count, figure } from "./format.js";
import { aurocOf, progressOf, seenOf, stateOf } from "./site.js";

const ROW = 41;
const SPARE = 6;
const COLUMNS = [["Site", "c-site"], ["State", "c-state"], ["Progress", "c-progress"], ["Images", "c-images n"],
                 ["AUROC", "c-auroc n"], ["Link", "c-link n"], ["Seen", "c-seen n"]]; // prettier-ignore

export class Table {
  constructor(store, evict) {
    this.store = store;
    this.evict = evict;
    this.names = [];
    this.slots = [];
    const head = el("div", { class: "v-row v-head", role: "row", "aria-rowindex": "1" },
      ...COLUMNS.map(([name, kind]) => el("div", { class: `v-cell ${kind}`, role: "columnheader" }, name)),
      el("div", { class: "v-cell c-evict", role: "columnheader" }, el("span", { class: "visually-hidden" }, "Evict"))); // prettier-ignore
    this.rows = el("div", { class: "v-rows", role: "rowgroup" });
    const headGroup = el("div", { role: "rowgroup" }, head);
    this.scroll = el("div", { class: "v-scroll", tabindex: "0", role: "table", "aria-label": "Sites", onscroll: () => this.#place(false) }, headGroup, this.rows);
    this.box = el("div", { class: "card v-table" }, this.scroll);
    new ResizeObserver(() => this.#place(false)).observe(this.scroll);
  }

  all(job, names) {
    this.job = job;
    this.names = names;
    this.scroll.setAttribute("aria-rowcount", String(names.length + 1));
    this.scroll.style.setProperty("--rows", String(names.length));
    this.#place(true);
  }

  changed(ids) {
    for (const slot of this.slots) if (ids.has(slot.id)) this.#show(slot);
  }

  tick() {
    for (const slot of this.slots) if (slot.id) this.#seen(slot);
  }

  // Give every name in view a slot. A slot keeps its name while that is in view, so that focus stays where it was.
  #place(again) {
    const height = this.scroll.clientHeight || 600;
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - SPARE);
    const last = Math.min(this.names.length, Math.ceil((this.scroll.scrollTop + height) / ROW) + SPARE);
    const wanted = new Map();
    for (let index = first; index < last; index += 1) wanted.set(this.names[index], index);
    const free = [];
    for (const slot of this.slots) {
      if (!wanted.has(slot.id)) free.push(slot);
      else {
        if (again || slot.index !== wanted.get(slot.id)) this.#put(slot, slot.id, wanted.get(slot.id));
        wanted.delete(slot.id);
      }
    }
    for (const [id, index] of wanted) this.#put(free.pop() ?? this.#slot(), id, index);
    for (const slot of free) {
      slot.id = null;
      slot.box.hidden = true;
    }
  }

  #slot() {
    const cell = (kind, ...children) => el("div", { class: `v-cell ${kind}`, role: "cell" }, ...children);
    const slot = { id: null, index: -1, state: el("span", { class: "pill" }), bar: el("div", { class: "bar", "aria-hidden": "true" }), told: el("span", { class: "v-told" }) };
    const [name, images, auroc, link, seen] = [cell("c-site"), cell("c-images n"), cell("c-auroc n"), cell("c-link n"), cell("c-seen n")];
    const button = this.evict && el("button", { type: "button", class: "text-button", onclick: () => this.evict(slot.id) }, "Evict");
    Object.assign(slot, { name, images, auroc, link, seen, button });
    slot.box = el("div", { class: "v-row", role: "row" }, name, cell("c-state", slot.state), cell("c-progress", slot.bar, slot.told), images, auroc, link, seen, cell("c-evict", button));
    this.slots.push(slot);
    this.rows.append(slot.box);
    return slot;
  }

  #put(slot, id, index) {
    slot.id = id;
    slot.index = index;
    slot.box.hidden = false;
    slot.box.dataset.client = id;
    slot.box.style.setProperty("--at", String(index));
    slot.box.setAttribute("aria-rowindex", String(index + 2));
    this.#show(slot);
  }

  #show(slot) {
    const row = this.job.clients.get(slot.id);
    if (!row) return;
    const [state, level] = stateOf(row);
    const [share, told] = progressOf(row);
    setText(slot.name, slot.id);
    setText(slot.state, state);
    setClass(slot.state, `pill ${level}`);
    setShare(slot.bar, share);
    setClass(slot.bar, row.verdict === "accepted" ? "bar done" : "bar");
    setText(slot.told, told);
    setText(slot.images, count(row.data?.images ?? row.examples));
    setText(slot.auroc, figure(aurocOf(row)));
    setText(slot.link, row.speed_bps === null ? "–" : `${bytes(row.speed_bps)}/s`);
    if (slot.button && slot.button.dataset.of !== slot.id) {
      slot.button.dataset.of = slot.id;
      slot.button.setAttribute("aria-label", `Evict ${slot.id}`);
    }
    this.#seen(slot);
  }

  #seen(slot) {
    const row = this.job.clients.get(slot.id);
    if (row) setText(slot.seen, seenOf(row, this.store.now()));
  }
}
