// The client of the conformance suite's client leg, on the official TypeScript SDK: does what the scenario named in
// MCP_CONFORMANCE_SCENARIO wants a client to do, at the address that is the last argument. What it sends is judged by
// the suite's own server at the other end. In scenarios of authorization the client gets its tokens by itself.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { authorized } from './authorized.mjs';

const MODERN = '2026-07-28';
const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === MODERN;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const address = new URL(process.argv.at(-1));

const ABLE = { capabilities: { tools: {}, resources: {}, prompts: {} }, supportedVersions: [MODERN] };

// Some of the suite's servers begin in the middle: they know no `server/discover`. It is answered here instead.
async function discovered(input, init) {
    const message = typeof init?.body === 'string' ? JSON.parse(init.body) : {};
    return message.method === 'server/discover'
        ? Response.json({ jsonrpc: '2.0', id: message.id, result: ABLE })
        : fetch(input, init);
}

async function connected({ capabilities = {}, negotiate = modern, within = undefined, answer = undefined } = {}) {
    const options = negotiate ? { capabilities, versionNegotiation: { mode: 'auto' } } : { capabilities };
    const client = new Client({ name: 'tollgate-reference-client', version: '1' }, options);
    if (answer !== undefined) {
        client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: answer }));
    }
    await client.connect(new StreamableHTTPClientTransport(address, within && { fetch: within }));
    return client;
}

async function tools(client) {
    return (await client.listTools()).tools;
}

const SCENARIOS = {
    initialize: async () => {
        const client = await connected();
        await tools(client);
        return client;
    },
    tools_call: async () => {
        const client = await connected();
        for (const { name } of await tools(client)) {
            await client.callTool({ name, arguments: { a: 5, b: 3 } });
        }
        return client;
    },
    'elicitation-sep1034-client-defaults': async () => {
        const client = await connected({ capabilities: { elicitation: { form: { applyDefaults: true } } }, answer: {} });
        for (const { name } of await tools(client)) {
            await client.callTool({ name, arguments: {} });
        }
        return client;
    },
    'sse-retry': async () => {
        const client = await connected();
        for (const { name } of await tools(client)) {
            await client.callTool({ name, arguments: {} });
        }
        return client;
    },
    'request-metadata': () =>
        connected({ capabilities: { roots: { listChanged: true }, sampling: {}, elicitation: {} }, negotiate: true }),
    'sep-2322-client-request-state': async () => {
        const able = { capabilities: { elicitation: {} }, within: discovered, answer: { confirmed: true } };
        const client = await connected(able);
        for (const name of ['echo_state', 'no_state', 'unrelated', 'no_result_type']) {
            await client.callTool({ name: `test_mrtr_${name}`, arguments: {} }).catch(error => {
                if (name !== 'no_result_type') { // which a client of this version may take for no result at all
                    throw error;
                }
            });
        }
        return client;
    },
    'http-standard-headers': async () => {
        const client = await connected({ within: discovered });
        for (const { name } of await tools(client)) {
            await client.callTool({ name, arguments: {} });
        }
        for (const { uri } of (await client.listResources()).resources) {
            await client.readResource({ uri });
        }
        for (const { name } of (await client.listPrompts()).prompts) {
            await client.getPrompt({ name, arguments: {} });
        }
        return client;
    },
    'http-custom-headers': async () => {
        const client = await connected({ within: discovered });
        await tools(client);
        for (const call of context.toolCalls) {
            await client.callTool(call);
        }
        return client;
    },
    'http-invalid-tool-headers': async () => {
        const client = await connected({ within: discovered });
        for (const { name } of await tools(client)) { // only those that the client takes for valid
            await client.callTool({ name, arguments: { region: 'us-west1' } });
        }
        return client;
    },
    'json-schema-ref-no-deref': async () => {
        const client = await connected({ negotiate: false });
        await tools(client);
        return client;
    },
    'json-schema-2020-12-preservation': async () => {
        const client = await connected();
        const { inputSchema } = (await tools(client)).find(({ name }) => name === 'json_schema_2020_12_tool');
        await client.callTool({ name: 'json_schema_echo', arguments: { schema: inputSchema } });
        return client;
    }
};

async function asked() {
    const client = await connected({ within: authorized(address, context) });
    await tools(client);
    await client.callTool({ name: 'test-tool', arguments: {} });
    return client;
}

const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const client = await (scenario.startsWith('auth/') ? asked : SCENARIOS[scenario])();
await client.close();
