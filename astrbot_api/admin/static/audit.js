import { adminData, at, byId, emptyState, fill, h, olderButton, t } from "./dom.js";

const WORDS = {
  login: t("Logged in"),
  login_failed: t("Login failed"),
  login_throttled: t("Logins blocked temporarily"),
  logout: t("Logged out"),
  password_set: t("Password set"),
  key_created: t("Key created"),
  key_changed: t("Key changed"),
  key_first_used: t("Key used for the first time"),
  key_rotated: t("Key rotated"),
  console_key_made: t("Console key created"),
  key_revoked: t("Key revoked"),
  key_deleted: t("Key deleted"),
  session_deleted: t("Session deleted"),
  data_imported: t("Data imported"),
  bot_tested: t("Test message sent"),
  call_approved: t("Tool call approved"),
  call_rejected: t("Tool call rejected"),
};

const KINDS = { login_failed: "bad", login_throttled: "bad", key_revoked: "warn", key_deleted: "warn", session_deleted: "warn" };

const row = (entry) => h("tr", {},
  h("td", { class: "nowrap", "data-label": t("When") }, h("span", {}, at(entry.at))),
  h("td", { "data-label": t("What") }, h("span", { class: `badge ${KINDS[entry.action] ?? ""}` }, WORDS[entry.action] ?? entry.action)),
  h("td", { "data-label": t("Who") }, h("span", {}, entry.actor)),
  h("td", { class: "mono", "data-label": t("From") }, h("span", {}, entry.address || "–")),
  h("td", {}, entry.detail || entry.subject));

fill(byId("audit"), async () => {
  const first = await adminData("audit");
  if (!first.entries.length) return emptyState("audit", t("Nothing yet"), t("Logins and changes to keys are listed here."));
  const body = h("tbody", {}, first.entries.map(row));
  const more = olderButton(first.next, async (before) => {
    const page = await adminData(`audit?before=${before}`);
    body.append(...page.entries.map(row));
    return page.next;
  });
  return [
    h("div", { class: "table-box", tabindex: "0" }, h("table", { class: "cards-on-phone" },
      h("thead", {}, h("tr", {}, ["When", "What", "Who", "From", "Details"].map((name) => h("th", {}, t(name))))), body)),
    h("div", { class: "inset actions" }, more),
  ];
});
