// Sites as tiles or as a table: what both have in common, and which of them is shown.
import { byId, el, setHidden, setText } from "./dom.js";
import { plural } from "./format.js";
import { Table } from "./table.js";
import { Tiles } from "./tiles.js";

const TILES_UP_TO = 48;

export class Sites {
  constructor(store, evict, joinLine) {
    this.store = store;
    this.joinLine = joinLine;
    this.box = byId("sites");
    this.filter = "";
    this.wished = null;
    this.views = { tiles: new Tiles(store, evict), table: new Table(store, evict) };
    for (const name of ["tiles", "table"]) {
      byId(`as-${name}`).addEventListener("click", () => {
        this.wished = name;
        this.#redraw();
      });
    }
    byId("site-filter").addEventListener("input", (event) => {
      this.filter = event.target.value.trim().toLowerCase();
      this.#redraw();
    });
  }

  all(name, job) {
    this.name = name;
    this.job = job;
    this.#redraw();
  }

  changed(touched) {
    if (touched.members) this.#redraw();
    else if (touched.clients.size) {
      this.view.changed(touched.clients);
      this.#count();
    } else if (touched.head) this.#count();
  }

  tick() {
    this.view?.tick();
  }

  #redraw() {
    const names = [...this.job.clients.keys()].filter((id) => id.includes(this.filter)).sort(byNumber);
    const kind = this.wished ?? (this.job.clients.size > TILES_UP_TO ? "table" : "tiles");
    for (const each of ["tiles", "table"]) byId(`as-${each}`).setAttribute("aria-pressed", String(each === kind));
    const view = this.views[kind];
    const shown = names.length ? view.box : this.#nobody();
    if (this.box.firstChild !== shown) this.box.replaceChildren(shown);
    this.view = view;
    setHidden(byId("site-filter"), this.job.clients.size < 9);
    setHidden(byId("as-what"), this.job.clients.size === 0);
    view.all(this.job, names);
    this.#count();
  }

  #nobody() {
    if (this.filter) return el("p", { class: "card soft" }, "No site has such a name.");
    return el(
      "div",
      { class: "card empty" },
      el("h3", {}, "No site has joined yet"),
      el("p", {}, "At each site, beside its images: ", el("code", {}, this.joinLine(this.name))),
      el("p", { class: "soft small" }, "The images stay there. Only model updates travel."),
    );
  }

  #count() {
    let [here, away, training, uploading] = [0, 0, 0, 0];
    for (const each of this.job.clients.values()) {
      if (each.state === "lost" || each.state === "left") away += 1;
      else here += 1;
      if (each.state === "training") training += 1;
      if (each.state === "uploading") uploading += 1;
    }
    const parts = [`${plural(here, "site")} here`];
    if (training) parts.push(`${training} training`);
    if (uploading) parts.push(`${uploading} uploading`);
    if (away) parts.push(`${away} away`);
    setText(byId("sites-told"), this.job.clients.size ? parts.join(" · ") : "");
  }
}

const collator = new Intl.Collator("en", { numeric: true });
const byNumber = collator.compare;
