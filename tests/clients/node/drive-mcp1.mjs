// The official TypeScript MCP SDK 1.x, unmodified: a session from `initialize` to its end, one denied call in between.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { scenario } from './mcp-scenario.mjs';
import { given, Transcript } from './transcript.mjs';

const asked = given();
const seen = new Transcript();
const client = new Client({ name: 'drive', version: '1' });
const headers = { Authorization: `Bearer ${asked.credential}` };
const transport = new StreamableHTTPClientTransport(new URL(asked.url), { requestInit: { headers } });
await client.connect(transport);
await scenario(client, seen, (args, options) => client.callTool(args, undefined, options));
await seen.step('end', () => transport.terminateSession());
await client.close();
seen.print();
