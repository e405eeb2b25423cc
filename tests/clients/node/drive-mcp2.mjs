// The official TypeScript MCP client 2.x, unmodified, in the era that `mode` names: "legacy", "auto" or a version.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { scenario } from './mcp-scenario.mjs';
import { given, Transcript } from './transcript.mjs';

const asked = given();
const seen = new Transcript();
const mode = ['legacy', 'auto'].includes(asked.mode) ? asked.mode : { pin: asked.mode };
const client = new Client({ name: 'drive', version: '1' }, { versionNegotiation: { mode } });
const headers = { Authorization: `Bearer ${asked.credential}` };
const transport = new StreamableHTTPClientTransport(new URL(asked.url), { requestInit: { headers } });
await client.connect(transport);
await scenario(client, seen, (args, options) => client.callTool(args, options));
await client.close();
seen.print();
