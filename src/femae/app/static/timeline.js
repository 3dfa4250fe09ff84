// Who shows what when: a strip for each face under the film; a click goes there, and a line follows the film.

import { clock, el } from "./dom.js";

// Okabe and Ito's colours first: they can be told apart without red or green sight.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999", "#8c6d31", "#5254a3", "#ad494a"];
const ABSTAINED = "#b9bec4";

/** Colour of each compound, by its place in the class set. */
export function colours(compounds) {
  const found = new Map(compounds.map((name, k) => [name, COLOURS[k % COLOURS.length]]));
  return (name) => found.get(name) ?? ABSTAINED;
}

function isLight(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.3 * r + 0.6 * g + 0.1 * b > 125;
}

/** The node under a film; `digest` as the server gives it. */
export function timeline(film, digest) {
  const colourOf = colours(digest.compounds);
  const readout = el("p", { className: "readout" });
  const slider = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Time in the film" });
  const tracks = digest.faces.map((face) => track(face, colourOf));
  if (digest.gaps.length) tracks.push(track({ gaps: digest.gaps }, colourOf));
  const cursors = tracks.map((one) => one.cursor);
  const end = () => (Number.isFinite(film.duration) ? film.duration : digest.end_s) || 1;

  const update = () => {
    const now = film.currentTime;
    slider.max = end();
    slider.value = now;
    slider.setAttribute("aria-valuetext", clock(now));
    for (const cursor of cursors) cursor.style.left = `${(100 * now) / end()}%`;
    readout.textContent = `${clock(now)}  ${at(digest, now)}`;
  };
  const seek = (time) => {
    film.currentTime = Math.max(0, Math.min(time, end()));
    update();
  };
  slider.addEventListener("input", () => seek(Number(slider.value)));
  for (const one of tracks) {
    one.canvas.addEventListener("click", (event) => seek((event.offsetX / one.canvas.clientWidth) * end()));
    one.canvas.addEventListener("mousemove", (event) => {
      const time = (event.offsetX / one.canvas.clientWidth) * end();
      one.canvas.title = `${clock(time)}  ${at(digest, time)}`;
    });
  }
  const redraw = () => tracks.forEach((one) => one.draw(end()));
  for (const name of ["timeupdate", "seeked", "loadedmetadata", "durationchange"]) film.addEventListener(name, update);
  film.addEventListener("durationchange", redraw);
  const node = el("div", { className: "time" }, slider, tracks.map((one) => one.node), readout);
  new ResizeObserver(redraw).observe(node);
  update();
  return node;
}

/** What is known at a time, in words. */
function at(digest, time) {
  const found = digest.faces.flatMap((face) => {
    const stretch = face.stretches.find(([start, stop]) => start <= time && time < stop);
    return stretch ? [`#${face.id} ${stretch[2] || "undecided"} ${stretch[3].toFixed(2)}`] : [];
  });
  return found.join("   ") || "no face";
}

function track(face, colourOf) {
  const isGaps = face.gaps !== undefined;
  const name = isGaps ? "no face" : `face #${face.id}`;
  const canvas = el("canvas", { role: "img", "aria-label": isGaps ? "times without a face" : describe(face) });
  const cursor = el("div", { className: "cursor" });
  const stretches = isGaps ? face.gaps.map(([start, stop]) => [start, stop, "", 0]) : face.stretches;
  const draw = (end) => {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const [start, stop, compound] of stretches) {
      const [x, right] = [(start / end) * width, (Math.min(stop, end) / end) * width];
      pen.fillStyle = colourOf(compound);
      pen.fillRect(x, 0, Math.max(1, right - x), height);
      if (compound && pen.measureText(compound).width + 12 < right - x) {
        pen.fillStyle = isLight(colourOf(compound)) ? "#000" : "#fff";
        pen.fillText(compound, x + 6, height / 2);
      }
    }
  };
  const strip = el("div", {}, canvas, cursor);
  strip.style.position = "relative";
  return { node: el("div", { className: "track" }, el("b", {}, name), strip), canvas, cursor, draw };
}

/** The strip in words, for those who cannot see it: the longest compounds. */
function describe(face) {
  const seconds = new Map();
  for (const [start, stop, name] of face.stretches) seconds.set(name, (seconds.get(name) ?? 0) + stop - start);
  const longest = [...seconds].sort((a, b) => b[1] - a[1]).slice(0, 4);
  return `face ${face.id}: ${longest.map(([name, s]) => `${name || "undecided"} ${s.toFixed(1)} s`).join(", ")}`;
}
