import { adminData, ago, bytes, byId, compact, emptyState, fill, h, invalidFiles, roots, t } from "./dom.js";
import { USE_SERIES, fillDays, switchedChart } from "./chart.js";

function tile(name, value, note) {
  return h("div", { class: "card tile" }, h("span", { class: "name" }, name), h("span", { class: "value" }, value), h("span", { class: "small muted" }, note ?? ""));
}

function tiles(data) {
  const today = data.days.find((day) => day.day === data.today) ?? {};
  const tokens = (today.input_tokens ?? 0) + (today.output_tokens ?? 0);
  const latency = data.turn_ms === null ? "–" : data.turn_ms < 1000 ? `${data.turn_ms} ms` : `${(data.turn_ms / 1000).toFixed(1)} s`;
  return h("div", { class: "tiles" },
    tile(t("Running turns"), compact(data.runs_now), data.runs_waiting ? t("{count} queued", { count: data.runs_waiting }) : t("none queued")),
    tile(t("Turns today"), compact(today.turns ?? 0), t("{count} requests", { count: compact(today.requests ?? 0) })),
    tile(t("Tokens today"), compact(tokens), t("{count} of them output", { count: compact(today.output_tokens ?? 0) })),
    tile(t("Median turn"), latency, t("over the last {count}", { count: data.turns_measured })),
    tile(t("Errors today"), compact((today.errors ?? 0) + (today.failed_turns ?? 0)), t("{count} failed turns", { count: today.failed_turns ?? 0 })),
    tile(t("Sessions"), compact(data.sessions), t("{count} messages, {size}", { count: compact(data.messages), size: bytes(data.stored_bytes) })),
    tile(t("Storage"), bytes(data.database_bytes + data.attachment_bytes), t("{count} files", { count: compact(data.attachments) })));
}

function failures(rows) {
  const head = h("div", { class: "card-head" }, h("h2", {}, t("Failed turns")));
  if (!rows.length) return h("section", { class: "card" }, head, emptyState("spark", t("No failed turns"), t("A turn that ends with an error is listed here.")));
  return h("section", { class: "card" }, head, h("div", { class: "table-box", tabindex: "0" }, h("table", { class: "cards-on-phone" },
    h("thead", {}, h("tr", {}, h("th", {}, t("When")), h("th", {}, t("Reason")), h("th", {}, t("Session")))),
    h("tbody", {}, rows.map((row) => h("tr", {},
      h("td", {}, ago(row.at)),
      h("td", {}, h("span", { class: "badge bad plain" }, row.error_code ?? row.status)),
      h("td", {}, h("a", { href: `${roots.admin}/sessions#${encodeURIComponent(row.session_id)}` }, row.display_name ?? row.session_id))))))));
}

function leftOut(configs) {
  if (!configs.length) return null;
  return h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("Omitted tools"))),
    h("div", { class: "inset stack" },
      h("p", { class: "muted" }, t("A config has more tools than its max_tools. Its models are not offered these tools.")),
      configs.map((one) => h("div", {},
        h("p", {}, h("b", {}, one.config_id), " ", t("{count} beyond {max}", { count: one.count, max: one.max_tools })),
        h("p", { class: "mono" }, one.names.join(", "), one.count > one.names.length ? " …" : "")))));
}

fill(byId("overview"), async () => {
  const [data, tools, files] = await Promise.all([
    adminData("overview"),
    adminData("left-out").catch(() => []),
    adminData("config-files").catch(() => ({ invalid: [] })),
  ]);
  return [
    invalidFiles(files.invalid),
    tiles(data),
    h("section", { class: "card" },
      h("div", { class: "card-head" }, h("h2", {}, t("Use by day"))),
      h("div", { class: "inset" }, switchedChart(fillDays(data.days, 30), [USE_SERIES[1], USE_SERIES[2], USE_SERIES[0], USE_SERIES[3]]))),
    leftOut(tools),
    failures(data.failures),
  ].filter(Boolean);
});
