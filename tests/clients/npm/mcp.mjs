// Runs a session of MCP's client for TypeScript, version 1 or 2, unchanged. The job and its printed
// result are JSON.
const job = JSON.parse(process.argv[2]);
const { Client } = await import(job.client);
const { StreamableHTTPClientTransport } = await import(job.transport);

async function connect(key) {
  const client = new Client({ name: "test", version: "1" }, job.options);
  const url = new URL(`${job.url}/api/v1/mcp?username=alice`);
  const headers = { Authorization: `Bearer ${key}` };
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
  return client;
}

function chat(client, message, options) {
  const call = { name: "chat", arguments: { message } };
  // Version 1 has a schema as second argument.
  return job.options ? client.callTool(call, options) : client.callTool(call, undefined, options);
}

const jobs = {
  async use() {
    const client = await connect(job.key);
    const pieces = [];
    const onprogress = ({ message }) => void pieces.push(message);
    const answer = await chat(client, "DELAY=50 Hello", { onprogress });
    const { resources } = await client.listResources();
    const { contents } = await client.readResource({ uri: resources[0].uri });
    const failed = await chat(client, "FAIL=400");
    const { tools } = await client.listTools();
    await client.close();
    return {
      tools: tools.map((one) => one.name), text: answer.content[0].text, pieces: pieces.join(""),
      roles: JSON.parse(contents[0].text).messages.map((one) => one.role), failed: failed.isError,
    };
  },
  async refuse() {
    return connect("abk_wrong").then(() => null, (error) => error.message);
  },
};

console.log(JSON.stringify(await jobs[job.do]()));
process.exit(0);
