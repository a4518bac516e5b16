// What happened, newest first: what came while the dashboard looked, and the rounds of before from their lines.
import { byId, el } from "./dom.js";
import { count, plural, span, timeOfDay } from "./format.js";

const SHOWN = 200;
const LEVELS = { closed: "ok", closed_short: "warn", abandoned: "bad" };

export class Happenings {
  constructor() {
    this.later = null;
  }

  // Lists are drawn at most twice a second: a thousand joins are one drawing.
  show(job) {
    this.job = job;
    this.later ??= setTimeout(() => {
      this.later = null;
      this.#draw();
    }, this.drawn ? 400 : 0);
    this.drawn = true;
  }

  #draw() {
    const rounds = [...this.job.rounds.values()].sort((a, b) => b.round - a.round);
    const all = [...[...this.job.events.values()].map(told), ...rounds.slice(0, SHOWN).flatMap(ofRound)];
    all.sort((a, b) => b.at - a.at || a.order - b.order);
    const box = byId("events");
    const rows = all.slice(0, SHOWN).map((each) =>
      el("div", { class: "event", id: each.id, tabindex: each.id ? "-1" : null }, el("time", { class: "small soft num" }, timeOfDay(each.at)), el("span", { class: `mark ${each.level}`, "aria-hidden": "true" }), el("span", {}, each.text)),
    );
    box.replaceChildren(...(rows.length ? rows : [el("p", { class: "soft" }, "Nothing yet.")]));
    this.#refusals(rounds);
  }

  #refusals(rounds) {
    const reasons = new Map();
    for (const line of rounds) {
      for (const [reason, times] of Object.entries(line.refusals)) {
        const known = reasons.get(reason) ?? { times: 0, round: line.round, clients: new Set() };
        known.times += times;
        line.rejected.filter((each) => each.reason === reason).forEach((each) => known.clients.add(each.client));
        reasons.set(reason, known);
      }
      if (line.stragglers) {
        const known = reasons.get("late") ?? { times: 0, round: line.round, clients: new Set() };
        known.times += line.stragglers;
        line.late.forEach((client) => known.clients.add(client));
        reasons.set("late", known);
      }
    }
    const rows = [...reasons].sort((a, b) => b[1].times - a[1].times);
    const box = byId("refusals");
    if (!rows.length) {
      box.replaceChildren(el("p", { class: "soft" }, rounds.length ? "None: every update was taken." : "None so far."));
      return;
    }
    const head = el("tr", {}, ...["Reason", "Times", "Sites", "Last"].map((name, index) => el("th", { scope: "col", class: index ? "n" : "" }, name)));
    const body = rows.map(([reason, { times, round, clients }]) =>
      el("tr", {}, el("td", {}, el("code", {}, reason)), el("td", { class: "n" }, count(times)), el("td", { class: "n" }, count(clients.size)),
        el("td", { class: "n" }, el("button", { type: "button", class: "text-button", onclick: () => point(round), "aria-label": `Round ${round}: show what happened` }, `round ${round}`))), // prettier-ignore
    );
    box.replaceChildren(el("table", { class: "table" }, el("thead", {}, head), el("tbody", {}, ...body)));
  }
}

const told = (event) => ({ at: event.at, order: 1, text: event.text, level: event.level });

function ofRound(line) {
  const began = Date.parse(line.started_at) / 1000;
  const at = (Number.isFinite(began) ? began : 0) + line.duration_s;
  const parts = [`${plural(line.accepted, "update")} accepted`];
  if (line.stragglers) parts.push(`${count(line.stragglers)} late`);
  for (const { client, reason, count: times } of line.rejected) parts.push(`${client}: ${reason}${times > 1 ? ` ×${times}` : ""}`);
  if (line.ended_early) parts.push(line.ended_early);
  const how = line.outcome === "closed" ? "closed" : line.outcome.replaceAll("_", " ");
  return [{ at, order: 0, id: `event-round-${line.round}`, level: LEVELS[line.outcome] ?? "", text: `Round ${line.round} ${how} after ${span(line.duration_s)}: ${parts.join(", ")}` }];
}

function point(round) {
  const node = byId(`event-round-${round}`);
  if (!node) return;
  document.querySelector(".event.pointed")?.classList.remove("pointed");
  node.classList.add("pointed");
  node.scrollIntoView({ block: "center" });
  node.focus({ preventScroll: true });
}
