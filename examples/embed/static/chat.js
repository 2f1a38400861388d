// The shop's cookie authenticates the request, so no key is needed.
document.getElementById("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const shown = document.getElementById("answer");
  shown.textContent = "";
  const answer = await fetch("/bot/api/v1/chat", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username: document.body.dataset.user, message: event.target.message.value }),
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const frame = JSON.parse(line.slice(6));
      if (frame.type === "plain" && frame.chain_type === null) shown.textContent += frame.data;
    }
  }
});
