// Runs the jobs of its input with the JavaScript client, one JSON line per job.
import { createInterface } from "node:readline";
import { Client } from "../../../clients/js/client.js";

function describe(error) {
  const { name, message, code = "", status = null, reply = null } = error;
  return { kind: name, message, code, status, reply: reply && show(reply) };
}

function show(reply) {
  return {
    session_id: reply.sessionId, run_id: reply.runId, text: reply.text, reasoning: reply.reasoning,
    message_id: reply.messageId, tool_calls: reply.toolCalls, stats: reply.stats,
    attachments: reply.attachments, waiting: reply.waiting, error: reply.error?.code ?? null,
  };
}

async function readChat(stream, job) {
  const result = { deltas: [], numbers: [], raw: [], pushed: [] };
  for await (const event of stream) {
    if (event.pushed) result.pushed.push(event.raw);
    else result.raw.push(event.raw);
    if (event.number !== null) result.numbers.push(event.number);
    if (event.type === "text" && !event.pushed) result.deltas.push(event.text);
    if (job.say_started && event.type === "text") process.stdout.write('{"started":true}\n');
    if (event.type === "text" && job.stop) await stream.stop();
    if (event.type === "text" && job.leave) {
      await stream.close();
      break;
    }
  }
  return { ...result, reply: show(stream.reply), last: stream.lastEventId };
}

const jobs = {
  chat: (client, job) => readChat(client.chat(job.message, { username: "alice", sessionId: job.session_id }), job),
  async decide(client, job) {
    const asked = [];
    const stream = client.chat(job.message, { username: "alice", configId: "careful" });
    const { decision, arguments: changed, comment } = job;
    for await (const event of stream) {
      if (event.type !== "approval_required") continue;
      asked.push([event.name, event.arguments]);
      if (job.inside) await stream.decide(event.id, decision);
    }
    if (job.inside) return [asked, show(stream.reply)];
    // The loop has ended because the run waits.
    for (const { id } of stream.reply.waiting) await stream.decide(id, decision, { arguments: changed, comment });
    return [asked, show(await stream.final())];
  },
  text: (client, job) => client.chat(job.message, { username: "alice", sessionId: job.session_id }).text(),
  async resume(client, job) {
    const left = await readChat(client.chat(job.message, { username: "alice" }), { leave: true });
    const rest = client.runs.resume(left.reply.run_id, { username: "alice", after: left.last });
    return [left, await readChat(rest, {})];
  },
  async files(client, job) {
    const seen = [];
    const bytes = new Uint8Array(job.size).map((_, at) => (at * 7) % 251);
    const kept = await client.files.upload(bytes, { filename: "a.bin", progress: (done) => seen.push(done) });
    const back = await client.files.download(kept.attachment_id);
    const got = new Uint8Array(await back.arrayBuffer());
    const same = got.length === bytes.length && got.every((one, at) => one === bytes[at]);
    return { same, last: seen.at(-1) >= job.size, filename: kept.filename };
  },
  async large(client, job) {
    const bytes = new Uint8Array(job.size).map((_, at) => (at * 7) % 251);
    const filename = "large.bin";
    let uploadId = "";
    const stop = (done) => {
      if (done >= job.stop_at) throw new Error("the program ends");
    };
    await client.files.upload(bytes, { filename, progress: stop }).catch((error) => {
      uploadId = error.uploadId;
    });
    const seen = [];
    const kept = await client.files.upload(bytes, { filename, uploadId, progress: (done) => seen.push(done) });
    const back = new Uint8Array(await (await client.files.download(kept.attachment_id)).arrayBuffer());
    const same = back.length === bytes.length && back.every((one, at) => one === bytes[at]);
    return { same, first: seen[0], last: seen.at(-1), filename: kept.filename };
  },
  async sessions(client, job) {
    const { username } = job;
    const ids = await Promise.all(
      Array.from({ length: job.count }, () => client.sessions.create({ username })),
    );
    const listed = [];
    for await (const one of client.sessions.list({ username })) listed.push(one.session_id);
    await client.chat("Hello", { username, sessionId: listed[0] }).final();
    const messages = [];
    for await (const one of client.sessions.messages(listed[0], { username })) messages.push(one.content.type);
    await client.sessions.rename(listed[0], "Title", { username });
    const { display_name } = await client.sessions.get(listed[0], { username });
    await client.sessions.delete(listed[0], { username });
    return { made: ids.length, listed: new Set(listed).size, messages, display_name };
  },
  async inbox(client, job) {
    const texts = [];
    const sent = [];
    for await (const event of client.inbox({ username: "alice" })) {
      if (event.type === "inbox_message" && event.message.content.type === "bot") {
        texts.push(event.message.content.message.map((one) => one.text ?? "").join(""));
      }
      if (texts.length === job.messages.length) return texts;
      if (sent.length === texts.length) {
        sent.push(await client.im.send(job.umo, job.messages[sent.length]));
      }
    }
    return texts;
  },
  self: (client) => client.keys.getSelf().then((data) => data.scopes.toSorted()),
};

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const client = new Client(job.url, { apiKey: job.key, retryS: job.retry_s ?? 60 });
  let answer;
  try {
    answer = { ok: await jobs[job.do](client, job) };
  } catch (error) {
    answer = { error: describe(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
