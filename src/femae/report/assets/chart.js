"use strict";
// Drawing of the timeline: lanes of presence and lines over time. Each pixel column shows the lowest and the highest
// value that fall into it, so that no peak is lost at any zoom.

const LEFT = 50, RIGHT = 8;
const SYMBOLS = ["circle", "square", "triangle", "diamond", "cross", "inverted", "plus", "star"];

function themeColour(colour) {
  return colour === "black" ? getComputedStyle(document.documentElement).getPropertyValue("--black").trim() : colour;
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function symbolPath(kind, x, y, r) {
  const p = new Path2D();
  const poly = points => { points.forEach(([a, b], i) => (i ? p.lineTo(x + a * r, y + b * r) : p.moveTo(x + a * r, y + b * r))); p.closePath(); };
  switch (SYMBOLS[kind % SYMBOLS.length]) {
    case "circle": p.arc(x, y, r, 0, 7); break;
    case "square": p.rect(x - r * .9, y - r * .9, 1.8 * r, 1.8 * r); break;
    case "triangle": poly([[0, -1.2], [1.1, .8], [-1.1, .8]]); break;
    case "diamond": poly([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]); break;
    case "cross": poly([[-1, -.4], [-.4, -1], [0, -.6], [.4, -1], [1, -.4], [.6, 0], [1, .4], [.4, 1], [0, .6], [-.4, 1], [-1, .4], [-.6, 0]]); break;
    case "inverted": poly([[0, 1.2], [1.1, -.8], [-1.1, -.8]]); break;
    case "plus": poly([[-.4, -1.2], [.4, -1.2], [.4, -.4], [1.2, -.4], [1.2, .4], [.4, .4], [.4, 1.2], [-.4, 1.2], [-.4, .4], [-1.2, .4], [-1.2, -.4], [-.4, -.4]]); break;
    default: poly(Array.from({length: 10}, (_, i) => { const a = i * Math.PI / 5 - Math.PI / 2, s = i % 2 ? .55 : 1.35; return [s * Math.cos(a), s * Math.sin(a)]; }));
  }
  return p;
}

/** Position of the last element <= value in a sorted array; -1: none. */
function lastAtMost(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) { const mid = (low + high) >> 1; if (sorted[mid] <= value) low = mid + 1; else high = mid; }
  return low - 1;
}

function timeText(seconds, digits = 3) {
  const sign = seconds < 0 ? "-" : "", whole = Math.round(Math.abs(seconds) * 10 ** digits) / 10 ** digits;
  const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return sign + (h ? h + ":" + String(m).padStart(2, "0") : m) + ":" + s;
}

function tickStep(span, room) {
  const steps = [.02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
  return steps.find(step => span / step <= room) || steps[steps.length - 1];
}

function prepare(canvas, height) {
  const width = canvas.clientWidth || canvas.parentElement.clientWidth, scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale); canvas.style.height = height + "px";
  const ctx = canvas.getContext("2d");
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  ctx.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  return [ctx, width];
}

/** What all panels share: which time stands at which pixel. */
function axisOf(view, width) {
  const inner = Math.max(1, width - LEFT - RIGHT), span = Math.max(1e-9, view[1] - view[0]);
  return {x: t => LEFT + (t - view[0]) / span * inner, t: x => view[0] + (x - LEFT) / inner * span, inner};
}

function drawTimeGrid(ctx, axis, view, top, bottom, labels) {
  const step = tickStep(view[1] - view[0], axis.inner / 85);
  ctx.strokeStyle = cssColour("--grid"); ctx.fillStyle = cssColour("--soft"); ctx.textAlign = "center"; ctx.lineWidth = 1;
  for (let k = Math.ceil(view[0] / step - 1e-6); k * step <= view[1] + 1e-9; k++) {
    const x = Math.round(axis.x(k * step)) + .5;
    ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, bottom); ctx.stroke();
    if (labels) ctx.fillText(timeText(k * step, step < .1 ? 2 : step < 1 ? 1 : 0), Math.min(Math.max(x, LEFT + 14), LEFT + axis.inner - 14), bottom + 14);
  }
}

/** Path of one series; symbols sit at about every 120 pixels of it. */
function seriesPath(track, values, axis, view, y, offset) {
  const path = new Path2D(), marks = [], times = track.times, part = track.part;
  const from = Math.max(0, lastAtMost(times, view[0]) - 1), to = Math.min(times.length - 1, lastAtMost(times, view[1]) + 1);
  const dense = to - from > 2 * axis.inner;
  let pen = -1, column = -1, low = 0, high = 0, last = 0, next = LEFT + offset;
  const flush = () => { if (column >= 0 && high - low > .5) { path.moveTo(column, low); path.lineTo(column, high); path.moveTo(column, last); } };
  for (let i = from; i <= to; i++) {
    const value = values[i];
    if (value === 65535) { flush(); pen = column = -1; continue; }
    const px = axis.x(times[i]), py = y(value * track.scale);
    if (dense && part[i] === pen && Math.round(px) === column) { low = Math.min(low, py); high = Math.max(high, py); last = py; continue; }
    flush();
    if (part[i] !== pen) {
      path.moveTo(px, py);
      if (i === to || part[i + 1] !== part[i]) path.lineTo(px + 1, py);  // a face of one frame shows too
    } else path.lineTo(px, py);
    pen = part[i]; column = dense ? Math.round(px) : -1; low = high = last = py;
    if (px >= next && px <= LEFT + axis.inner) { marks.push([px, py]); next = px + 120; }
  }
  flush();
  return [path, marks];
}

function drawLines(canvas, track, group, state) {
  const height = state.printing ? 150 : 170, [ctx, width] = prepare(canvas, height), axis = axisOf(state.view, width);
  const top = 8, bottom = height - 22, y = v => bottom - v / group.top * (bottom - top);
  drawTimeGrid(ctx, axis, state.view, top, bottom, true);
  ctx.textAlign = "right";
  for (const part of [0, .5, 1]) {
    const py = Math.round(y(part * group.top)) + .5;
    ctx.beginPath(); ctx.moveTo(LEFT, py); ctx.lineTo(LEFT + axis.inner, py); ctx.stroke();
    ctx.fillText(String(+(part * group.top).toFixed(2)), LEFT - 6, py + 4);
  }
  ctx.save(); ctx.beginPath(); ctx.rect(LEFT, 0, axis.inner, height); ctx.clip(); ctx.lineJoin = "round";
  const shown = group.series.filter(s => !state.hidden.has(s.key));
  shown.sort((a, b) => (a.key === state.lit) - (b.key === state.lit));
  for (const series of shown) {
    const [colour, second] = series.colours.map(themeColour), dim = state.lit && state.lit !== series.key;
    const [path, marks] = seriesPath(track, track.values[series.column], axis, state.view, y, 12 + 120 * series.number / group.series.length);
    ctx.globalAlpha = dim ? .16 : 1;
    const wide = state.lit === series.key ? 3 : series.cased ? 2.2 : 1.7;
    ctx.setLineDash(series.dash);
    if (series.cased) { ctx.strokeStyle = cssColour("--casing"); ctx.lineWidth = wide + 1.1; ctx.stroke(path); }
    ctx.strokeStyle = colour; ctx.lineWidth = wide; ctx.stroke(path);
    if (second) { ctx.setLineDash([7, 7]); ctx.strokeStyle = second; ctx.stroke(path); }
    ctx.setLineDash([]);
    for (const [mx, my] of marks) {
      const mark = symbolPath(series.symbol, mx, my, 4);
      ctx.fillStyle = second || colour; ctx.strokeStyle = series.cased ? cssColour("--casing") : cssColour("--card"); ctx.lineWidth = 1; ctx.fill(mark); ctx.stroke(mark);
    }
  }
  ctx.restore(); ctx.globalAlpha = 1;
}

function hatch(ctx, dense) {
  const tile = document.createElement("canvas"); tile.width = tile.height = 8;
  const pen = tile.getContext("2d"); pen.strokeStyle = cssColour("--soft"); pen.lineWidth = 1.4;
  pen.beginPath(); pen.moveTo(-2, 10); pen.lineTo(10, -2); pen.moveTo(-2, 2); pen.lineTo(2, -2); pen.moveTo(6, 10); pen.lineTo(10, 6);
  if (dense) { pen.moveTo(-2, -2); pen.lineTo(10, 10); }
  pen.stroke();
  return ctx.createPattern(tile, "repeat");
}

/** One stretch of a lane: the label's colours one above the other, with its name or code where there is room. */
function drawRun(ctx, run, info, faint, state, width) {
  const wide = Math.max(1, run.stop - run.x), colours = info ? info.colours : [cssColour("--soft")];
  const [top, high] = info && info.quiet ? [12, 6] : [4, 22];
  ctx.globalAlpha = faint ? .35 : 1;
  colours.forEach((colour, n) => { ctx.fillStyle = colour; ctx.fillRect(run.x, top + n * high / colours.length, wide, high / colours.length); });
  ctx.globalAlpha = 1;
  if (wide > 6) { ctx.fillStyle = cssColour("--card"); ctx.fillRect(run.x, 4, 1, 22); }  // two compounds may share a colour
  if (!info || info.quiet) return;
  const left = Math.max(run.x, LEFT), room = Math.min(run.stop, width) - left;
  const text = [info.name, info.code].find(word => ctx.measureText(word).width + 8 < room);
  ctx.fillStyle = faint ? cssColour("--ink") : state.ink;
  if (text) ctx.fillText(text, left + room / 2, 19);
}

/** One lane: where the face is, by the label of most frames of a pixel; a compound is pale where it is weak. */
function drawLane(canvas, track, labels, state) {
  const height = 30, [ctx, width] = prepare(canvas, height), axis = axisOf(state.view, width);
  ctx.save(); ctx.beginPath(); ctx.rect(LEFT, 0, axis.inner, height); ctx.clip();
  ctx.fillStyle = cssColour("--bar"); ctx.fillRect(LEFT, 4, axis.inner, 22);
  const runs = [], from = Math.max(0, lastAtMost(track.times, state.view[0])), end = lastAtMost(track.times, state.view[1]);
  let i = from;
  while (i <= end && i >= 0) {
    const x = axis.x(track.times[i]), limit = state.view[0] + (Math.floor(x) + 1 - LEFT) / axis.inner * (state.view[1] - state.view[0]);
    const votes = new Map(), part = track.part[i];
    let j = i;
    do { const key = 2 * track.label[j] + track.weak[j]; votes.set(key, (votes.get(key) || 0) + 1); j++; } while (j <= end && track.times[j] < limit && track.part[j] === part);
    const label = [...votes].sort((a, b) => b[1] - a[1])[0][0];
    const joined = j < track.times.length && track.part[j] === part;
    const stop = joined ? axis.x(track.times[j]) : axis.x(track.times[j - 1] + state.step);
    const before = runs[runs.length - 1];
    if (before && before.label === label && before.part === part) before.stop = stop; else runs.push({x, stop, label, part});
    i = j;
  }
  ctx.textAlign = "center";
  for (const run of runs) drawRun(ctx, run, labels[run.label >> 1], run.label & 1, state, LEFT + axis.inner);
  ctx.restore();
}

function drawGaps(canvas, gaps, state) {
  const height = 30, [ctx, width] = prepare(canvas, height), axis = axisOf(state.view, width);
  ctx.save(); ctx.beginPath(); ctx.rect(LEFT, 0, axis.inner, height); ctx.clip();
  ctx.strokeStyle = cssColour("--line"); ctx.strokeRect(LEFT + .5, 4.5, axis.inner - 1, 21);
  for (const gap of gaps) {
    const x = axis.x(gap.from_s), wide = Math.max(2, axis.x(gap.to_s) - x);
    if (x > width || x + wide < LEFT) continue;
    ctx.fillStyle = hatch(ctx, gap.status === "unreadable"); ctx.fillRect(x, 4, wide, 22);
    ctx.strokeStyle = cssColour("--soft"); ctx.strokeRect(x, 4.5, wide, 21);
  }
  ctx.restore();
}
