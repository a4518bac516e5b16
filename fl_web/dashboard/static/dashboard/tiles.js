// A tile a site; of a site that changed only what differs is touched.
import { el, setClass, setHidden, setShare, setText } from "./dom.js";
import { bytes, count, figure } from "./format.js";
import { aurocOf, classesOf, isAway, progressOf, seenOf, stateOf } from "./site.js";

const MOST = 240;

export class Tiles {
  constructor(store, evict) {
    this.store = store;
    this.evict = evict;
    this.list = el("ul", { class: "tiles" });
    this.more = el("p", { class: "soft", hidden: true });
    this.box = el("div", {}, this.list, this.more);
    this.tiles = new Map();
  }

  all(job, names) {
    this.job = job;
    const shown = names.slice(0, MOST);
    setHidden(this.more, names.length <= MOST);
    setText(this.more, `${names.length - MOST} more are in the table.`);
    setClass(this.list, shown.length > 24 ? "tiles many" : "tiles");
    const wanted = new Set(shown);
    for (const [id, tile] of this.tiles) {
      if (!wanted.has(id)) {
        tile.box.remove();
        this.tiles.delete(id);
      }
    }
    shown.forEach((id, index) => {
      const tile = this.tiles.get(id) ?? this.#tile(id);
      if (this.list.children[index] !== tile.box) this.list.insertBefore(tile.box, this.list.children[index] ?? null);
      this.#show(id, tile);
    });
  }

  changed(ids) {
    for (const id of ids) {
      const tile = this.tiles.get(id);
      if (tile) this.#show(id, tile);
    }
  }

  tick() {
    for (const [id, tile] of this.tiles) this.#seen(this.job.clients.get(id), tile);
  }

  #tile(id) {
    const part = (name, attributes = {}) => el(name, attributes);
    const tile = {
      name: el("h3", { class: "tile-name", title: id }, id), state: part("span", { class: "pill" }), bar: part("div", { class: "bar", "aria-hidden": "true" }),
      told: part("p", { class: "small tile-told num" }), images: part("dd", { class: "num" }), patients: part("dd", { class: "num" }), classes: part("p", { class: "small soft tile-classes num" }),
      link: part("dd", { class: "num" }), auroc: part("dd", { class: "num" }), seen: part("dd", { class: "num" }),
    }; // prettier-ignore
    const pair = (name, node) => el("div", {}, el("dt", {}, name), node);
    const facts = el("dl", { class: "tile-facts" }, pair("Images", tile.images), pair("AUROC", tile.auroc), pair("Patients", tile.patients), pair("Link", tile.link), pair("Seen", tile.seen));
    const evict = this.evict && el("button", { type: "button", class: "text-button", onclick: () => this.evict(id), "aria-label": `Evict ${id}` }, "Evict");
    tile.evict = evict;
    tile.box = el("li", { class: "card tile" }, el("div", { class: "tile-top" }, tile.name, tile.state), tile.bar, tile.told, facts, tile.classes, evict);
    tile.box.dataset.client = id;
    this.tiles.set(id, tile);
    return tile;
  }

  #show(id, tile) {
    const row = this.job.clients.get(id);
    if (!row) return;
    const [state, level] = stateOf(row);
    const [share, told] = progressOf(row);
    setText(tile.state, state);
    setClass(tile.state, `pill ${level}`);
    setClass(tile.box, `card tile${isAway(row) ? " away" : ""}${row.cohort ? " invited" : ""}`);
    setShare(tile.bar, share);
    setClass(tile.bar, row.verdict === "accepted" ? "bar done" : "bar");
    setText(tile.told, told);
    setText(tile.images, count(row.data?.images ?? (row.examples || null)));
    setText(tile.patients, count(row.data?.patients));
    setText(tile.classes, classesOf(row));
    setText(tile.link, row.speed_bps === null ? "–" : `${bytes(row.speed_bps)}/s`);
    setText(tile.auroc, figure(aurocOf(row)));
    if (tile.evict) setHidden(tile.evict, isAway(row));
    this.#seen(row, tile);
  }

  #seen(row, tile) {
    if (row) setText(tile.seen, seenOf(row, this.store.now()));
  }
}
