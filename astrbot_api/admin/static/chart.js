// Bar chart per day, as SVG: no library, and accessible to screen readers.

import { compact, h, svg, t } from "./dom.js";

const WIDTH = Math.min(720, Math.max(240, innerWidth - 72)); // texts are shown at their size
const HEIGHT = 160;
const LEFT = 40;
const BOTTOM = 22;
const TOP = 8;

/** The last `count` days, with zeros for days without use. */
export function fillDays(days, count) {
  const known = new Map(days.map((day) => [day.day, day]));
  const today = Date.now();
  return Array.from({ length: count }, (_, back) => {
    const name = new Date(today - (count - 1 - back) * 86_400_000).toISOString().slice(0, 10);
    return known.get(name) ?? { day: name };
  });
}

export function barChart(label, points, kind = "") {
  const most = Math.max(1, ...points.map((point) => point.value));
  const step = (WIDTH - LEFT) / points.length;
  const height = HEIGHT - BOTTOM - TOP;
  const bars = points.map((point, at) => {
    const size = point.value ? Math.max(2, (point.value / most) * height) : 0;
    return svg("rect", {
      class: `bar ${kind}`, x: LEFT + at * step + step * 0.15, y: TOP + height - size,
      width: step * 0.7, height: size, rx: Math.min(3, step * 0.2),
    }, svg("title", {}, `${point.name}: ${point.value}`));
  });
  const lines = (most < 2 ? [0, 1] : [0, 0.5, 1]).map((part) => {
    const y = TOP + height * (1 - part);
    return [svg("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y, y2: y }),
      svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, compact(most * part))];
  });
  const marks = [0, Math.floor(points.length / 2), points.length - 1].map((at) =>
    svg("text", { x: LEFT + (at + 0.5) * step, y: HEIGHT - 6,
      "text-anchor": at === 0 ? "start" : at === points.length - 1 ? "end" : "middle" }, points[at].name.slice(5)));
  const total = points.reduce((sum, point) => sum + point.value, 0);
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `${label}: ${t("{total} in {days} days", { total, days: points.length })}` },
  ...lines.flat(), ...bars, ...marks);
}

/** A chart with a selection of its data. `series`: [{name, value(day), kind}] */
export function switchedChart(days, series) {
  const box = h("div", {});
  const buttons = series.map((one, at) => h("button", { type: "button", onclick: () => show(at) }, one.name));
  function show(chosen) {
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === chosen)));
    const { name, value, kind } = series[chosen];
    box.replaceChildren(barChart(name, days.map((day) => ({ name: day.day, value: value(day) || 0 })), kind));
  }
  show(0);
  return h("div", { class: "stack tight" }, h("div", {}, h("div", { class: "switch", role: "group", "aria-label": t("Data in the chart") }, buttons)), box);
}

export const USE_SERIES = [
  { name: t("Requests"), value: (day) => day.requests },
  { name: t("Turns"), value: (day) => day.turns },
  { name: t("Tokens"), value: (day) => (day.input_tokens ?? 0) + (day.output_tokens ?? 0) },
  { name: t("Errors"), value: (day) => (day.errors ?? 0) + (day.failed_turns ?? 0), kind: "bad" },
];
