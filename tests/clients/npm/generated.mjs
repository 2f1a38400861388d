// Calls a server with clients generated from its document, and prints the results.
import { createRequire } from "node:module";
import createClient from "openapi-fetch";

const { url, key, folder } = JSON.parse(process.argv[2]);
const headers = { "X-API-Key": key };
const done = {};

const fetching = createClient({ baseUrl: url, headers });
const body = { username: "alice", message: "Hello", response_mode: "blocking" };
const chat = await fetching.POST("/api/v1/chat", { body });
done.fetchChat = chat.data.data.message;
const listed = await fetching.GET("/api/v1/chat/sessions", { params: { query: { username: "alice" } } });
done.fetchSessions = listed.data.data.sessions.length;

const require = createRequire(import.meta.url);
const sdk = require(`${folder}/sdk.gen.js`);
const { client } = require(`${folder}/client.gen.js`);
client.setConfig({ baseUrl: url, headers });
const uploaded = await sdk.uploadOpenApiFile({ body: { file: new File(["Hello"], "a.txt") } });
const query = { attachment_id: uploaded.data.data.attachment_id };
const file = await sdk.downloadOpenApiFile({ query, parseAs: "text" });
done.file = file.data;

// A background turn with its stream.
const begun = await sdk.sendChatMessage({ body: { ...body, response_mode: "background" } });
const path = { run_id: begun.data.data.run_id };
const { stream } = await sdk.resumeChatRun({ path, query: { username: "alice" } });
const events = [];
for await (const event of stream) events.push(event);
done.types = events.map((one) => one.type);
done.text = events.filter((one) => one.type === "plain").map((one) => one.data).join("");

console.log(JSON.stringify(done));
process.exit(0);
