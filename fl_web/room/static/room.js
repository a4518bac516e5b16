// The page: images come in by choosing, dropping or pasting, go to the server one by one, and are read from the list.
import { el } from "./dom.js";
import { WorkList } from "./list.js";
import { Models } from "./models.js";
import { reading, spoken } from "./reading.js";
import { Sender } from "./send.js";

const at = (id) => document.getElementById(id);
const [said, notices, view, nothing, work, files] = ["said", "notices", "reading", "nothing", "work", "files"].map(at);
const mostMb = Number(document.querySelector(".room").dataset.mostMb);

// --- what is seen --------------------------------------------------------------------------------------------------

function show(entry) {
  work.hidden = list.entries.length === 0;
  nothing.hidden = entry !== null;
  view.hidden = entry === null;
  at("view-title")?.removeAttribute("id");
  view.replaceChildren(...(entry ? [reading(entry, models.state.refer_below)] : []));
  if (!entry) nothing.querySelector("h2").id = "view-title";
}

function news(text, again) {
  const buttons = [el("button", { class: "button", type: "button", onclick: () => notice.remove() }, "Dismiss")];
  if (again && list.entries.length) {
    buttons.unshift(el("button", { class: "button", type: "button", onclick: () => { notice.remove(); readAgain(); } }, "Read the list again"));
  }
  const notice = el("p", { class: "notice news" }, el("span", {}, text), ...buttons);
  notices.replaceChildren(notice);
  said.textContent = text;
}

// --- what is done --------------------------------------------------------------------------------------------------

const sender = new Sender(
  mostMb,
  (entry) => void list.update(entry, "reading"),
  (entry, row) => {
    if (row.error === undefined || !entry.file) said.textContent = entry.file ? spoken(row) : "";
    else said.textContent = spoken(row);
    void list.update(entry, "done", row);
  },
);
const list = new WorkList(at("list"), at("count"), (entry) => show(entry), (entry) => sender.forget((each) => each === entry));
const models = new Models(JSON.parse(at("state").textContent), news);

function take(given) {
  const found = [...given].filter((file) => file instanceof File);
  if (found.length) sender.add(list.add(found));
}

function readAgain() {
  sender.forget();
  for (const entry of list.entries) void list.update(entry, "waiting");
  sender.add([...list.entries]);
}

files.addEventListener("change", () => {
  take(files.files);
  files.value = "";
});

at("clear").addEventListener("click", () => {
  sender.forget();
  list.clear();
  notices.replaceChildren();
  said.textContent = "All images are forgotten.";
  files.focus();
});

document.addEventListener("paste", (event) => {
  const pasted = event.clipboardData?.files;
  if (!pasted?.length) return;
  event.preventDefault();
  take(pasted);
});

let inside = 0;
const holdsFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  inside += 1;
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!holdsFiles(event)) return;
  inside = Math.max(0, inside - 1);
  if (!inside) document.body.classList.remove("dropping");
});
document.addEventListener("dragover", (event) => {
  if (holdsFiles(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files);
});
