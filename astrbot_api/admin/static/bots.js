import { adminData, ago, byId, emptyState, fill, formDialog, freshId, h, icon, t, toast } from "./dom.js";

const box = byId("bots");

function state(bot) {
  if (bot.fault) return h("span", { class: "badge bad" }, t("Error"));
  if (!bot.enabled) return h("span", { class: "badge" }, t("Disabled"));
  return h("span", { class: "badge good" }, t("On"));
}

const STATES = { queued: t("queued"), sending: t("sending"), sent: t("sent"), failed: t("failed") };

function deliveryLine(delivery) {
  if (!delivery) return t("none yet");
  return [STATES[delivery.status] ?? delivery.status, " · ", ago(delivery.at), delivery.error ? h("div", { class: "small" }, delivery.error) : ""];
}

async function testBot(bot) {
  const id = freshId();
  const umo = h("input", { type: "text", id, value: `${bot.id}:FriendMessage:`, spellcheck: "false", autofocus: true });
  const textId = freshId();
  const text = h("input", { type: "text", id: textId, value: t("A test message from your server.") });
  const sent = await formDialog(t("Test {name}", { name: bot.id }), [icon("send"), t("Send")], [
    h("div", { class: "field" }, h("label", { for: id }, t("To (UMO)")), umo, h("span", { class: "hint" }, t("Bot, message type and chat. Send /sid to the bot to get the chat's UMO."))),
    h("div", { class: "field" }, h("label", { for: textId }, t("Message")), text),
  ], () => adminData("bots/test", { method: "POST", body: { umo: umo.value.trim(), message: text.value } }));
  if (sent) {
    toast(sent.status === "sent" ? t("Sent.") : t("Queued."));
    show();
  }
}

function card(bot) {
  return h("article", { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, bot.id), state(bot)),
    h("div", { class: "inset stack" },
      bot.fault ? h("p", { class: "note bad" }, bot.fault) : null,
      h("dl", { class: "kv" },
        h("dt", {}, t("Messenger")), h("dd", {}, bot.type),
        h("dt", {}, t("Answers with")), h("dd", {}, bot.config || t("the default config")),
        h("dt", {}, t("Last delivery")), h("dd", {}, deliveryLine(bot.last_delivery))),
      bot.enabled && !bot.fault ? h("div", {}, h("button", { class: "btn", type: "button", onclick: () => testBot(bot) }, icon("send"), t("Send a test message"))) : null));
}

const show = () => fill(box, async () => {
  const { bots } = await adminData("bots");
  if (!bots.length) {
    return h("section", { class: "card" }, emptyState("bot", t("No bots yet"), t("Add one to bots.toml in the data directory, with a type such as telegram and a token.")));
  }
  return h("div", { class: "grid-cards" }, bots.map(card));
});

show();
