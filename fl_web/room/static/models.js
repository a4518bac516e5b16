// Which model reads: its card, the choice among those that are here, and what the server tells of new ones.
import { el, facts, percent } from "./dom.js";

const NEWEST = "";

export class Models {
  /** `news(text, again)` tells that another model reads from now on, or could. */
  constructor(state, news) {
    this.news = news;
    this.card = document.getElementById("model");
    this.choice = document.getElementById("choice");
    this.which = document.getElementById("which");
    this.help = document.getElementById("choice-help");
    this.refused = document.getElementById("refused");
    this.which.addEventListener("change", () => void this.ask(this.which.value));
    this.state = null;
    this.take(state);
    const source = new EventSource("/events");
    source.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    source.addEventListener("error", () => this.away());
  }

  take(state) {
    const before = this.state;
    this.state = state;
    this.draw(state);
    if (before) this.tell(before, state);
  }

  inUse(state = this.state) {
    return state.models.find((model) => model.digest === state.in_use) || null;
  }

  tell(before, state) {
    const known = new Set(before.models.map((model) => model.digest));
    const fresh = state.models.find((model) => !known.has(model.digest));
    const now = this.inUse(state);
    if (now && state.in_use !== before.in_use) {
      const came = fresh && fresh.digest === now.digest ? `A new model has arrived: ${called(now)}.` : "";
      this.news(`${came} From now on images are read by the model of ${round(now)}.`.trim(), Boolean(before.in_use));
    } else if (fresh) {
      this.news(`A new model has arrived: ${called(fresh)}. The one you chose stays in use.`, false);
    }
    if (state.refused.length > before.refused.length) this.news("A model was refused: see below.", false);
  }

  draw(state) {
    const model = this.inUse(state);
    this.card.replaceChildren(model ? described(model, state) : el("p", {}, state.link ? `No model is here yet: ${state.link}.` : "No model is here yet."));
    this.choice.hidden = state.models.length < 2 && !state.pinned;
    const newest = state.follows ? "The newest, always" : "The newest";
    const options = [[NEWEST, newest], ...state.models.map((each) => [each.digest, `Stay with ${round(each)} (${each.digest.slice(0, 8)})`])];
    this.which.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
    this.which.value = state.pinned ? state.in_use : NEWEST;
    this.help.textContent = state.pinned ? "Newer models are announced here, and not used." : "A newer model is used as soon as it is here.";
    this.refused.replaceChildren(...state.refused.map((each) => el("p", { class: "notice error" },
      el("b", {}, "A model was refused. "), `${each.reason} (${each.digest.slice(0, 12)})`)));
  }

  async ask(digest) {
    const answer = await fetch("/model", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ digest: digest || null }),
    }).catch(() => null);
    if (answer?.ok) return;
    const said = await answer?.json().catch(() => ({}));
    this.news(said?.error || "The reading room does not answer.", false);
    this.draw(this.state);
  }

  away() {
    this.help.textContent = "The reading room does not answer: is it running? This page tries again by itself.";
  }
}

const round = (model) => (model.round === null ? "an unknown round" : `round ${model.round}`);
const called = (model) => `${model.name}, ${round(model)}`;

function described(model, state) {
  return facts([
    ["Name", model.name], ["Round", model.round === null ? "not known" : String(model.round)],
    ["Sites", model.sites === null ? "not known" : String(model.sites)],
    ["Test figures", figures(model.figures)], ["Calibrated", model.calibrated ? "yes" : "no: its figures are scores"],
    ["Classes", model.classes.join(", ")], ["Looks at", `${model.image_size} × ${model.image_size} pixels`],
    ["Here since", new Date(model.arrived * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })],
    ["Digest", el("code", { title: model.digest }, `${model.digest.slice(0, 16)}…`)], ["Runs on", model.runs_on], ["Source", state.link],
  ]);
}

function figures(found) {
  const words = [];
  if (found.auroc !== undefined) {
    const edges = found.auroc_low !== undefined ? ` (${found.auroc_low.toFixed(2)} to ${found.auroc_high.toFixed(2)})` : "";
    words.push(`AUROC ${found.auroc.toFixed(3)}${edges}`);
  }
  if (found.accuracy !== undefined) words.push(`accuracy ${percent(found.accuracy)}`);
  if (found.sites_auroc !== undefined) words.push(`AUROC at the sites ${found.sites_auroc.toFixed(3)}`);
  return words.join(", ") || "not known";
}
