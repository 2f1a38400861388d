// A page with useChat that sends, stops, and resumes after a reload, like an application.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const { api, key, id } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const headers = { Authorization: `Bearer ${key}` };
const transport = new DefaultChatTransport({ api: `${api}/aisdk`, headers });

function Chat() {
  const { messages, sendMessage, status, stop, error } = useChat({ id, transport, resume: true });
  const [text, setText] = useState("");
  const send = (event) => {
    event.preventDefault();
    sendMessage({ text });
  };
  const halt = async () => {
    await stop(); // leaves the stream; the turn is stopped with its session
    await fetch(`${api}/chat/sessions/${id}/stop`, { method: "POST", headers });
  };
  return (
    <form onSubmit={send}>
      <ol>
        {messages.map(({ id: key, role, parts }) => (
          <li key={key} className={role}>
            {parts.map((one, at) => one.type === "text" && <span key={at}>{one.text}</span>)}
          </li>
        ))}
      </ol>
      <output>{status}</output>
      <p role="alert">{error?.message}</p>
      <input value={text} onChange={(event) => setText(event.target.value)} />
      <button>Send</button>
      <button type="button" onClick={halt}>Stop</button>
    </form>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
