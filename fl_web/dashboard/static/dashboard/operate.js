// What an operator may do: buttons that the aggregator says it would take, and one line about what became of it.
import { byId, el, setClass, setText } from "./dom.js";
import { LaunchForm } from "./launch.js";

const RESULT_MS = 20_000;

const ACTIONS = {
  "finish-round": ["Stop after this round", ""],
  pause: ["Pause", ""],
  resume: ["Resume", "primary"],
  stop: ["Stop now", "danger"],
};
const SAID = { launch: "The run is launched.", more: "It goes on.", pause: "Paused: no further round opens.", resume: "It goes on.",
               "finish-round": "It stops when the open round has ended.", stop: "It stops.", evict: "The site is sent away." }; // prettier-ignore
const CONFIRM = {
  stop: ["Stop now?", "The open round is given up, and what the sites trained in it is lost. The run can be gone on with later.", "Stop now"],
};

export class Operate {
  constructor(page, job) {
    this.page = page;
    this.job = job;
    this.shown = "";
    this.form = new LaunchForm(byId("launch"), (settings) => this.send("launch", { settings }), (text) => this.#say(text, "bad"));
  }

  show(head) {
    const accepts = head?.run?.accepts ?? [];
    const shown = JSON.stringify([accepts, head?.online, head?.run?.name, Boolean(head?.run)]);
    if (shown === this.shown) return;
    this.shown = shown;
    const box = byId("operate");
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    box.replaceChildren(...(this.page.operator ? this.#controls(head, accepts) : [this.#invitation()]));
    if (focused) (box.querySelector(`[data-action="${focused}"]:not(:disabled)`) ?? box.querySelector("button:not(:disabled)"))?.focus();
  }

  #invitation() {
    return el("p", { class: "soft" }, "Everybody may look. To launch, pause or stop, ", el("a", { href: "/login" }, "log in"), ".");
  }

  #controls(head, accepts) {
    if (!head?.online) return [el("p", { class: "soft" }, "The aggregator is away: nothing can be asked of it. It takes up the run when it is started again.")];
    if (!head.run) return [el("p", { class: "soft" }, "This aggregator takes no commands.")];
    const button = (action, text, kind, onclick) =>
      el("button", { type: "button", class: `button ${kind}`, "data-action": action, disabled: !accepts.includes(action), onclick }, text);
    const rounds = el("input", { id: "more-rounds", type: "number", min: "1", max: "1000", value: "5", disabled: !accepts.includes("more") });
    return [
      el("div", { class: "buttons" },
        button("launch", "Launch…", accepts.includes("launch") ? "primary" : "", () => this.form.open()),
        button("more", "One more round", "", () => this.send("more", { settings: { rounds: "1" } }))),
      accepts.includes("launch") ? null : el("p", { class: "small soft" }, "A launch is taken between two runs, by an aggregator that was started with --wait."),
      el("div", { class: "more" }, el("label", { for: "more-rounds" }, "Rounds"), rounds,
        button("more", "Go on for these", "", () => this.send("more", { settings: { rounds: rounds.value } }))),
      el("div", { class: "buttons" }, ...Object.entries(ACTIONS).filter(([action]) => action !== "resume" || accepts.includes("resume"))
        .map(([action, [text, kind]]) => button(action, text, kind, () => this.#maybe(action)))),
    ]; // prettier-ignore
  }

  async #maybe(action) {
    const asked = CONFIRM[action];
    if (!asked || (await confirmed(...asked))) await this.send(action);
  }

  async evict(client) {
    const told = `${client} is sent away and takes no further part: it is refused until the aggregator is started anew. What it uploaded before stays in the model.`;
    if (await confirmed(`Evict ${client}?`, told, "Evict")) await this.send("evict", { client });
  }

  async send(action, more = {}) {
    this.#say("Asked; waiting for the aggregator…", "");
    let answer;
    try {
      const response = await fetch("/api/command", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Form-Token": this.page.formToken },
        body: JSON.stringify({ job: this.job(), action, ...more }),
      });
      answer = await response.json();
      if (response.status === 401) answer.reason = "Your login has ended: log in again.";
    } catch {
      answer = { ok: false, reason: "The dashboard does not answer.", field: "" };
    }
    this.#say(answer.ok ? answer.reason || SAID[action] : `Refused: ${answer.reason}`, answer.ok ? "good" : "bad");
    return answer;
  }

  // It stands where one looks, whatever part of the page that is, and goes after a while.
  #say(text, level) {
    setClass(byId("result"), `result ${level}`);
    setText(byId("result"), text);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => setText(byId("result"), ""), RESULT_MS);
  }
}

function confirmed(title, told, yes) {
  const dialog = byId("confirm");
  return new Promise((resolve) => {
    const form = el("form", { method: "dialog" }, el("h2", { id: "confirm-title" }, title), el("p", {}, told),
      el("div", { class: "buttons end" }, el("button", { class: "button", value: "", autofocus: true }, "Cancel"), el("button", { class: "button danger", value: "yes" }, yes))); // prettier-ignore
    dialog.replaceChildren(form);
    dialog.returnValue = "";
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.showModal();
  });
}
