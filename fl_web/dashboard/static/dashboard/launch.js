// The launch form, drawn from the options of fl-agg start. What is left as it is, is not sent: the defaults hold.
import { el } from "./dom.js";
import { words } from "./format.js";

const FIRST = ["task", "model", "strategy", "rounds", "local_epochs", "batch_size", "learning_rate", "cohort", "quorum", "deadline"];

export class LaunchForm {
  constructor(dialog, send, failed) {
    this.dialog = dialog;
    this.send = send;
    this.failed = failed;
    this.inputs = new Map();
  }

  async open() {
    if (!this.inputs.size) {
      try {
        const response = await fetch("/api/form");
        this.#draw(await response.json());
      } catch {
        this.failed("The fields of a launch could not be read: try again.");
        return;
      }
    }
    this.#clear();
    this.dialog.showModal();
  }

  #draw(fields) {
    const byName = new Map(fields.map((each) => [each.name, each]));
    const first = FIRST.filter((name) => byName.has(name)).map((name) => byName.get(name));
    const others = fields.filter((each) => !FIRST.includes(each.name));
    this.told = el("p", { class: "notice error", role: "alert", hidden: true });
    const form = el("form", { novalidate: true, onsubmit: (event) => this.#submit(event) },
      el("h2", { id: "launch-title" }, "Launch a run"),
      el("p", { class: "soft" }, "What is left empty is as the aggregator was started; what is shown in grey holds where it was told nothing else."),
      this.told,
      el("div", { class: "fields" }, ...first.map((each) => this.#field(each))),
      others.length ? el("details", {}, el("summary", {}, "More options"), el("div", { class: "fields" }, ...others.map((each) => this.#field(each)))) : null,
      el("div", { class: "buttons end" },
        el("button", { type: "button", class: "button", onclick: () => this.dialog.close() }, "Cancel"),
        el("button", { type: "submit", class: "button primary" }, "Launch"))); // prettier-ignore
    this.dialog.replaceChildren(form);
  }

  #field({ name, help, kind, choices, default: usual }) {
    const id = `launch-${name}`;
    const shown = usual === null || usual === undefined ? "" : String(usual);
    const attributes = { id, name, "aria-describedby": `${id}-help ${id}-error`, maxlength: "1000" };
    const input = kind === "choice"
      ? el("select", { id, name, "aria-describedby": `${id}-help ${id}-error` }, el("option", { value: "" }, shown ? `default: ${shown}` : "default"), ...choices.map((each) => el("option", { value: each }, each)))
      : el("input", { ...attributes, type: "text", inputmode: kind === "number" ? "decimal" : null, placeholder: shown || "default", autocomplete: "off" }); // prettier-ignore
    const error = el("span", { class: "error", id: `${id}-error` });
    this.inputs.set(name, { input, error });
    return el("div", { class: "field" }, el("label", { for: id }, words(name)), input, error, el("span", { class: "help", id: `${id}-help` }, help));
  }

  #clear() {
    this.told.hidden = true;
    for (const { input, error } of this.inputs.values()) {
      input.removeAttribute("aria-invalid");
      error.textContent = "";
    }
  }

  async #submit(event) {
    event.preventDefault();
    this.#clear();
    const settings = {};
    for (const [name, { input }] of this.inputs) {
      if (input.value.trim() !== "") settings[name] = input.value.trim();
    }
    const answer = await this.send(settings);
    if (answer.ok) {
      this.dialog.close();
      return;
    }
    const at = this.inputs.get(answer.field);
    if (!at) {
      this.told.textContent = answer.reason;
      this.told.hidden = false;
      return;
    }
    at.input.setAttribute("aria-invalid", "true");
    at.error.textContent = answer.reason;
    const hidden = at.input.closest("details");
    if (hidden) hidden.open = true;
    at.input.focus();
  }
}
