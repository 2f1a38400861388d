// The page /chat: remove a link's key from the URL and create the element.

const KEPT = "astrbot-chat-key";
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  sessionStorage.setItem(KEPT, given);
  history.replaceState(null, "", location.pathname + location.search);
}
const chat = document.createElement("astrbot-chat");
chat.setAttribute("mode", "inline");
chat.setAttribute("linked", "");
chat.setAttribute("server", document.body.dataset.server);
const key = sessionStorage.getItem(KEPT);
if (key) chat.setAttribute("key", key);
document.querySelector("main").append(chat);
