// Descriptions of the scopes.

import { t } from "./dom.js";

export const SCOPES = [
  { name: "chat", title: t("Chat"), text: t("Talk to the agent, and read, rename and delete the conversations of the usernames it names.") },
  { name: "file", title: t("Files"), text: t("Upload files for messages, and download them.") },
  { name: "config", title: t("Configs"), text: t("List the agents that a conversation can choose.") },
  { name: "im", title: t("Messengers"), text: t("Send messages through the bots, and list them.") },
  { name: "chat:admin", title: t("Reserved usernames"), text: t("Also use the reserved usernames. Few programs need this."), rare: true },
];

export const scopeTitle = (name) => SCOPES.find((scope) => scope.name === name)?.title ?? name;
