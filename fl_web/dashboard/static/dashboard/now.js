// The page "Now": chooses a job, and hands what changed to the parts of the page that show it.
import { byId, el, setClass, setHidden, setText } from "./dom.js";
import { Curves } from "./curves.js";
import { showEmpty } from "./empty.js";
import { Happenings } from "./happenings.js";
import { Head } from "./head.js";
import { Operate } from "./operate.js";
import { Sites } from "./sites.js";
import { Store } from "./store.js";
import { Stream } from "./stream.js";

const page = byId("page").dataset;
const store = new Store();
const head = new Head(store);
const operate = new Operate(page, () => chosen);
const sites = new Sites(store, page.operator ? (id) => operate.evict(id) : null, (job) => joinLine(job));
const curves = new Curves(byId("curves"), byId("below"));
const happenings = new Happenings();
let chosen = null;

const joinLine = (job) => (job === "default" ? page.join.replace(" --job JOB", "") : page.join.replace("JOB", job));

function choose(dirt) {
  const wanted = decodeURIComponent(location.hash.replace("#job=", ""));
  const names = [...store.jobs.keys()].sort();
  const alive = names.filter((name) => store.jobs.get(name).head?.online);
  const next = names.includes(wanted) ? wanted : names.includes(chosen) ? chosen : (alive[0] ?? names[0] ?? null);
  const changed = next !== chosen;
  chosen = next;
  if (changed || dirt.size) showJobs(names);
  return changed;
}

function showJobs(names) {
  const box = byId("jobs");
  setHidden(box, names.length < 2);
  const shown = names.map((name) => `${name} ${store.jobs.get(name).head?.online} ${name === chosen}`).join();
  if (box.dataset.shown === shown) return;
  box.dataset.shown = shown;
  box.replaceChildren(
    ...names.map((name) => {
      const online = store.jobs.get(name).head?.online;
      const dot = el("span", { class: online ? "dot on" : "dot", "aria-hidden": "true" });
      const said = el("span", { class: "visually-hidden" }, online ? " (aggregator here)" : " (aggregator away)");
      return el("a", { href: `#job=${name}`, "aria-current": name === chosen ? "true" : null }, dot, name, said);
    }),
  );
}

function draw(dirt, isAll) {
  const all = choose(dirt) || isAll;
  const job = chosen === null ? null : store.jobs.get(chosen);
  setHidden(byId("content"), job === null);
  showEmpty(byId("empty"), job === null, store.link, joinLine("default"));
  if (job === null) return;
  const touched = dirt.get(chosen);
  if (all || touched?.head || touched?.members || touched?.rounds) head.show(chosen, job);
  if (all || touched?.head) operate.show(job.head);
  if (all || touched?.settings) head.showSettings(job.settings);
  if (all) sites.all(chosen, job);
  else if (touched) sites.changed(touched);
  if (all || touched?.rounds) curves.show(job.rounds);
  if (all || touched?.rounds || touched?.events) happenings.show(job);
}

let live = false;
function showLink(isLive) {
  live = isLive;
  const { connected, reason } = store.link;
  const node = byId("link");
  setClass(node, `pill ${live && connected ? "ok" : "bad"}`);
  setText(node, !live ? "not live" : connected ? "live" : "broker away");
  node.title = !live ? "The dashboard itself does not answer; what is shown is of before." : connected ? "" : reason;
}

addEventListener("hashchange", () => draw(new Map(), true));
document.addEventListener("themechange", () => curves.again());
setInterval(() => {
  if (chosen === null || document.hidden) return;
  head.tick(store.jobs.get(chosen));
  sites.tick();
}, 1000);
new Stream(store, (dirt, isAll) => {
  draw(dirt, isAll);
  showLink(live);
}, showLink);
