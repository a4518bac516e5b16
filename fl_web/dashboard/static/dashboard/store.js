// What the server told, by job. `apply` takes the parts of one event and says which of them the page has to draw again.
const MAX_EVENTS = 500;

const newJob = () => ({ head: null, settings: {}, clients: new Map(), rounds: new Map(), events: new Map() });
const newDirt = () => ({ head: false, settings: false, rounds: false, events: false, members: false, clients: new Set() });

export class Store {
  constructor() {
    this.link = { connected: false, reason: "", broker: "" };
    this.jobs = new Map();
    this.offset = 0;
  }

  // The server's clock, so that "3 s ago" is true on a machine whose clock is wrong.
  now() {
    return Date.now() / 1000 + this.offset;
  }

  heard(now) {
    this.offset = now - Date.now() / 1000;
  }

  apply(parts, isAll) {
    const dirt = new Map();
    if (isAll) this.jobs.clear();
    for (const [name, value] of Object.entries(parts)) this.#take(name.split("/"), value, dirt);
    return dirt;
  }

  #take([kind, jobName, id], value, dirt) {
    if (kind === "link") {
      this.link = value;
      return;
    }
    if (!this.jobs.has(jobName)) this.jobs.set(jobName, newJob());
    if (!dirt.has(jobName)) dirt.set(jobName, newDirt());
    const [job, touched] = [this.jobs.get(jobName), dirt.get(jobName)];
    if (kind === "job") {
      job.head = value;
      touched.head = true;
    } else if (kind === "settings") {
      job.settings = value;
      touched.settings = true;
    } else if (kind === "client") {
      if (job.clients.has(id) !== (value !== null)) touched.members = true;
      this.#set(job.clients, id, value);
      touched.clients.add(id);
    } else if (kind === "round") {
      this.#set(job.rounds, Number(id), value);
      touched.rounds = true;
    } else if (kind === "event") {
      this.#set(job.events, Number(id), value);
      while (job.events.size > MAX_EVENTS) job.events.delete(job.events.keys().next().value);
      touched.events = true;
    }
  }

  #set(map, key, value) {
    if (value === null) map.delete(key);
    else map.set(key, value);
  }
}
