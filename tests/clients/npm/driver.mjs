// Runs one job with an official client. The job and its printed result are JSON.
import { HttpAgent } from "@ag-ui/client";

const job = JSON.parse(process.argv[2]);
const {
  AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls, readUIMessageStream,
} = await import(job.ai ?? "ai");
const headers = { Authorization: `Bearer ${job.key}` };

// The parts of useChat without React's state.
class Chat extends AbstractChat {
  constructor(options) {
    const state = {
      status: "ready", error: undefined, messages: options.messages ?? [],
      pushMessage: (one) => (state.messages = [...state.messages, one]),
      popMessage: () => (state.messages = state.messages.slice(0, -1)),
      replaceMessage: (at, one) => (state.messages = state.messages.with(at, structuredClone(one))),
      snapshot: structuredClone,
    };
    super({ ...options, state });
  }
}

function makeChat(id, options = {}) {
  const api = `${job.url}/api/v1/aisdk`;
  const transport = new DefaultChatTransport({ api, headers, body: options.body });
  return new Chat({ id, transport, ...options });
}

const show = (chat) => chat.messages.map(({ role, parts }) => ({ role, parts }));

const jobs = {
  async chat() {
    const chat = makeChat(`js-chat-${job.ai}`, { body: { username: "alice" } });
    await chat.sendMessage({ text: "THINK Hello" });
    await chat.sendMessage({ text: "ECHO again" });
    await chat.regenerate();
    return { messages: show(chat), status: chat.status };
  },
  async tools() {
    let chat;
    chat = makeChat(`js-tools-${job.ai}`, {
      body: { tools: { get_weather: { description: "Weather.", parameters: { type: "object" } } } },
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall({ toolCall }) {
        chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: "sunny" });
      },
    });
    await chat.sendMessage({ text: 'TOOL=get_weather TOOLARGS={"city":"Oslo"}' });
    while (chat.status !== "ready" || !chat.lastMessage.parts.some((one) => one.type === "text")) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { messages: show(chat), ids: new Set(chat.messages.map((one) => one.id)).size };
  },
  async approve() {
    const chat = makeChat("js-approve", {
      body: { config: "careful", approvals: true },
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    const texts = () => chat.messages.flatMap((one) => one.parts).filter((one) => one.type === "text").length;
    const call = () => chat.lastMessage.parts.findLast((one) => one.type === "dynamic-tool");
    const states = [];
    for (const [at, approved] of [true, false].entries()) {
      const before = texts();
      await chat.sendMessage({ text: `TOOL=calculate TOOLARGS={"expression":"6*${7 + at}"}` });
      states.push(call().state);
      await chat.addToolApprovalResponse({ id: call().approval.id, approved, reason: "dear" });
      while (chat.status !== "ready" || texts() < before + 2) {
        if (chat.error) throw chat.error;
        await new Promise((resolve) => setImmediate(resolve));
      }
      states.push(call().state);
    }
    return { states, messages: show(chat) };
  },
  async resume() {
    const transport = new DefaultChatTransport({ api: `${job.url}/api/v1/aisdk`, headers });
    const messages = [{ id: "m1", role: "user", parts: [{ type: "text", text: "DELAY=100 N=15" }] }];
    const stopping = new AbortController();
    const stream = await transport.sendMessages({
      trigger: "submit-message", chatId: `js-resume-${job.ai}`, messages, abortSignal: stopping.signal,
    });
    const reader = stream.getReader();
    while ((await reader.read()).value.type !== "text-delta");
    await reader.cancel();
    const rest = await transport.reconnectToStream({ chatId: `js-resume-${job.ai}` });
    let last;
    for await (const message of readUIMessageStream({ stream: rest })) last = message;
    const after = await transport.reconnectToStream({ chatId: `js-resume-${job.ai}` });
    return { text: last.parts.map((one) => one.text ?? "").join(""), after };
  },
  async fail() {
    const errors = [];
    const chat = makeChat(`js-fail-${job.ai}`, { onError: (error) => errors.push(error.message) });
    await chat.sendMessage({ text: "FAIL=400" });
    return { errors, status: chat.status };
  },
};

function makeAgent(threadId, messages = []) {
  return new HttpAgent({
    url: `${job.url}/api/v1/agui`, headers, threadId,
    initialMessages: messages, initialState: { cart: [] },
  });
}

const ask = (content) => ({ id: crypto.randomUUID(), role: "user", content });

jobs.run = async () => {
  const agent = makeAgent("agui-chat");
  const types = [];
  const subscriber = { onEvent: ({ event }) => void types.push(event.type) };
  agent.addMessage(ask("THINK Hello"));
  await agent.runAgent({ forwardedProps: { username: "alice" } }, subscriber);
  agent.addMessage(ask("ECHO again"));
  const { newMessages } = await agent.runAgent({ forwardedProps: { username: "alice" } });
  return { types, messages: agent.messages, newMessages, state: agent.state };
};

jobs.runTools = async () => {
  const agent = makeAgent("agui-tools");
  const tools = [{ name: "get_weather", description: "Weather.", parameters: { type: "object" } }];
  agent.addMessage(ask('TOOL=get_weather TOOLARGS={"city":"Oslo"}'));
  await agent.runAgent({ tools });
  const [call] = agent.messages.at(-1).toolCalls;
  agent.addMessage({ id: "r1", role: "tool", toolCallId: call.id, content: "sunny" });
  await agent.runAgent({ tools });
  return { messages: agent.messages };
};

jobs.runServerTools = async () => {
  const agent = makeAgent("agui-server-tools");
  agent.addMessage(ask('TOOL=calculate TOOLARGS={"expression":"6*7"}'));
  await agent.runAgent();
  return { messages: agent.messages };
};

jobs.runApproval = async () => {
  const agent = makeAgent(`agui-approval-${JSON.stringify(job.payload).length}`);
  const forwardedProps = { config: "careful" };
  agent.addMessage(ask('TOOL=calculate TOOLARGS={"expression":"6*7"}'));
  await agent.runAgent({ forwardedProps });
  const [interrupt] = agent.pendingInterrupts;
  const resume = [{ interruptId: interrupt.id, status: "resolved", payload: job.payload }];
  await agent.runAgent({ forwardedProps, resume });
  return { interrupt, left: agent.pendingInterrupts, messages: agent.messages };
};

jobs.runFails = async () => {
  const agent = makeAgent("agui-fail");
  agent.addMessage(ask("FAIL=400"));
  const events = [];
  const subscriber = { onRunErrorEvent: ({ event }) => void events.push(event) };
  const failed = await agent.runAgent({}, subscriber).then(() => null, (error) => error.message);
  return { events, failed };
};

console.log(JSON.stringify(await jobs[job.do]()));
process.exit(0);
