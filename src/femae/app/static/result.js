// The result panel of a job: report, film with its timeline or pictures, table, downloads.

import { api } from "./api.js";
import { $, el, megabytes } from "./dom.js";
import { swatch, timeline } from "./timeline.js";

const ROWS = 50;
const DOWNLOAD_NAMES = {
  "table.csv": "Table, CSV",
  "table.parquet": "Table, Parquet",
  "table.jsonl": "Table, JSON lines",
  "film.mp4": "Annotated film",
  "pictures.zip": "Annotated pictures",
  "report.html": "Report",
};

let shown = "";

export function hideResult(id) {
  if (id !== shown) return;
  shown = "";
  $("result").replaceChildren();
  $("result").hidden = true;
}

export async function showResult(view) {
  shown = view.id;
  const box = $("result");
  const digest = await api.digest(view.id);
  if (shown !== view.id) return;
  const title = el("h2", { id: "result-title" }, view.name);
  const parts = [title, el("p", { className: "hint" }, summary(view, digest))];
  if (view.problems.length) parts.push(el("ul", { className: "problems" }, view.problems.map((text) => el("li", {}, text))));
  const panels = [];
  if (view.files.some((file) => file.key === "report.html")) panels.push(["Report", () => report(view)]);
  panels.push(view.facts.kind === "pictures" ? ["Pictures", () => gallery(view)] : ["Film", () => filmPanel(view, digest)]);
  panels.push(["Table", () => tablePanel(view)]);
  parts.push(tabs(panels), downloads(view));
  box.replaceChildren(...parts);
  box.hidden = false;
  box.scrollIntoView({ block: "start", behavior: "auto" });
}

function summary(view, digest) {
  const unit = view.facts.kind === "pictures" ? "picture" : "frame";
  const people = view.facts.kind === "pictures" ? "" : `, ${count(digest.faces.length, "person", "people")}`;
  const without = digest.num_without ? `, ${count(digest.num_without, unit)} without a face` : "";
  return `${count(view.done, unit)}, ${count(digest.num_faces, "face")}${people}${without}`;
}

function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

function tabs(panels) {
  const list = el("div", { className: "tabs", role: "tablist", "aria-label": "Parts of the result" });
  const body = el("div", {});
  const buttons = panels.map(([name, make], k) => {
    const panel = el("div", { role: "tabpanel", id: `panel-${k}`, "aria-labelledby": `tab-${k}`, hidden: true });
    body.append(panel);
    const button = el("button", { type: "button", role: "tab", id: `tab-${k}`, "aria-controls": `panel-${k}` }, name);
    button.addEventListener("click", () => choose(k));
    return { button, panel, make };
  });
  function choose(chosen) {
    buttons.forEach(({ button, panel, make }, k) => {
      button.setAttribute("aria-selected", String(k === chosen));
      button.tabIndex = k === chosen ? 0 : -1;
      panel.hidden = k !== chosen;
      if (k === chosen && !panel.hasChildNodes()) panel.append(make());
      if (k !== chosen) panel.querySelector("video")?.pause();
    });
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = buttons.findIndex(({ button }) => button.getAttribute("aria-selected") === "true");
    const next = (now + step + buttons.length) % buttons.length;
    choose(next);
    buttons[next].button.focus();
  });
  list.append(...buttons.map(({ button }) => button));
  choose(0);
  return el("div", {}, list, body);
}

function report(view) {
  const source = api.file(view.id, "report.html");
  const frame = el("iframe", { className: "report", title: `Report of ${view.name}`, src: source });
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  const open = el("a", { href: source, target: "_blank", rel: "noopener" }, "Open the report on its own");
  return el("div", {}, frame, el("p", {}, open));
}

function filmPanel(view, digest) {
  const film = el("video", { className: "film", controls: true, playsInline: true, preload: "metadata", src: api.file(view.id, "film.mp4") });
  film.setAttribute("aria-label", `Annotated film of ${view.name}`);
  return el("div", {}, film, digest.end_s === null ? null : timeline(film, digest), legend(digest));
}

function legend(digest) {
  const items = digest.shares.map(([name, rows]) =>
    el("li", {}, swatch(digest, name), `${name || "undecided"} ${Math.round((100 * rows) / digest.num_faces)} %`),
  );
  return el("ul", { className: "key", "aria-label": `Share of each ${digest.labels}` }, items);
}

function gallery(view) {
  const figures = view.facts.pictures.map((name, k) =>
    el(
      "figure",
      {},
      el("img", { src: api.file(view.id, `picture-${k + 1}.png`), alt: `${name} with its faces marked`, loading: "lazy" }),
      el("figcaption", {}, name),
    ),
  );
  return el("div", { className: "gallery" }, figures);
}

function tablePanel(view) {
  const content = el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table" });
  const status = el("span", { role: "status" });
  let offset = 0;
  const move = (step) => load(offset + step);
  const back = el("button", { type: "button", onclick: () => move(-ROWS) }, "Previous rows");
  const next = el("button", { type: "button", onclick: () => move(ROWS) }, "Next rows");
  async function load(wanted) {
    try {
      const page = await api.rows(view.id, Math.max(0, wanted), ROWS);
      offset = Math.max(0, wanted);
      content.replaceChildren(table(page));
      back.disabled = offset === 0;
      next.disabled = offset + ROWS >= page.total;
      status.textContent = `rows ${offset + 1} to ${offset + page.rows.length} of ${page.total}`;
    } catch (error) {
      status.textContent = error.message;
    }
  }
  load(0);
  const bar = el("div", { className: "row" }, back, next, status);
  bar.style.marginTop = ".6rem";
  return el("div", {}, content, bar);
}

function table(page) {
  const numeric = page.columns.map((_, k) => page.rows.some((row) => typeof row[k] === "number"));
  const head = el("tr", {}, page.columns.map((name, k) => el("th", { scope: "col", className: numeric[k] ? "n" : "" }, name.replaceAll("_", " "))));
  const body = page.rows.map((row) => el("tr", {}, row.map((value, k) => el("td", { className: numeric[k] ? "n" : "" }, text(page.columns[k], value)))));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, body));
}

function text(column, value) {
  if (value === null) return "";
  if (typeof value !== "number" || ["frame", "face_id"].includes(column)) return String(value);
  return value.toFixed(3);
}

function downloads(view) {
  const links = view.files.map((file) =>
    el("a", { className: "button", href: api.file(view.id, file.key, true), download: true }, DOWNLOAD_NAMES[file.key], el("small", {}, megabytes(file.bytes))),
  );
  const box = el("div", { className: "row", role: "group", "aria-label": "Downloads" }, links);
  box.style.marginTop = "1rem";
  return box;
}
