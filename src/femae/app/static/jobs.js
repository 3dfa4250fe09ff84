// The list of jobs: uploads files, polls the state of unfinished jobs, and cancels, shows and removes jobs.

import { api, upload } from "./api.js";
import { $, duration, el, megabytes, say } from "./dom.js";

const KEY = "femae-jobs"; // in sessionStorage: other tabs do not learn the ids, without which jobs cannot be accessed
const POLL_MS = 600;

const cards = new Map(); // id -> card
let polling = false;
let showResult = () => {};
let onRemoved = () => {};
let numLocal = 0;

/** `onShow(view)` is called to show a result, `onGone(id)` after its job was removed. */
export function setUpJobs({ onShow, onGone }) {
  showResult = onShow;
  onRemoved = onGone;
  let known = [];
  try {
    known = JSON.parse(sessionStorage.getItem(KEY)) ?? [];
  } catch {
    // storage is disabled or its content invalid: start without jobs
  }
  for (const id of known) addCard(id, { id, name: "…", state: "waiting", position: 0, problems: [] });
  poll();
  window.addEventListener("beforeunload", (event) => {
    if ([...cards.values()].some((card) => card.view.state === "uploading")) event.preventDefault();
  });
}

function remember() {
  const ids = [...cards.values()].filter((card) => card.view.state !== "uploading" && !card.isLocal);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(ids.map((card) => card.view.id)));
  } catch {
    // storage is disabled: a reload forgets the jobs
  }
}

/** Upload files as one job and start it. */
export async function addJob(files, { settings, maxBytes, maxPictures }) {
  const name = files.length === 1 ? files[0].name : `${files.length} pictures`;
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const card = addCard(`local-${++numLocal}`, { id: "", name, state: "uploading", sent: 0, total, problems: [] });
  card.isLocal = true;
  card.aborter = new AbortController();
  try {
    if (total > maxBytes) {
      throw new Error(
        `this is too large: ${megabytes(total)}, and this page takes up to ${megabytes(maxBytes)} a job; ` +
          "make it smaller, or use `femae predict`",
      );
    }
    if (files.length > maxPictures) throw new Error(`this page takes up to ${maxPictures} pictures at once`);
    const created = await api.create(settings);
    setId(card, created.id);
    let before = 0;
    for (const file of files) {
      await upload(created.id, file, {
        signal: card.aborter.signal,
        onProgress: (bytes) => draw(card, { ...card.view, sent: Math.min(before + bytes, total) }),
      });
      before += file.size;
    }
    draw(card, await api.start(created.id));
    remember();
    poll();
  } catch (error) {
    if (!card.isLocal) api.remove(card.view.id).catch(() => {});
    const stopped = error.name === "AbortError";
    card.isLocal = true;
    draw(card, { ...card.view, name, state: stopped ? "cancelled" : "failed", message: stopped ? "" : error.message });
  }
}

function addCard(key, view) {
  const card = { key, view, node: el("li", { className: "job" }), isLocal: false, aborter: null };
  card.name = el("span", { className: "name" });
  card.state = el("p", { className: "state" });
  card.bar = el("progress", { max: 1 });
  card.buttons = el("div", { className: "row" });
  card.node.append(el("div", { className: "head" }, card.name, card.buttons), card.state, card.bar);
  cards.set(key, card);
  $("job-list").prepend(card.node);
  $("no-jobs").hidden = true;
  draw(card, view);
  return card;
}

/** Give the card of a local job the id that the server has assigned. */
function setId(card, id) {
  cards.delete(card.key);
  card.key = id;
  card.isLocal = false;
  cards.set(id, card);
  draw(card, { ...card.view, id });
}

function removeCard(card) {
  const focused = card.node.contains(document.activeElement);
  cards.delete(card.key);
  card.node.remove();
  $("no-jobs").hidden = cards.size > 0;
  onRemoved(card.view.id);
  remember();
  if (focused) $("jobs").focus();
}

/** The state of a job as text. */
function stateText(view) {
  if (view.state === "uploading") return `sending, ${megabytes(view.sent)} of ${megabytes(view.total)}`;
  if (view.stopping) return "stopping …";
  if (view.state === "waiting") return view.position > 1 ? `waiting, number ${view.position} in the queue` : "waiting, next in the queue";
  if (view.state === "failed") return view.message;
  if (view.state === "cancelled") return "cancelled; its files are removed";
  const unit = view.facts.kind === "pictures" ? "pictures" : "frames";
  if (view.state === "done") return `done, ${view.done} ${view.done === 1 ? unit.slice(0, -1) : unit}`;
  if (view.phase !== "reading" || !view.done) return `${view.phase || "beginning"} …`;
  const of = view.total ? ` of ${Math.max(view.total, view.done)}` : "";
  const left = view.leftS === null ? "" : `, ${duration(view.leftS)} left`;
  return `${view.done}${of} ${unit}, ${view.rate.toFixed(view.rate < 10 ? 1 : 0)} a second${left}`;
}

/** Progress from 0 to 1; null where it is unknown. */
function progress(view) {
  if (view.state === "uploading") return view.total ? view.sent / view.total : 0;
  if (view.state === "running" && view.total) return Math.min(1, view.done / view.total);
  return null;
}

function draw(card, view) {
  const before = card.view;
  card.view = view;
  card.name.textContent = view.name || before.name;
  view.name ||= before.name;
  card.node.className = `job ${view.state}`;
  card.state.textContent = stateText(view);
  const done = progress(view);
  card.bar.hidden = !["uploading", "running"].includes(view.state);
  card.bar.setAttribute("aria-label", `progress of ${view.name}`);
  if (done === null) card.bar.removeAttribute("value");
  else card.bar.value = done;
  drawButtons(card);
  announce(before, view, done);
}

/** Announce changes of state, and every quarter of the progress, to screen readers. */
function announce(before, view, done) {
  if (before.state !== view.state && view.state !== "uploading") return say(`${view.name}: ${stateText(view)}`);
  if (view.state !== "running" || done === null) return undefined;
  const quarter = Math.floor(done * 4);
  const last = before.total ? Math.floor((before.done / before.total) * 4) : 0;
  return quarter > last && quarter < 4 ? say(`${view.name}: ${quarter * 25} %`) : undefined;
}

function drawButtons(card) {
  const { state, name } = card.view;
  const wanted = { uploading: ["Cancel"], waiting: ["Cancel"], running: ["Cancel"], done: ["Show", "Remove"] }[state] ?? ["Remove"];
  if (card.buttons.dataset.shown !== wanted.join()) {
    const focused = card.buttons.contains(document.activeElement);
    card.buttons.dataset.shown = wanted.join();
    const actions = { Cancel: cancel, Show: (one) => showResult(one.view), Remove: remove };
    card.buttons.replaceChildren(
      ...wanted.map((word) =>
        el("button", { type: "button", className: word === "Show" ? "primary" : "", onclick: () => actions[word](card) }, word),
      ),
    );
    if (focused) card.buttons.firstChild.focus();
  }
  for (const button of card.buttons.children) button.setAttribute("aria-label", `${button.textContent} ${name}`);
}

async function cancel(card) {
  if (card.view.state === "uploading") return card.aborter.abort();
  try {
    draw(card, await api.cancel(card.view.id));
  } catch (error) {
    handleError(card, error);
  }
  return poll();
}

async function remove(card) {
  if (!card.isLocal) {
    try {
      await api.remove(card.view.id);
    } catch (error) {
      if (error.status !== 404) return handleError(card, error);
    }
  }
  say(`${card.view.name} removed`);
  return removeCard(card);
}

/** Remove the card of a job that the server no longer has; show other errors on it. */
function handleError(card, error) {
  if (error.status === 404) removeCard(card);
  else card.state.textContent = error.message;
}

const isActive = (card) => !card.isLocal && ["waiting", "running"].includes(card.view.state);

async function poll() {
  if (polling) return;
  polling = true;
  while ([...cards.values()].some(isActive)) {
    for (const card of [...cards.values()].filter(isActive)) {
      try {
        const view = await api.status(card.view.id);
        const before = card.view.state;
        if (cards.get(card.key) !== card) continue;
        draw(card, view);
        if (view.state === "done" && before !== "done" && $("result").hidden) showResult(view);
      } catch (error) {
        handleError(card, error);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  polling = false;
}
