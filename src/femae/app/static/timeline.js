// The timeline under the film: a strip of labels for each face, a cursor at the present time, and seeking by click.

import { clock, el } from "./dom.js";

const ABSTAINED = { colours: ["#b9bec4"], quiet: false };

/** How a label is drawn: its colours from top to bottom; a quiet label is drawn thinner. */
function styleOf(digest, name) {
  return digest.styles.find((style) => style.name === name) ?? ABSTAINED;
}

/** A small mark in the colours of a label, for the legend. */
export function swatch(digest, name) {
  const { colours, quiet } = styleOf(digest, name);
  const [first, last] = [colours[0], colours[colours.length - 1]];
  const spot = el("i", { className: quiet ? "quiet" : "" });
  spot.style.background = `linear-gradient(${first} 50%, ${last} 50%)`;
  return spot;
}

/** The element under a film; `digest` is look.json of the server. */
export function timeline(film, digest) {
  const readout = el("p", { className: "readout" });
  const slider = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Time in the film" });
  const tracks = digest.faces.map((face) => track(face, digest));
  if (digest.gaps.length) tracks.push(track({ gaps: digest.gaps }, digest));
  const cursors = tracks.map((one) => one.cursor);
  const end = () => (Number.isFinite(film.duration) ? film.duration : digest.end_s) || 1;

  const update = () => {
    const now = film.currentTime;
    slider.max = end();
    slider.value = now;
    slider.setAttribute("aria-valuetext", clock(now));
    for (const cursor of cursors) cursor.style.left = `${(100 * now) / end()}%`;
    readout.textContent = `${clock(now)}  ${textAt(digest, now)}`;
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
      one.canvas.title = `${clock(time)}  ${textAt(digest, time)}`;
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

/** The labels of all faces at a time, as text. */
function textAt(digest, time) {
  const found = digest.faces.flatMap((face) => {
    const stretch = face.stretches.find(([start, stop]) => start <= time && time < stop);
    return stretch ? [`#${face.id} ${stretch[2] || "undecided"} (mean ${stretch[3].toFixed(2)})`] : [];
  });
  return found.join("   ") || "no face";
}

/** The strip of one face, or of the times without a face ({ gaps }); `draw(end)` paints `end` seconds. */
function track(face, digest) {
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
    for (const [start, stop, label] of stretches) {
      const [x, right] = [(start / end) * width, (Math.min(stop, end) / end) * width];
      const { colours, quiet } = styleOf(digest, label);
      const [top, part] = quiet ? [height * 0.4, height * 0.2] : [0, height / colours.length];
      colours.forEach((colour, k) => {
        pen.fillStyle = colour;
        pen.fillRect(x, top + k * part, Math.max(1, right - x), part);
      });
      if (right - x > 6) pen.clearRect(x, 0, 1, height); // two compounds may share a colour
      if (label && !quiet && pen.measureText(label).width + 12 < right - x) {
        pen.fillStyle = digest.ink;
        pen.fillText(label, x + 6, height / 2);
      }
    }
  };
  const strip = el("div", {}, canvas, cursor);
  strip.style.position = "relative";
  return { node: el("div", { className: "track" }, el("b", {}, name), strip), canvas, cursor, draw };
}

/** Text alternative of a strip: its four longest labels. */
function describe(face) {
  const seconds = new Map();
  for (const [start, stop, name] of face.stretches) seconds.set(name, (seconds.get(name) ?? 0) + stop - start);
  const longest = [...seconds].sort((a, b) => b[1] - a[1]).slice(0, 4);
  return `face ${face.id}: ${longest.map(([name, s]) => `${name || "undecided"} ${s.toFixed(1)} s`).join(", ")}`;
}
