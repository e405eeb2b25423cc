// The reference server of the conformance tests: both eras of MCP on the official TypeScript SDK, at /mcp.
//
// 2025-11-25 and older: sessions, event streams that can be taken up again. 2026-07-28: every request for itself.
// Says `{"port": N}` in one line when it listens on loopback; ends when its standard input ends.
import { randomBytes, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import {
    localhostHostValidation, localhostOriginValidation, NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest
} from '@modelcontextprotocol/node';
import {
    createMcpHandler, createRequestStateCodec, isInitializeRequest, isLegacyRequest, McpServer
} from '@modelcontextprotocol/server';
import { offer, shape, text, tool } from './content.mjs';
import { offerRounds } from './rounds.mjs';

const RETRY_MS = 500; // after which a client comes back whose stream was closed
const RECONNECT_MS = 100;
const MAX_BODY_BYTES = 4 * 1024 * 1024;

const seal = createRequestStateCodec({ key: randomBytes(32) });
const sessions = new Map(); // id -> transport

// Every event of every stream in the order it was sent; the id of an event is its place in it.
class Events {
    #sent = [];

    async storeEvent(stream, message) {
        this.#sent.push({ stream, message });
        return String(this.#sent.length - 1);
    }

    async replayEventsAfter(last, { send }) {
        const { stream } = this.#sent[Number(last)];
        for (const [index, event] of this.#sent.entries()) {
            if (index > Number(last) && event.stream === stream && Object.keys(event.message).length > 0) {
                await send(String(index), event.message);
            }
        }
        return stream;
    }
}

function build() {
    const capabilities = {
        tools: { listChanged: true },
        prompts: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        logging: {},
        completions: {}
    };
    const server = new McpServer(
        { name: 'tollgate-reference', version: '1' }, { capabilities, requestState: { verify: seal.verify } }
    );
    offer(server);
    offerRounds(server, seal);
    tool(server, 'test_reconnection', 'Closes its stream and answers when the client is back', shape(), async (_given, ctx) => {
        sessions.get(ctx.sessionId)?.closeSSEStream(ctx.mcpReq.id);
        await new Promise(resolve => setTimeout(resolve, RECONNECT_MS));
        return text('welcome back');
    });
    tool(server, 'test_trigger_tool_change', 'Says that its tools have changed', shape(), () => {
        modern.notify.toolsChanged();
        return text('said');
    });
    tool(server, 'test_trigger_prompt_change', 'Says that its prompts have changed', shape(), () => {
        modern.notify.promptsChanged();
        return text('said');
    });
    const done = async () => ({});
    server.server.setRequestHandler('resources/subscribe', done);
    server.server.setRequestHandler('resources/unsubscribe', done);
    server.server.setRequestHandler('logging/setLevel', done);
    server.server.setRequestHandler('completion/complete', async () => ({ completion: { values: [], total: 0, hasMore: false } }));
    return server;
}

const modern = createMcpHandler(build, { legacy: 'reject' });
const modernNode = toNodeHandler(modern);

async function opened() {
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: RETRY_MS,
        onsessioninitialized: id => sessions.set(id, transport)
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await build().connect(transport);
    return transport;
}

function refuse(response, status, code, message) {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code, message } }));
}

async function body(request) {
    const parts = [];
    let size = 0;
    for await (const part of request) {
        size += part.length;
        if (size > MAX_BODY_BYTES) {
            throw new RangeError('too large');
        }
        parts.push(part);
    }
    return Buffer.concat(parts).toString();
}

async function answer(request, response) {
    if (request.url !== '/mcp') {
        return refuse(response, 404, -32600, 'Nothing is here');
    }
    let message;
    if (request.method === 'POST') {
        try {
            message = JSON.parse(await body(request));
        } catch {
            return refuse(response, 400, -32700, 'Not JSON');
        }
    }
    if (!(await isLegacyRequest(await toWebRequest(request, message), message))) {
        return modernNode(request, response, message);
    }
    const id = request.headers['mcp-session-id'];
    if (id === undefined && message !== undefined && isInitializeRequest(message)) {
        return (await opened()).handleRequest(request, response, message);
    }
    if (id === undefined) {
        return refuse(response, 400, -32600, 'Mcp-Session-Id is missing');
    }
    const transport = sessions.get(id);
    return transport === undefined
        ? refuse(response, 404, -32600, 'There is no such session')
        : transport.handleRequest(request, response, message);
}

const hostIsLocal = localhostHostValidation();
const originIsLocal = localhostOriginValidation();

const http = createServer((request, response) => {
    if (!hostIsLocal(request, response) || !originIsLocal(request, response)) {
        return;
    }
    answer(request, response).catch(error => {
        console.error(error);
        if (!response.headersSent) {
            refuse(response, 500, -32603, 'Failed');
        }
    });
});
http.listen(0, 'localhost', () => console.log(JSON.stringify({ port: http.address().port })));
process.stdin.on('end', () => process.exit(0)).resume();
