// The page /chat: remove a link's key from the URL and create the element.

const KEPT = "astrbot-chat-key";
const given = new URLSearchParams(location.hash.slice(1)).get("key");
const kept = sessionStorage.getItem(KEPT);
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  // A stranger who sends a link can read what is written with its key.
  if (!kept || kept === given || confirm(document.body.dataset.question))
    sessionStorage.setItem(KEPT, given);
}
addEventListener("hashchange", () => location.reload()); // a link pasted into this tab
const chat = document.createElement("astrbot-chat");
chat.setAttribute("mode", "inline");
chat.setAttribute("linked", "");
chat.setAttribute("server", document.body.dataset.server);
const key = sessionStorage.getItem(KEPT);
if (key) chat.setAttribute("key", key);
document.querySelector("main").append(chat);
