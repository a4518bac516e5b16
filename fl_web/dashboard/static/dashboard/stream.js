// The page's ear: one EventSource, opened again for ever. Events are applied at once and drawn with the next frame.
const SILENT_S = 40;
const AGAIN_MS = 3000;

export class Stream {
  constructor(store, draw, told) {
    this.store = store;
    this.draw = draw;
    this.told = told;
    this.pending = [];
    this.heardAt = 0;
    this.open();
    setInterval(() => this.#watch(), 5000);
  }

  open() {
    this.source = new EventSource("/events");
    const take = (isAll) => (event) => this.#heard(JSON.parse(event.data), isAll);
    this.source.addEventListener("all", take(true));
    this.source.addEventListener("some", take(false));
    this.source.addEventListener("beat", (event) => this.#alive(JSON.parse(event.data)));
    this.source.onerror = () => {
      this.told(false);
      if (this.source.readyState === EventSource.CLOSED) this.#again();
    };
  }

  #again() {
    this.source.close();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), AGAIN_MS);
  }

  #watch() {
    if (this.heardAt && performance.now() - this.heardAt > SILENT_S * 1000) {
      this.told(false);
      this.heardAt = performance.now();
      this.#again();
    }
  }

  #alive({ now }) {
    this.heardAt = performance.now();
    this.store.heard(now);
    this.told(true);
  }

  #heard(body, isAll) {
    this.#alive(body);
    this.pending.push({ dirt: this.store.apply(body.parts, isAll), isAll });
    if (this.pending.length === 1) {
      // A page in the background gets no frames: its changes wait as one drawing of all.
      requestAnimationFrame(() => this.#flush());
    } else if (this.pending.length > 20) {
      this.pending.splice(0, this.pending.length - 1, { dirt: new Map(), isAll: true });
    }
  }

  #flush() {
    const pending = this.pending;
    this.pending = [];
    this.draw(merged(pending), pending.some((each) => each.isAll));
  }
}

function merged(pending) {
  if (pending.length === 1) return pending[0].dirt;
  const all = new Map();
  for (const { dirt } of pending) {
    for (const [job, touched] of dirt) {
      const known = all.get(job);
      if (!known) {
        all.set(job, touched);
        continue;
      }
      for (const key of ["head", "settings", "rounds", "events", "members"]) known[key] ||= touched[key];
      for (const id of touched.clients) known.clients.add(id);
    }
  }
  return all;
}
