// Images to the server, one after another; whatever goes wrong is a row with its error.

const REASONS = { 413: "is too large", 503: "cannot be read now: the server is busy" };

export class Sender {
  /** `done(entry, row)` for every entry, in order; `began(entry)` before. */
  constructor(mostMb, began, done) {
    this.mostMb = mostMb;
    this.began = began;
    this.done = done;
    this.waiting = [];
    this.under = null;
  }

  add(entries) {
    this.waiting.push(...entries);
    if (!this.under) void this.run();
  }

  /** Forget what waits, and give up what is under way. */
  forget(gone = () => true) {
    this.waiting = this.waiting.filter((entry) => !gone(entry));
    if (this.under && gone(this.under.entry)) this.under.abort.abort();
  }

  async run() {
    while (this.waiting.length) {
      const entry = this.waiting.shift();
      const abort = new AbortController();
      this.under = { entry, abort };
      this.began(entry);
      const row = await this.ask(entry, abort.signal);
      if (!abort.signal.aborted) this.done(entry, row);
    }
    this.under = null;
  }

  async ask(entry, signal) {
    const name = entry.file.name || "pasted image";
    if (entry.file.size > this.mostMb * 1e6 - 2000) {
      return { file: name, error: `has ${Math.round(entry.file.size / 1e6)} MB: at most ${this.mostMb} MB are taken` };
    }
    const form = new FormData();
    form.append("file", entry.file, name);
    try {
      const answer = await fetch("/predict?shown=1", { method: "POST", body: form, signal });
      if (answer.ok) return (await answer.json())[0];
      const said = await answer.json().catch(() => ({}));
      return { file: name, error: said.error || REASONS[answer.status] || `was refused (${answer.status})` };
    } catch {
      return { file: name, error: "could not be sent: the reading room does not answer" };
    }
  }
}
