import { adminData, byId, fill, h, icon, invalidFiles, roots, t } from "./dom.js";

const TYPES = { openai: t("OpenAI-compatible"), local: t("embedded model"), mock: t("mock"), auto: t("automatic") };

const SERVERS = { starting: t("starting"), running: t("running"), down: t("down"), "": t("no sidecar") };

function model(one) {
  const name = one.model || (one.type === "openai" ? t("the endpoint's first model") : "");
  return h("div", {},
    h("b", {}, name), name ? " · " : "", TYPES[one.type] ?? one.type,
    one.host ? h("div", { class: "mono small" }, one.host) : null,
    one.error ? h("p", { class: "note bad" }, one.error) : null);
}

function mcpServer(one) {
  return h("div", {}, h("b", {}, one.name), " · ", SERVERS[one.status] ?? one.status, one.status === "running" ? ` · ${t("{count} tools", { count: one.tools })}` : "");
}

const row = (name, ...values) => (values.length ? [h("dt", {}, name), h("dd", { class: "stack tight" }, ...values)] : []);

function card(config) {
  const models = config.upstream ? [h("div", {}, "AstrBot", h("div", { class: "mono small" }, config.upstream))] : config.models.map(model);
  return h("article", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, config.name), config.is_default ? h("span", { class: "badge good" }, t("Default")) : null),
    h("div", { class: "inset stack" },
      h("dl", { class: "kv" },
        ...row(t("File"), h("span", { class: "mono" }, config.path)),
        ...row(config.upstream ? t("Answers with") : t("Models"), ...models),
        ...(config.upstream ? [] : row(t("System prompt"), h("div", { class: "prompt", tabindex: "0" }, config.system_prompt))),
        ...row(t("MCP servers"), ...config.mcp.map(mcpServer)),
        ...row(t("Need approval"), ...config.approve.map((one) => h("span", { class: "mono" }, one))),
        ...row(t("Web pages"), ...config.origins.map((one) => h("span", { class: "mono" }, one)))),
      h("div", {}, h("a", { class: "btn", href: `${roots.admin}/console#config=${encodeURIComponent(config.id)}` }, icon("chat"), t("Try it in the console")))));
}

fill(byId("configs"), async () => {
  const { configs, invalid } = await adminData("config-files");
  return h("div", { class: "stack" }, invalidFiles(invalid), h("div", { class: "grid-cards wide" }, configs.toSorted((a, b) => b.is_default - a.is_default).map(card)));
});
