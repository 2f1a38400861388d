// Runs one job with OpenAI's client or Vercel's AI SDK, unchanged. The job and its printed result
// are JSON. Words in the messages control the mock model.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const job = JSON.parse(process.argv[2]);
const baseURL = `${job.url}/api/v1/openai`;
const client = new OpenAI({ apiKey: job.key, baseURL });
const model = "default";

const CALL = 'TOOL=get_weather TOOLARGS={"city":"Oslo"}';
const place = z.object({ city: z.string() });
const parameters = {
  type: "object", properties: { city: { type: "string" } }, required: ["city"],
  additionalProperties: false,
};

async function readAll(stream) {
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  return kinds;
}

const weather = tool({
  description: "The weather of a city.", inputSchema: place,
  execute: async ({ city }) => `sunny in ${city}`,
});

async function askWithTools(languageModel, options = {}) {
  const plain = await generateText({ model: languageModel, prompt: "Hello", ...options });
  const called = await generateText({
    model: languageModel, prompt: CALL, tools: { get_weather: weather },
    stopWhen: stepCountIs(3), ...options,
  });
  const messages = [
    { role: "user", content: CALL }, ...called.response.messages,
    { role: "user", content: "ECHO again" },
  ];
  const again = await generateText({ model: languageModel, messages, ...options });
  const streamed = streamText({ model: languageModel, prompt: "THINK", ...options });
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  const parsed = await generateObject({
    model: languageModel, prompt: 'SAY={"city":"Oslo"}', schema: place, ...options,
  });
  return {
    text: plain.text, tool: called.text, steps: called.steps.length, again: again.text,
    streamed: text, reasoning: await streamed.reasoningText, finish: await streamed.finishReason,
    object: parsed.object.city,
  };
}

const jobs = {
  async completions() {
    const messages = [{ role: "user", content: "Hello" }];
    const whole = await client.chat.completions.create({ model, messages });
    const stream = client.chat.completions.stream({ model, messages });
    const runner = client.chat.completions.runTools({
      model, messages: [{ role: "user", content: CALL }],
      tools: [{
        type: "function",
        function: {
          name: "get_weather", parameters, parse: JSON.parse, function: ({ city }) => `sunny in ${city}`,
        },
      }],
    });
    return {
      text: whole.choices[0].message.content,
      streamed: (await stream.finalMessage()).content,
      tool: await runner.finalContent(),
    };
  },
  async responses() {
    const first = await client.responses.create({ model, input: "Hello" });
    const next = await client.responses.create({
      model, input: "ECHO again", previous_response_id: first.id,
    });
    const parsed = await client.responses.parse({
      model, input: 'SAY={"city":"Oslo"}', text: { format: zodTextFormat(place, "place") },
    });
    const stream = client.responses.stream({ model, input: "THINK" });
    const kinds = await readAll(stream);
    const tools = [{ type: "function", name: "get_weather", parameters, strict: true }];
    const called = await client.responses.create({ model, input: CALL, tools });
    const call = called.output.find((one) => one.type === "function_call");
    const output = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    const answered = await client.responses.create({
      model, input: [output], tools, previous_response_id: called.id,
    });
    return {
      text: first.output_text, next: next.output_text, city: parsed.output_parsed.city, kinds,
      final: (await stream.finalResponse()).output_text, tool: answered.output_text,
    };
  },
  async background() {
    const begun = await client.responses.create({
      model, input: "N=8 DELAY=50", background: true, stream: true,
    });
    let id, last;
    for await (const event of begun) {
      id ??= event.response?.id;
      last = event.sequence_number;
      if (event.type === "response.output_text.delta") break;
    }
    const rest = await client.responses.retrieve(id, { stream: true, starting_after: last });
    let text = "", ended;
    for await (const event of rest) {
      if (event.sequence_number !== ++last) throw new Error(`a gap before ${last}`);
      if (event.type === "response.output_text.done") text = event.text;
      ended = event.type;
    }
    return { text, ended, again: (await client.responses.retrieve(id)).output_text };
  },
  async conversations() {
    const made = await client.conversations.create({ metadata: { topic: "demo" } });
    await client.responses.create({ model, input: "Hello", conversation: made.id });
    const items = [];
    for await (const item of client.conversations.items.list(made.id, { limit: 1, order: "asc" })) {
      items.push(`${item.role}: ${item.content[0].text}`);
    }
    await client.conversations.delete(made.id);
    return { items };
  },
  async fails() {
    try {
      await client.responses.create({ model, input: `FAIL=401` });
    } catch (error) {
      return { name: error.constructor.name, status: error.status, code: error.code };
    }
  },
  // Chat completions instead of Responses.
  async aisdkChat() {
    const languageModel = createOpenAI({ apiKey: job.key, baseURL }).chat("default");
    const called = streamText({ model: languageModel, prompt: CALL, tools: { get_weather: weather } });
    return readAll(called.fullStream);
  },

  async aisdk() {
    // The provider's default model uses Responses.
    return askWithTools(createOpenAI({ apiKey: job.key, baseURL })("default"));
  },
  async aisdkUnstored() {
    const openai = createOpenAI({ apiKey: job.key, baseURL });
    return askWithTools(openai("default"), { providerOptions: { openai: { store: false } } });
  },
  async aisdkCompatible() {
    const provider = createOpenAICompatible({
      name: "astrbot", apiKey: job.key, baseURL, supportsStructuredOutputs: true,
    });
    return askWithTools(provider("default"));
  },
};

console.log(JSON.stringify(await jobs[job.do]()));
