import { adminData, ago, byId, emptyState, faultNote, fill, freshId, h, roots, t, toast } from "./dom.js";

const box = byId("approvals");

function argumentsOf(call) {
  const text = h("pre", { tabindex: "0", "aria-label": t("Arguments") }, call.cut ? `${call.arguments}…` : call.arguments);
  if (!call.cut) return text;
  const more = h("button", { class: "btn small", type: "button", onclick: async () => {
    try {
      text.textContent = (await adminData(`approvals/arguments?${new URLSearchParams({ id: call.id })}`)).arguments;
      more.remove();
    } catch (error) {
      toast(error.message, "bad");
    }
  } }, t("Show all arguments"));
  return [text, more];
}

function facts(call) {
  const pairs = [
    [t("Asked"), ago(call.asked_at)],
    [t("Expires"), ago(call.expires_at)],
    [t("User"), call.username],
    [t("Session"), h("a", { href: `${roots.admin}/sessions#${encodeURIComponent(call.session_id)}` }, call.display_name || call.session_id)],
    [t("Key"), call.key_name ?? call.key_id ?? "–"],
    [t("Config"), call.config_id || t("the default config")],
  ];
  return h("dl", { class: "kv" }, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]).flat());
}

/** Comment field and buttons. After a decision, the call leaves the page. */
function decisionForm(call, leave) {
  const id = freshId();
  const comment = h("input", { type: "text", id, maxlength: 2000, autocomplete: "off" });
  const fault = h("div", {});
  const decide = async (decision) => {
    buttons.forEach((one) => { one.disabled = true; });
    try {
      await adminData("approvals", { method: "POST", body: { id: call.id, decision, comment: comment.value } });
      toast(decision === "approve" ? t("Approved.") : t("Rejected."));
      leave();
    } catch (error) {
      fault.replaceChildren(faultNote(error));
      buttons.forEach((one) => { one.disabled = false; });
    }
  };
  const button = (label, decision, kind) => h("button", { class: `btn ${kind}`, type: "button", onclick: () => decide(decision) }, label);
  const buttons = [button(t("Approve"), "approve", "primary"), button(t("Reject"), "reject", "danger")];
  return [
    h("div", { class: "field" }, h("label", { for: id }, t("Comment")), comment, h("span", { class: "hint" }, t("Sent to the model with a rejection."))),
    fault, h("div", { class: "actions" }, buttons)];
}

function card(call, mayDecide, noteLeft) {
  const element = h("article", { class: "card", "aria-label": call.tool },
    h("div", { class: "card-head" }, h("h2", { class: "mono" }, call.tool)),
    h("div", { class: "inset stack" }, facts(call), h("div", { class: "arguments" }, argumentsOf(call)),
      mayDecide || call.own ? decisionForm(call, () => { element.remove(); noteLeft(); }) : null));
  return element;
}

const show = () => fill(box, async () => {
  const first = await adminData("approvals");
  if (!first.calls.length) return h("section", { class: "card" }, emptyState("hand", t("No pending approvals"), t("Calls of tools that require approval are listed here.")));
  const cards = h("div", { class: "grid-cards wide" });
  const noteLeft = () => { if (!cards.children.length) show(); };
  const add = (page) => cards.append(...page.calls.map((call) => card(call, page.may_decide, noteLeft)));
  add(first);
  let after = first.next;
  const more = h("button", { class: "btn", type: "button", hidden: after === null, onclick: async () => {
    try {
      const page = await adminData(`approvals?${new URLSearchParams({ after })}`);
      add(page);
      after = page.next;
      more.hidden = after === null;
    } catch (error) {
      toast(error.message, "bad");
    }
  } }, t("Show more"));
  return [
    first.may_decide ? null : h("p", { class: "note" }, t("You can only decide about calls of your own turns. Set ASTRBOT_OWNER_APPROVES=1 to decide for all users.")),
    cards, h("div", { class: "actions" }, more)].filter(Boolean);
});

byId("reload").addEventListener("click", show);
show();
